"""Bytes move, values do not change: Move, Pad, Concat, Gather."""
