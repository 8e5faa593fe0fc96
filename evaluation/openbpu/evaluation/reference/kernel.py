"""What a kernel of the witness is: a numpy function from one ONNX call to its result in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

TIE = 1e-5
"""Two roundings of one real number may differ where it lies this close (in steps) to a tie."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """The result of one rounding: ``clip(rint(scaled) + zero_point)``, with what it was before.

    ``scaled`` is x/s in float64, ``zero_point`` broadcasts against it, ``dtype`` and
    ``[qmin, qmax]`` say what it was rounded to. ``known``: ``scaled`` is the float32 quotient of
    a float32 tensor, so there is one right integer.
    """

    scaled: Array
    zero_point: Array
    dtype: np.dtype[Any]
    qmin: int
    qmax: int
    known: bool = False

    def _clip(self, rounded: Array) -> Array:
        return np.asarray(np.clip(rounded + self.zero_point, self.qmin, self.qmax))

    @property
    def values(self) -> Array:
        """The integers: round half to even, add the zero point, saturate."""
        return np.asarray(self._clip(np.rint(self.scaled)).astype(self.dtype))

    @property
    def real(self) -> Array:
        """What the integers stand for before rounding, saturated: |real - values| <= 0.5."""
        return self._clip(self.scaled)

    @property
    def near_tie(self) -> Array:
        """Where a rounding error of 1e-5 step (or 2**-30 of the value) gives another integer."""
        margin = np.abs(self.scaled - (np.floor(self.scaled) + 0.5))
        allowed = np.maximum(TIE, np.abs(self.scaled) * 2.0**-30)
        below = self._clip(np.floor(self.scaled))
        above = self._clip(np.floor(self.scaled) + 1)
        return np.asarray((margin <= allowed) & (below != above) & (not self.known))

    @property
    def flipped(self) -> Array:
        """The integers with every near tie resolved the other way."""
        floor = self._clip(np.floor(self.scaled))
        above = self._clip(np.floor(self.scaled) + 1)
        nominal = self._clip(np.rint(self.scaled))
        other = floor + above - nominal
        return np.where(self.near_tie, other, nominal).astype(self.dtype)


@dataclass(frozen=True, slots=True)
class Call:
    """One node with the values of its inputs; absent optional inputs are None."""

    op: str
    attrs: Mapping[str, Any]
    inputs: tuple[Array | None, ...]
    opset: int
    n_outputs: int

    def __getitem__(self, index: int) -> Array:
        value = self.get(index)
        if value is None:
            raise ValueError(f"{self.op}: input {index} must be given, not absent")
        return value

    def get(self, index: int) -> Array | None:
        """The input, or None where the node leaves it out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute, or the default of the specification."""
        return self.attrs.get(name, default)

    def real(self, name: str, default: float) -> float:
        """A float attribute: float32 in the file and in the specification's defaults."""
        return float(np.float32(self.attrs.get(name, default)))

    def ints(self, index: int, name: str) -> list[int] | None:
        """A list that older opsets hold as an attribute and newer ones as an input."""
        value = self.get(index)
        if value is not None:
            return [int(v) for v in value.reshape(-1)]
        found = self.attrs.get(name)
        if found is None:
            return None
        return [int(v) for v in np.atleast_1d(found)]


Result: TypeAlias = "Array | Quantized | tuple[Array | Quantized, ...]"
Kernel: TypeAlias = Callable[[Call], Result]

KERNELS: dict[str, Kernel] = {}
"""``op_type``, or ``domain.op_type`` outside the default domain, to kernel."""


def kernel(*names: str) -> Callable[[Kernel], Kernel]:
    """Register the function as the kernel of these operators."""

    def register(function: Kernel) -> Kernel:
        for name in names:
            if name in KERNELS:
                raise ValueError(f"witness: {name} must have one kernel, not two")
            KERNELS[name] = function
        return function

    return register


def as_float64(value: Array) -> Array:
    """Every float becomes float64; integers and booleans stay what they are."""
    kept = value.dtype.kind in "iubUSO" or value.dtype.name in ("int4", "uint4", "int2", "uint2")
    return value if kept else value.astype(np.float64)


def held(value: Array) -> Array:
    """As a float32 tensor holds it: that decides on which side of a jump, or of a domain's end, a value is.

    Integers and booleans stay what they are.
    """
    return value.astype(np.float32).astype(np.float64) if value.dtype.kind == "f" else value
