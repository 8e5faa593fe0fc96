"""What the user named as data, by its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data.arrays import read_arrays
from openbpu.evaluation.accuracy.data.coco import read_coco
from openbpu.evaluation.accuracy.data.data import Data
from openbpu.evaluation.accuracy.data.folders import read_folder

_KINDS = "a folder of images, an .npz or .npy file, or a COCO .json"


def read_data(
    path: Path,
    inputs: Sequence[str],
    *,
    labels: str = "",
    classes: Path | None = None,
    images: Path | None = None,
) -> Data:
    """Return the samples at `path`.

    inputs: names of the first model's inputs · labels: of an `.npz` the name of an array, else a file of
    labels · classes: a file with the names of the classes, in the order of the labels · images: the folder of
    the pictures of a COCO file. Raises InputError.
    """
    if not path.exists():
        raise InputError(must(str(path), "the data", _KINDS, "missing", "check the path"))
    suffix = path.suffix.lower()
    if path.is_dir():
        data = read_folder(path, Path(labels) if labels else None, classes)
    elif suffix in {".npz", ".npy"}:
        data = read_arrays(path, labels, inputs)
    elif suffix == ".json":
        data = read_coco(path, images)
    else:
        raise InputError(must(str(path), "the data", _KINDS, f"a {suffix or 'file without suffix'}"))
    _refuse_unused(path, "--images", images, used=suffix == ".json")
    _refuse_unused(path, "--classes", classes, used=path.is_dir())
    _refuse_unused(path, "--labels", labels, used=suffix != ".json")
    if not len(data.samples):
        raise InputError(must(str(path), "the number of samples", "at least 1", 0, "give some data"))
    return data


def _refuse_unused(path: Path, option: str, given: object, *, used: bool) -> None:
    if given and not used:
        raise InputError(must(str(path), option, "left out for this kind of data", f"'{given}'"))
