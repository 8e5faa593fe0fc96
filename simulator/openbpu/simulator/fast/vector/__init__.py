"""Hand-written vector IR:

what an auto-vectoriser cannot find. Built with llvmlite, one module per kernel mode.
"""
