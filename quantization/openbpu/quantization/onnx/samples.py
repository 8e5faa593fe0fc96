"""Calibration data, in memory or as `openbpu.quantization.samples` reads it, to one feed per sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ValueInfoProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.quantization.onnx.inference import shape_of
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.load import ModelLike, read_ends
from openbpu.quantization.onnx.net import Shape
from openbpu.quantization.samples import IMAGES, Changes, Input, Pixels, read_numpy, read_samples, split

Feed = dict[str, Array]
Calibration = Mapping[str, Array] | Mapping[str, Sequence[Array]] | Iterable[Mapping[str, Array]]

_HINT = "pass an .npz with one array per input (first axis: samples), or a folder of .npy files or images"


def feeds_of(
    calibration: Calibration, inputs: Sequence[ValueInfoProto], infinite: Collection[str] = ()
) -> list[Feed]:
    """Return the samples as feeds of a model with these `inputs`.

    A mapping holds per input an array whose first axis counts samples: (N, *shape), or (N·B, …) for an input
    (B, …), B = 1 included; or, for free axes, samples of several sizes as a list or an array of objects. An
    iterable yields one mapping per sample, each array of the input's own shape.
    `infinite` are inputs that may hold infinity: masks.
    Raises InputError for an unknown or missing name, a shape or type that does not fit, or no sample at all.
    """
    if isinstance(calibration, Mapping):
        feeds = _from_arrays(calibration, inputs, infinite)
    else:
        named = ((sample, f"calibration sample {n}") for n, sample in enumerate(calibration))
        feeds = [_checked(sample, inputs, where, infinite) for sample, where in named]
    if not feeds:
        raise InputError(must("calibration", "the number of samples", "at least 1", 0, _HINT))
    return feeds


def random_feed(inputs: Sequence[ValueInfoProto]) -> Feed:
    """Return one feed of reproducible noise in 0 … 1 (zeros for integers); unknown dimensions are 1."""
    rng = np.random.default_rng(0)
    feed = {}
    for value in inputs:
        shape = [d if isinstance(d, int) else 1 for d in shape_of(value) or ()]
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        noise = rng.random(shape, dtype=np.float32)
        feed[value.name] = noise.astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype=dtype)
    return feed


def _from_arrays(
    arrays: Mapping[str, Array | Sequence[Array]],
    inputs: Sequence[ValueInfoProto],
    infinite: Collection[str],
) -> list[Feed]:
    _check_names(arrays, inputs, "calibration")
    split = {v.name: _split(arrays[v.name], v) for v in inputs}
    counts = {name: len(parts) for name, parts in split.items()}
    if len(set(counts.values())) > 1:
        raise InputError(must("calibration", "the number of samples", "the same for every input", counts))
    total = next(iter(counts.values()), 0)
    return [
        _checked(
            {name: parts[n] for name, parts in split.items()}, inputs, f"calibration sample {n}", infinite
        )
        for n in range(total)
    ]


def _split(given: Array | Sequence[Array], value: ValueInfoProto) -> list[Array]:
    """Return the samples stacked in an array, or those of several sizes one by one."""
    if isinstance(given, np.ndarray) and given.dtype == object:
        return [np.asarray(sample) for sample in given]
    if isinstance(given, Sequence) and len({np.shape(sample) for sample in given}) > 1:
        return [np.asarray(sample) for sample in given]
    array, taker = np.asarray(given), input_of(value)
    found = split(array, taker)
    if found is not None:
        return found
    shape = taker.shape or ()
    allowed = (
        f"a multiple of {taker.batch} on its first axis"
        if array.ndim == len(shape) and array.ndim
        else f"(N, {', '.join(map(_show, shape))})"
    )
    raise InputError(must("calibration", f"the shape of input '{value.name}'", allowed, array.shape))


def input_of(value: ValueInfoProto) -> Input:
    """Return an input of an ONNX model as readers of samples take it."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return Input(value.name, shape_of(value), dtype)


def _check_names(given: Mapping[str, object], inputs: Sequence[ValueInfoProto], where: str) -> None:
    allowed = [v.name for v in inputs]
    for name in given:
        if name not in allowed:
            raise InputError(must(where, "input names", f"{', '.join(allowed) or 'none'}", f"'{name}'"))
    missing = [name for name in allowed if name not in given]
    if missing:
        found = ", ".join(given) or "none"
        raise InputError(
            must(where, "input names", ", ".join(allowed), found, f"{', '.join(missing)} is missing")
        )


