"""Emitters by family; importing the package registers them all."""

from witness.emit import activation, elementwise, linear, movement, normalization, spatial
from witness.emit.registry import EMITTERS, MIN_OPSET

__all__ = [
    "EMITTERS",
    "MIN_OPSET",
    "activation",
    "elementwise",
    "linear",
    "movement",
    "normalization",
    "spatial",
]
