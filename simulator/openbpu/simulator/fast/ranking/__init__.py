"""The first elements along an axis."""
