"""The problem: an operator as tile loops, and how every axis of every operand follows them."""
