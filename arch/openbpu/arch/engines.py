"""The engines of a core."""

from __future__ import annotations

from enum import IntEnum


class Engine(IntEnum):
    """The engines of a core. Each has one in-order queue; its count of completions is the token."""

    LOAD = 0
    STORE = 1
    TAE = 2
    AAE = 3
    VAE = 4
    VPU = 5
    SPU = 6
    TRANS = 7


ENGINES = len(Engine)
