"""Depthwise convolutions: one input channel per output channel."""
