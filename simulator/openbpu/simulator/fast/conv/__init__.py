"""Convolutions: which way suits a layer, and the usual one, matrix products over an indirection."""
