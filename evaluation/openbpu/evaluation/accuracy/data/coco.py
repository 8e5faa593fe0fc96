"""COCO's JSON: images, and the objects in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded
from openbpu.evaluation.accuracy.data.data import Data
from openbpu.evaluation.accuracy.data.sample import Sample

_MOST = 2 << 30
"""Bytes of a file; the largest of COCO itself has 0.5 GB."""
_NEEDED = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def read_coco(path: Path, images: Path | None) -> Data:
    """Return the images of a COCO file with their objects, in the order of the file.

    Classes are its categories in the order of their ids, numbered from 0. images: the folder of the pictures;
    without it the usual places beside the file are tried. Raises InputError.
    """
    document = _checked(path, _read(path))
    categories = sorted(document["categories"], key=lambda c: c["id"])
    number = {c["id"]: n for n, c in enumerate(categories)}
    objects: dict[Any, list[dict[str, Any]]] = {i["id"]: [] for i in document["images"]}
    for n, a in enumerate(document["annotations"]):
        if a["image_id"] not in objects or a["category_id"] not in number:
            what = "image_id" if a["image_id"] not in objects else "category_id"
            raise InputError(must(f"{path}: annotations[{n}]", what, "one that the file lists", a[what]))
        objects[a["image_id"]].append(
            {
                "bbox": a["bbox"],
                "category": number[a["category_id"]],
                "iscrowd": a.get("iscrowd", 0),
                "area": a.get("area", a["bbox"][2] * a["bbox"][3]),
            }
        )
    folder = images if images is not None else _folder(path, document["images"])
    samples = [
        Sample(i["file_name"], objects[i["id"]], folder / i["file_name"], (i["height"], i["width"]))
        for i in document["images"]
    ]
    _check_there(folder, samples)
    ids = {"categories": [c["id"] for c in categories]}
    return Data(path, samples, tuple(str(c["name"]) for c in categories), truth=ids)


def _read(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, _MOST))
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise InputError(must(str(path), "the file", "a COCO .json", f"({why})")) from error


def _checked(path: Path, document: Any) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    if not isinstance(document, dict):
        raise InputError(must(str(path), "the file", "a COCO .json with images and annotations", "another"))
    for part, needed in _NEEDED.items():
        rows = document.get(part)
        if not isinstance(rows, list):
            found = "missing" if rows is None else type(rows).__name__
            raise InputError(must(str(path), f"'{part}'", "a list", found, "give COCO's instances_….json"))
        for n, row in enumerate(rows):
            lacking = [k for k in needed if not isinstance(row, dict) or k not in row]
            if lacking:
                raise InputError(must(f"{path}: {part}[{n}]", f"'{lacking[0]}'", "given", "missing"))
    _check_values(path, document)
    return document


def _check_values(path: Path, document: Mapping[str, Any]) -> None:
    for n, image in enumerate(document["images"]):
        if not all(type(image[k]) is int and image[k] > 0 for k in ("width", "height")):
            found = f"{image['width']}×{image['height']}"
            raise InputError(must(f"{path}: images[{n}]", "width and height", "whole and positive", found))
    for n, a in enumerate(document["annotations"]):
        box = a["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            raise InputError(must(f"{path}: annotations[{n}]", "bbox", "[x, y, width, height]", box))
    for part in ("images", "categories"):
        ids = [row["id"] for row in document[part]]
        if len({str(i) for i in ids}) < len(ids):
            raise InputError(must(str(path), f"every id of '{part}'", "given once", "given twice"))


def _folder(path: Path, images: Sequence[Mapping[str, Any]]) -> Path:
    """Return where the first image is: beside the file, or in `val2017` for `instances_val2017.json`."""
    tried = list(_places(path))
    for folder in tried:
        if images and (folder / images[0]["file_name"]).is_file():
            return folder
    places = ", ".join(map(str, tried))
    fix = f"give their folder with --images; tried {places}"
    raise InputError(must(str(path), "the images", "beside the file", "missing", fix))


def _places(path: Path) -> Iterator[Path]:
    split = path.stem.rpartition("_")[2]
    for base in (path.parent, path.parent.parent):
        yield from (base, base / "images", base / split, base / "images" / split)


def _check_there(folder: Path, samples: Sequence[Sample]) -> None:
    missing = [s.key for s in samples if s.path is None or not s.path.is_file()]
    if missing:
        found = f"{len(missing)} of {len(samples)} missing, '{missing[0]}' the first"
        fix = "give their folder with --images"
        raise InputError(must(str(folder), "the images", "those that the file lists", found, fix))
