"""Tiling: tile shapes, loop orders and fusion groups, and what they cost by the timing rules."""
