"""Hand-written vector IR: what no auto-vectoriser finds. Built with llvmlite, a module per kernel mode."""