def _checked(
    sample: Mapping[str, Array], inputs: Sequence[ValueInfoProto], where: str, infinite: Collection[str]
) -> Feed:
    """Return one feed: names, shapes and types checked, values cast to what the input takes."""
    _check_names(sample, inputs, where)
    feed = {}
    for value in inputs:
        array, shape = np.asarray(sample[value.name]), shape_of(value)
        if shape is not None and not _fits(array.shape, shape):
            allowed = f"({', '.join(map(_show, shape))})"
            raise InputError(must(where, f"the shape of input '{value.name}'", allowed, array.shape))
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if not np.can_cast(array.dtype, dtype, "same_kind") and not (
            dtype.kind == "f" and array.dtype.kind in "iub"
        ):
            raise InputError(must(where, f"the type of input '{value.name}'", dtype, array.dtype))
        if dtype.kind == "f" and not np.isfinite(array).all():
            actual = "NaN" if np.isnan(array).any() else "infinity"
            if actual == "infinity" and value.name in infinite:
                feed[value.name] = np.ascontiguousarray(array, dtype=dtype)
                continue
            raise InputError(must(where, f"every value of input '{value.name}'", "finite", actual))
        feed[value.name] = np.ascontiguousarray(array, dtype=dtype)
    return feed


def _fits(actual: tuple[int, ...], shape: Shape) -> bool:
    return len(actual) == len(shape) and all(
        not isinstance(d, int) or d == a for a, d in zip(actual, shape, strict=True)
    )


def _show(dim: int | str | None) -> str:
    return "?" if dim is None else str(dim)


def load_calibration(
    path: str | os.PathLike[str],
    model: ModelLike,
    *,
    scale: float | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    shapes: Shapes | None = None,
    told: Callable[[str], None] | None = None,
) -> dict[str, Array]:
    """Return the calibration set at `path` as one array per input of `model`, samples on the first axis.

    `path` is an `.npz` whose keys are input names (a model of one input accepts any key), or a folder of
    `.npy` files (one sample each) or of images, in the order of their names, or one such file. Images need a
    model with one input (B, C, H, W) or (B, H, W, C): they are converted to RGB (grey for C = 1), resized to
    H × W (bilinear) and become (pixel · scale − mean) / std. `mean` and `std` are a number or one for every
    channel, in the scaled range; a scale of None is 1/255. `shapes` gives free axes of inputs their sizes, by
    name. `.npy` files of several sizes, for an input that takes them, become an array of objects, one for
    each. `told` hears in one sentence how many images were changed, if any. Raises InputError when there is
    nothing to read or it does not fit the model, ModelError for `shapes` that do not.
    """
    inputs = fed_inputs(read_ends(model), shapes)
    where = Path(path)
    if where.is_dir() or where.suffix.lower() in IMAGES:
        changes = Changes()
        arrays = _read_samples(where, inputs, Pixels(scale, mean, std), changes)
        if told is not None and changes.sentence():
            told(f"calibration: {changes.sentence()}")
    else:
        arrays = _read_file(where, inputs)
    _check_names(arrays, inputs, str(where))
    return arrays


def _read_file(path: Path, inputs: Sequence[ValueInfoProto]) -> dict[str, Array]:
    takers = [input_of(value) for value in inputs]
    allowed = "an .npz file or a folder"
    read = read_numpy(path, takers, what="calibration data", allowed=allowed, fix=_HINT)
    arrays = read if isinstance(read, dict) else {"an .npy file": read}
    if len(inputs) == len(arrays) == 1:
        return {inputs[0].name: next(iter(arrays.values()))}
    return arrays


def _read_samples(
    path: Path, inputs: Sequence[ValueInfoProto], pixels: Pixels, changes: Changes
) -> dict[str, Array]:
    if len(inputs) != 1:
        fix = "pass an .npz with one array per input"
        raise InputError(
            must(str(path), "samples without names", "for a model with one input", len(inputs), fix)
        )
    taker = input_of(inputs[0])
    samples = [s.read() for s in read_samples(path, taker, pixels, changes)]
    if len({sample.shape for sample in samples}) == 1:
        return {taker.name: np.stack(samples)}
    if all(taker.takes(sample.shape) for sample in samples):
        several = np.empty(len(samples), dtype=object)
        several[:] = samples
        return {taker.name: several}
    found = ", ".join(str(shape) for shape in dict.fromkeys(sample.shape for sample in samples))
    raise InputError(must(str(path), "the samples", f"of the shape {taker.shown}", found))
