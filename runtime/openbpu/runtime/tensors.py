"""The inputs and outputs of a program, and the checks that an input must pass before anything runs."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.program import Program, Tensor


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: what a user must give or gets. Dense row-major; `strides` and sizes are in bytes.

    A quantized tensor is (q − zero_point) · scale; `scale` is () for one that is not quantized, and has one
    entry per element of `axis` where there are several. `aligned_bytes` is what the march allocates for it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    scale: tuple[float, ...]
    zero_point: int
    axis: int
    strides: tuple[int, ...]
    nbytes: int
    aligned_bytes: int

    @property
    def quanti_type(self) -> str:
        """The vendor's word: "SCALE" for a quantized tensor, "NONE" for any other."""
        return "SCALE" if self.scale else "NONE"


def tensor_info(t: Tensor, alignment: int) -> TensorInfo:
    """Return what a user sees of a tensor; `alignment` is the march's smallest allocation in bytes."""
    width = 0 if t.dtype is DType.OTHER else t.dtype.nbytes
    steps = itertools.accumulate(reversed(t.shape[1:]), lambda a, b: a * max(b, 1), initial=width)
    strides = tuple(reversed(list(steps))) if t.shape else ()
    nbytes = math.prod(t.shape) * width
    aligned = -(-nbytes // alignment) * alignment
    return TensorInfo(t.name, t.shape, t.dtype, t.scale, t.zero_point, t.axis, strides, nbytes, aligned)


def check_inputs(program: Program, given: Mapping[str, Any], *, finite: bool = True) -> dict[int, Array]:
    """Return the arrays by tensor id, C-contiguous; raises InputError for the first thing that is wrong.

    `finite`: refuse NaN and infinity in float inputs. Nothing is cast or reshaped: a silent cast hides a
    mistake in pre-processing.
    """
    kind: Any = type(given)
    if not issubclass(kind, Mapping):
        fix = 'call run({"name": array})'
        raise InputError(must("inputs", "the argument", "a dict of arrays by name", kind.__name__, fix))
    wanted = {program.tensors[i].name: i for i in program.inputs}
    check_names(list(given), list(wanted))
    return {i: _check_array(program.tensors[i], given[name], finite=finite) for name, i in wanted.items()}


def check_names(given: list[str], wanted: list[str]) -> None:
    """Raise InputError for a name that is no input, or an input that is missing."""
    allowed = ", ".join(f"'{name}'" for name in wanted) or "none: the model has no inputs"
    for name in given:
        if name not in wanted:
            close = difflib.get_close_matches(str(name), wanted, n=1, cutoff=0.5)
            fix = f"did you mean '{close[0]}'?" if close else ""
            raise InputError(must("inputs", "a name", f"one of {allowed}", f"'{name}'", fix))
    missing = [f"'{name}'" for name in wanted if name not in given]
    if missing:
        raise InputError(f"inputs: {_listed(missing)} missing; the model's inputs are {allowed}")


def _listed(names: Iterable[str]) -> str:
    items = list(names)
    return f"{', '.join(items)} {'is' if len(items) == 1 else 'are'}"


def _check_array(t: Tensor, value: Any, *, finite: bool) -> Any:
    where = f"input '{t.name}'"
    if t.dtype is DType.OTHER:
        return value  # strings, sequences: ONNX Runtime alone knows what it takes
    try:
        x = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(must(where, "the value", "an array", f"{type(value).__name__} ({error})")) from error
    expected = t.dtype.numpy
    if x.dtype != expected:
        raise InputError(must(where, "dtype", expected.name, x.dtype, _cast(t, x)))
    if x.shape != t.shape:
        raise InputError(must(where, "shape", shown_shape(t.shape), shown_shape(x.shape), _reshape(t, x)))
    if finite and expected.kind == "f":
        check_finite(where, x)
    return x if x.flags.c_contiguous else np.array(x, order="C")


def _cast(t: Tensor, x: Array) -> str:
    if t.dtype.is_quantized and t.scale and x.dtype.kind == "f":
        step = (
            f"scale {t.scale[0]:.9g}" if len(t.scale) == 1 else f"{len(t.scale)} scales along axis {t.axis}"
        )
        given = f"{step}, zero point {t.zero_point}"
        how = f"clip(rint(x / scale) + zero point, {t.dtype.qmin}, {t.dtype.qmax}) as {t.dtype.numpy.name}"
        return f"this input takes integers: quantize it first ({given}): {how}; `openbpu info` shows both"
    if x.dtype.kind in "fiub":
        return f"cast it: x.astype(np.{t.dtype.numpy.name})"
    return f"give a numeric array of {t.dtype.numpy.name}"


def _reshape(t: Tensor, x: Array) -> str:
    if x.size == math.prod(t.shape) and x.size:
        return "the number of elements fits: reshape or transpose it"
    if x.shape == t.shape[1:]:
        return "add the batch axis: x[np.newaxis]"
    return ""


def shown_shape(shape: tuple[int, ...]) -> str:
    """Return (1, 3, 224, 224) as "1×3×224×224"."""
    return "×".join(map(str, shape)) if shape else "() (a scalar)"


def check_finite(where: str, x: Array) -> None:
    """Raise InputError, with count and first place, when a float array holds NaN or infinity."""
    _refuse(where, x, ~np.isfinite(x))


def check_no_nan(where: str, x: Array) -> None:
    """Raise InputError when a float array holds NaN: it has no integer. (Infinity has one: it saturates.)"""
    if x.dtype.kind == "f":
        _refuse(where, x, np.isnan(x))


def _refuse(where: str, x: Array, bad: Array) -> None:
    if not bad.any():
        return
    first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), x.shape))
    nans = np.isnan(x[bad])
    what = "NaN" if nans.all() else "NaN and infinity" if nans.any() else "infinity"
    place = f" at {list(first)}" if first else ""
    actual = f"{what} ({int(bad.sum())} of {x.size} elements, the first{place})"
    fix = "repair the data before it gets here"
    if what == "infinity":
        fix += "; where it is meant, `Session.run(…, finite=False)` takes it, and it saturates"
    raise InputError(must(where, "every value", "finite", actual, fix))
