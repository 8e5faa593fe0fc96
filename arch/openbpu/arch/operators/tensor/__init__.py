"""The tensor engine: convolutions and matrix products."""
