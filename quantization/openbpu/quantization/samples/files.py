"""Paths to samples: an array, a picture, or a folder of either, one batch after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.quantization.samples.arrays import read_numpy, split
from openbpu.quantization.samples.images import IMAGES, Changes, Pixels, check_takes_images, read_image
from openbpu.quantization.samples.inputs import Input, Shape

_KINDS = f".npy, {', '.join(IMAGES)}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run takes: `read` returns the array, `label` says which file it is from."""

    label: str
    read: Callable[[], Array]


def read_samples(path: Path, taker: Input, pixels: Pixels, changes: Changes) -> list[Sample]:
    """Return the samples for one input at `path`, in the order of their names.

    path: a `.npy` (whose first axis may count samples), a picture, or a folder of `.npy` files (one sample
    each) or of pictures. Pictures fill the input's batch one after the other; they are read when asked for.
    Raises InputError when there is nothing to read or it does not fit.
    """
    if path.is_dir():
        return _folder(path, taker, pixels, changes)
    if path.suffix.lower() in IMAGES:
        return _images([path], taker, pixels, changes, str(path))
    array = read_numpy(path, [taker])
    if isinstance(array, dict):
        fix = "give the .npz without a name: it holds the inputs by their names"
        raise InputError(must(str(path), f"the file for input '{taker.name}'", "a single array", ".npz", fix))
    return stacked(path.stem, array, taker)


def stacked(label: str, array: Array, taker: Input) -> list[Sample]:
    """Return the runs in an array; one that does not divide is one run, and refused there."""
    parts = (split(array, taker) if _holds_several(array, taker) else None) or [array]
    if len(parts) == 1:
        return [Sample(label, partial(_given, parts[0]))]
    width = len(str(len(parts) - 1))
    return [Sample(f"{label}_{n:0{width}}", partial(_given, part)) for n, part in enumerate(parts)]


def _holds_several(array: Array, taker: Input) -> bool:
    """Whether the first axis of an array counts samples, and every other size is the input's."""
    shape = taker.shape
    if not shape or array.ndim == 0:
        return False
    if array.ndim == len(shape) + 1:
        return _same(array.shape[1:], shape)
    known = array.ndim == len(shape) and isinstance(shape[0], int)
    return known and array.shape[0] > taker.batch and _same(array.shape[1:], shape[1:])


def _same(sizes: tuple[int, ...], shape: Shape) -> bool:
    return all(not isinstance(d, int) or d == n for n, d in zip(sizes, shape, strict=True))


def _given(array: Array) -> Array:
    return array


def _folder(folder: Path, taker: Input, pixels: Pixels, changes: Changes) -> list[Sample]:
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())
    except OSError as error:
        fix = "check its permissions"
        raise InputError(must(str(folder), "the folder", "readable", f"({error.strerror})", fix)) from error
    tensors = [f for f in files if f.suffix.lower() == ".npy"]
    images = [f for f in files if f.suffix.lower() in IMAGES]
    if tensors and images:
        fix = "move one kind elsewhere"
        found = f"{len(tensors)} .npy files and {len(images)} images"
        raise InputError(must(str(folder), "a folder of samples", "of one kind", found, fix))
    if tensors:
        labels = _labels([[f] for f in tensors])
        return [Sample(label, partial(_npy, f, taker)) for label, f in zip(labels, tensors, strict=True)]
    if images:
        return _images(images, taker, pixels, changes, str(folder))
    raise InputError(must(str(folder), "a folder of samples", f"one of {_KINDS} files", "empty of them"))


def _npy(path: Path, taker: Input) -> Array:
    """Return one sample; the batch axis is put in front where only it is missing."""
    array = read_numpy(path, [taker], allowed="a NumPy array without objects")
    if isinstance(array, dict):
        raise InputError(must(str(path), "the file", "a single array", "an .npz", "name it .npz"))
    shape = taker.shape
    bare = shape is not None and len(shape) == array.ndim + 1 and taker.batch == 1
    return array[np.newaxis] if bare else array


def _images(
    files: Sequence[Path], taker: Input, pixels: Pixels, changes: Changes, where: str
) -> list[Sample]:
    check_takes_images(taker, where)
    batch = taker.batch
    over = len(files) % batch
    if over:
        allowed = f"a multiple of {batch}, the batch of input '{taker.name}'"
        fix = f"add {batch - over}" + (f" or leave {over} out" if len(files) > batch else "")
        raise InputError(must(where, "the number of images", allowed, len(files), fix))
    groups = [files[start : start + batch] for start in range(0, len(files), batch)]
    labels = _labels(groups)
    return [
        Sample(label, partial(_batch, group, taker, pixels, changes))
        for label, group in zip(labels, groups, strict=True)
    ]


def _labels(groups: Sequence[Sequence[Path]]) -> list[str]:
    """Name every batch by its first and last file; the suffix is kept where names differ in nothing else."""
    files = [f for group in groups for f in group]
    unique = len({f.stem.casefold() for f in files}) == len(files)
    names = [[f.stem if unique else f.name for f in group] for group in groups]
    return [group[0] if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in names]


def _batch(files: Sequence[Path], taker: Input, pixels: Pixels, changes: Changes) -> Array:
    return np.stack([read_image(f, taker, pixels, changes) for f in files])
