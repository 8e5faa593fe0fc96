"""Calibration data: from arrays, `.npz`, and folders of arrays or images, to one feed per sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, ValueInfoProto, helper

from openbpu.arch.errors import InputError, must
from openbpu.quantization.onnx.load import ModelLike, read_model
from openbpu.quantization.onnx.net import Array, Shape, shape_of

Feed = dict[str, Array]
Calibration = Mapping[str, Array] | Iterable[Mapping[str, Array]]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_HINT = "pass an .npz with one array per input (first axis: samples), or a folder of .npy files or images"


def feeds_of(calibration: Calibration, inputs: Sequence[ValueInfoProto]) -> list[Feed]:
    """Return the samples as feeds of a model with these `inputs`.

    A mapping holds per input an array whose first axis counts samples: (N, *shape), or (N·B, …) for an input
    (B, …), B = 1 included. An iterable yields one mapping per sample, each array of the input's own shape.
    Raises InputError for an unknown or missing name, a shape or type that does not fit, or no sample at all.
    """
    if isinstance(calibration, Mapping):
        feeds = _from_arrays(calibration, inputs)
    else:
        feeds = [_checked(sample, inputs, f"calibration sample {n}") for n, sample in enumerate(calibration)]
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


def _from_arrays(arrays: Mapping[str, Array], inputs: Sequence[ValueInfoProto]) -> list[Feed]:
    _check_names(arrays, inputs, "calibration")
    split = {v.name: _split(np.asarray(arrays[v.name]), v) for v in inputs}
    counts = {name: len(parts) for name, parts in split.items()}
    if len(set(counts.values())) > 1:
        raise InputError(must("calibration", "the number of samples", "the same for every input", counts))
    total = next(iter(counts.values()), 0)
    return [
        _checked({name: parts[n] for name, parts in split.items()}, inputs, f"calibration sample {n}")
        for n in range(total)
    ]


def _split(array: Array, value: ValueInfoProto) -> list[Array]:
    """Return the samples stacked in `array`."""
    shape = shape_of(value)
    if shape is None or array.ndim == len(shape) + 1:
        return list(array)
    if array.ndim != len(shape) or array.ndim == 0:
        allowed = f"(N, {', '.join(map(_show, shape))})"
        raise InputError(must("calibration", f"the shape of input '{value.name}'", allowed, array.shape))
    batch = shape[0] if isinstance(shape[0], int) else 1
    if batch < 1 or len(array) % batch:
        allowed = f"a multiple of {batch} on its first axis"
        raise InputError(must("calibration", f"the shape of input '{value.name}'", allowed, array.shape))
    return [array[start : start + batch] for start in range(0, len(array), batch)]


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


def _checked(sample: Mapping[str, Array], inputs: Sequence[ValueInfoProto], where: str) -> Feed:
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
    scale: float = 1 / 255,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    told: Callable[[str], None] | None = None,
) -> dict[str, Array]:
    """Return the calibration set at `path` as one array per input of `model`, samples on the first axis.

    `path` is an `.npz` whose keys are input names (a model of one input accepts any key), or a folder of
    `.npy` files (one sample each) or of images, in the order of their names. Images need a model with one
    input (1, C, H, W): they are converted to RGB (grey for C = 1), resized to H × W (bilinear) and become
    (pixel · scale − mean) / std; `mean` and `std` are a number or one per channel, in the scaled range.
    `told` hears in one sentence how many images were resized or converted, if any.
    Raises InputError when there is nothing to read or it does not fit the model.
    """
    inputs = fed_inputs(read_model(model))
    where = Path(path)
    hears = told or _silent
    arrays = (
        _read_folder(where, inputs, scale, mean, std, hears) if where.is_dir() else _read_npz(where, inputs)
    )
    _check_names(arrays, inputs, str(where))
    return arrays


def _silent(_: str) -> None:
    pass


def fed_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that have no initializer."""
    constants = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constants]


def _read_npz(path: Path, inputs: Sequence[ValueInfoProto]) -> dict[str, Array]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            arrays = {"an .npy file": file}
        else:
            with file:
                arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            must(str(path), "calibration data", "an .npz file or a folder", f"({_reason(error)})", _HINT)
        ) from error
    if len(inputs) == len(arrays) == 1:
        return {inputs[0].name: next(iter(arrays.values()))}
    return arrays


