"""How a tensor is to be quantized, as a value: bits, axis, range, calibration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import must

_LOG = logging.getLogger(__name__)
_WHERE = "QuantDescriptor"

CALIB_METHODS = ("max", "histogram")

Axis = int | tuple[int, ...] | None


class ScaledQuantDescriptor:
    """What a quantizer does to a tensor; every argument is a read-only property.

    num_bits: width of the integers, 8 unless given; 0 quantizes everything to zero, for debugging.
    name: a label for people. fake_quant: quantize and dequantize (True) or return integers.
    axis: the axes that keep a range of their own, None for one range per tensor.
    amax: the largest magnitude, a float, a list or an ndarray; given, it is used and `axis` is ignored.
    learn_amax: make the range a parameter; only per tensor. scale_amax: a factor on the range.
    calib_method: "max" or "histogram". unsigned: integers from 0. narrow_range: leave out the most negative.

    Raises TypeError for an argument of the wrong type or an unknown one, ValueError for a wrong value.
    """

    def __init__(  # noqa: PLR0913 - the documented signature
        self,
        num_bits: int = 8,
        name: str | None = None,
        *,
        fake_quant: bool = True,
        axis: int | Sequence[int] | None = None,
        amax: float | list[Any] | npt.NDArray[Any] | None = None,
        learn_amax: bool = False,
        scale_amax: float | None = None,
        calib_method: str = "max",
        unsigned: bool = False,
        narrow_range: bool = False,
        **unknown: Any,
    ) -> None:
        _refuse_unknown(unknown)
        self._num_bits = _checked_bits(num_bits)
        if name is not None and not isinstance(name, str):
            raise TypeError(must(_WHERE, "name", "a string or None", type(name)))
        self._name = name
        self._axis = _checked_axis(axis)
        if learn_amax and self._axis is not None:
            fix = "a learned range is one number per tensor"
            raise TypeError(must(_WHERE, "axis", "None when learn_amax is true", repr(axis), fix))
        self._amax = _checked_amax(amax)
        if calib_method not in CALIB_METHODS:
            raise ValueError(must(_WHERE, "calib_method", " or ".join(CALIB_METHODS), repr(calib_method)))
        self._calib_method = calib_method
        self._scale_amax = scale_amax
        self._fake_quant = bool(fake_quant)
        self._learn_amax = bool(learn_amax)
        self._unsigned = bool(unsigned)
        self._narrow_range = bool(narrow_range)

    @property
    def num_bits(self) -> int:
        """Width of the integers in bits."""
        return self._num_bits

    @property
    def name(self) -> str | None:
        """A label for people."""
        return self._name

    @property
    def fake_quant(self) -> bool:
        """Whether the result is dequantized again."""
        return self._fake_quant

    @property
    def axis(self) -> Axis:
        """The axes with a range of their own."""
        return self._axis

    @property
    def amax(self) -> npt.NDArray[np.float32] | None:
        """The range given by the user, float32, as a copy; None when it is to be found."""
        return None if self._amax is None else self._amax.copy()

    @property
    def learn_amax(self) -> bool:
        """Whether the range is trained."""
        return self._learn_amax

    @property
    def scale_amax(self) -> float | None:
        """The factor on the range."""
        return self._scale_amax

    @property
    def calib_method(self) -> str:
        """How the range is found: "max" or "histogram"."""
        return self._calib_method

    @property
    def unsigned(self) -> bool:
        """Whether the integers start at 0."""
        return self._unsigned

    @property
    def narrow_range(self) -> bool:
        """Whether the most negative integer is left out."""
        return self._narrow_range

    def dict(self) -> dict[str, Any]:
        """Return the arguments that differ from the defaults, ready for `QuantDescriptor(**…)`."""
        plain = {key: getattr(self, key) for key in _ARGUMENTS}
        if plain["amax"] is not None:
            plain["amax"] = plain["amax"].tolist()
        return {key: value for key, value in plain.items() if value != _ARGUMENTS[key]}

    def __repr__(self) -> str:
        stated = {"num_bits": self.num_bits, **self.dict()}
        return f"QuantDescriptor({', '.join(f'{k}={v!r}' for k, v in stated.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScaledQuantDescriptor) and self.dict() == other.dict()

    def __hash__(self) -> int:
        return hash(repr(self))


_ARGUMENTS: dict[str, Any] = {
    "num_bits": 8,
    "name": None,
    "fake_quant": True,
    "axis": None,
    "amax": None,
    "learn_amax": False,
    "scale_amax": None,
    "calib_method": "max",
    "unsigned": False,
    "narrow_range": False,
}


def _refuse_unknown(unknown: dict[str, Any]) -> None:
    if unknown:
        raise TypeError(must(_WHERE, "every keyword", "one of " + ", ".join(_ARGUMENTS), ", ".join(unknown)))


def _checked_bits(num_bits: Any) -> int:
    if not isinstance(num_bits, int) or isinstance(num_bits, bool):
        raise TypeError(must(_WHERE, "num_bits", "an integer", type(num_bits)))
    if num_bits < 0:
        raise ValueError(must(_WHERE, "num_bits", ">= 0", num_bits))
    if num_bits == 0:
        _LOG.error("num_bits is 0: every value becomes zero; this is for debugging only")
    return num_bits


def _checked_axis(axis: Any) -> Axis:
    if axis is None or (isinstance(axis, int) and not isinstance(axis, bool)):
        return axis
    if isinstance(axis, tuple | list) and all(isinstance(a, int) for a in axis):
        return tuple(axis)
    raise TypeError(must(_WHERE, "axis", "None, an integer or a tuple of integers", repr(axis)))


def _checked_amax(amax: Any) -> npt.NDArray[np.float32] | None:
    if amax is None:
        return None
    if not isinstance(amax, float | list | np.ndarray):
        raise TypeError(must(_WHERE, "amax", "a float, a list or an ndarray", type(amax)))
    return np.array(amax, dtype=np.float32)


QuantDescriptor = ScaledQuantDescriptor

QUANT_DESC_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8)
QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8, unsigned=True)
QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
