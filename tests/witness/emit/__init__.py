"""Emitters by family; importing the package registers them all."""

from witness.emit import activation, elementwise, linear, movement, normalization, spatial
from witness.emit.registry import EMITTERS, LATER, MIN_OPSET

__all__ = [
    "EMITTERS",
    "LATER",
    "MIN_OPSET",
    "activation",
    "elementwise",
    "linear",
    "movement",
    "normalization",
    "spatial",
]