def _reason(error: Exception) -> str:
    """Return what the system says, without number and path, or what NumPy says."""
    return getattr(error, "strerror", None) or str(error)


def _read_folder(
    folder: Path,
    inputs: Sequence[ValueInfoProto],
    scale: float,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    told: Callable[[str], None],
) -> dict[str, Array]:
    files = sorted(folder.iterdir())
    tensors = [f for f in files if f.suffix.lower() == ".npy"]
    images = [f for f in files if f.suffix.lower() in IMAGES]
    if not tensors and not images:
        raise InputError(
            must(
                str(folder),
                "a folder of samples",
                f"one of .npy, {', '.join(IMAGES)} files",
                "empty of them",
                _HINT,
            )
        )
    if len(inputs) != 1:
        fix = "pass an .npz with one array per input"
        raise InputError(
            must(str(folder), "a folder of samples", "for a model with one input", len(inputs), fix)
        )
    value = inputs[0]
    samples = [_read_npy(f, value) for f in tensors] or _read_images(images, value, scale, mean, std, told)
    try:
        return {value.name: np.stack(samples)}
    except ValueError as error:
        raise InputError(must(str(folder), "the samples", "of one shape", f"({error})")) from error


def _read_npy(path: Path, value: ValueInfoProto) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            must(str(path), "the file", "a NumPy array without objects", f"({error})")
        ) from error
    shape = shape_of(value)
    one = (
        shape is not None
        and len(shape) == array.ndim + 1
        and not (isinstance(shape[0], int) and shape[0] != 1)
    )
    return array[np.newaxis] if one else array


def _read_images(
    files: Sequence[Path],
    value: ValueInfoProto,
    scale: float,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    told: Callable[[str], None],
) -> list[Array]:
    from PIL import Image  # noqa: PLC0415  (only image folders need it)

    shape = shape_of(value) or ()
    size = shape[2:] if len(shape) == 4 else ()
    if len(size) != 2 or shape[1] not in {1, 3} or not all(isinstance(d, int) for d in size):
        allowed, actual = "(1, 1 or 3, H, W) for a folder of images", f"({', '.join(map(_show, shape))})"
        raise InputError(must("calibration", f"the shape of input '{value.name}'", allowed, actual, _HINT))
    height, width = int(str(size[0])), int(str(size[1]))
    mode = "L" if shape[1] == 1 else "RGB"
    arrays: list[Array] = []
    resized = converted = 0
    for path in files:
        try:
            with Image.open(path) as image:
                resized += image.size != (width, height)
                converted += image.mode != mode
                fitted = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise InputError(must(str(path), "the file", "an image", f"({error})")) from error
        arrays.append(_normalise(np.asarray(fitted, dtype=np.float32), scale, mean, std))
    changes = (
        (resized, f"resized {_images(resized)} to {height}×{width}"),
        (converted, f"converted {_images(converted)} to {'grey' if mode == 'L' else 'RGB'}"),
    )
    if resized or converted:
        told(f"calibration: {', '.join(text for count, text in changes if count)}")
    return arrays


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _normalise(
    pixels: npt.NDArray[np.float32], scale: float, mean: float | Sequence[float], std: float | Sequence[float]
) -> Array:
    """Return (H, W) or (H, W, C) pixels as (1, C, H, W)."""
    planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    channels = len(planes)
    for name, given in (("mean", mean), ("std", std)):
        if np.size(given) not in {1, channels}:
            raise InputError(must("calibration", name, f"a number or {channels} numbers", given))
    for name, given in (("scale", scale), ("std", std)):
        if not np.isfinite(given).all() or not np.asarray(given, dtype=np.float32).all():
            raise InputError(must("calibration", name, "finite and not 0", given))
    m = np.broadcast_to(np.asarray(mean, dtype=np.float32), (channels,))[:, None, None]
    s = np.broadcast_to(np.asarray(std, dtype=np.float32), (channels,))[:, None, None]
    return ((planes * np.float32(scale) - m) / s)[np.newaxis].astype(np.float32)
