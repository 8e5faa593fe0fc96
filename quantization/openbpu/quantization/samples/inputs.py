"""What a reader of samples must know of a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a model. A dimension is a size, a symbol, or None; the shape is None if the rank is open.

    scale, zero_point: of an input that takes quantized codes, (q − zero_point) · scale; scale is None for any
    other.
    """

    name: str
    shape: Shape | None
    dtype: np.dtype[Any]
    scale: float | None = None
    zero_point: int = 0

    @property
    def batch(self) -> int:
        """How many samples one run takes: the first size, 1 where it is open."""
        first = self.shape[0] if self.shape else 1
        return first if isinstance(first, int) and first > 0 else 1

    def could_take(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is one run, or several stacked, as far as its sizes tell."""
        if self.shape is None or not self.shape:
            return len(shape) <= 1 or self.shape is None
        inner = self.shape[1:]
        sizes = shape[len(shape) - len(inner) :] if len(shape) >= len(inner) else None
        if sizes is None or len(shape) > len(self.shape) + 1:
            return False
        return all(not isinstance(d, int) or d == n for n, d in zip(sizes, inner, strict=True))

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is one run."""
        known = self.shape
        return known is None or (
            len(shape) == len(known)
            and all(not isinstance(d, int) or d == n for n, d in zip(shape, known, strict=True))
        )

    @property
    def shown(self) -> str:
        """The shape as messages write it."""
        return (
            "?" if self.shape is None else f"({', '.join('?' if d is None else str(d) for d in self.shape)})"
        )
