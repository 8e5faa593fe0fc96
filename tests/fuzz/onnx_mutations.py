"""What is done to an ONNX model, by kind."""

from __future__ import annotations

import random


def mutated_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """A stub for now."""
    b = bytearray(data)
    if b:
        b[rng.randrange(len(b))] ^= rng.randrange(1, 256)
    return bytes(b), "bytes"
