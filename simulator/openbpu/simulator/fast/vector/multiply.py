"""Products of pairs of int16, or of four bytes, added to int32: the heart of the micro-kernels."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.vector.types import I16, I32, external, shuffle, vec


def multiplier(module: Any, mode: str, *, words: bool) -> Any:
    """Return build(builder, acc, a, b) for one register."""
    lanes = 16 if mode == "vnni512" else 8
    kind = vec(I32, lanes)
    if mode != "portable":
        name = "vpdpwssd" if words else "vpdpbusd"
        dot = external(module, f"llvm.x86.avx512.{name}.{lanes * 32}", kind, [kind, kind, kind])
        return lambda builder, acc, a, b: builder.call(dot, [acc, a, b])

    def pairs(builder: Any, acc: Any, a: Any, b: Any) -> Any:
        # LLVM finds pmaddwd in this, and its like on other machines.
        half, whole = vec(I16, 2 * lanes), vec(I32, 2 * lanes)
        product = builder.mul(
            builder.sext(builder.bitcast(a, half), whole), builder.sext(builder.bitcast(b, half), whole)
        )
        even = shuffle(builder, product, product, list(range(0, 2 * lanes, 2)))
        odd = shuffle(builder, product, product, list(range(1, 2 * lanes, 2)))
        return builder.add(acc, builder.add(even, odd))

    return pairs
