"""mAP as COCO has it, by pycocotools."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Data, Sample
from openbpu.evaluation.accuracy.metrics.base import Figure, OfClass, Record, Seen
from openbpu.evaluation.accuracy.metrics.boxes import Boxes
from openbpu.evaluation.accuracy.metrics.precision import Precision

_AT_MOST = 100
"""Detections of an image that count, those of the highest scores: COCO's number."""


@dataclass(frozen=True)
class MeanPrecision:
    """`map`: the mean over overlaps of 0.5, 0.55 … 0.95; `map50`: at 0.5 alone."""

    name: str = "map"
    boxes: Boxes = field(default_factory=Boxes)
    is_mean: bool = False

    def check(self, data: Data, models: int) -> None:
        """Raise InputError for data without objects, and where the extra is not installed."""
        del models
        if importlib.util.find_spec("pycocotools") is None:
            fix = "pip install 'openbpu[eval]'"
            raise InputError(
                must(f"--metric {self.name}", "the package pycocotools", "installed", "missing", fix)
            )
        if data.truth is None:
            fix = "give the .json with images, annotations and categories"
            raise InputError(
                must(f"--metric {self.name}", "the data", "a COCO .json", f"'{data.where}'", fix)
            )

    def record(self, seen: Seen, first: Seen) -> Record:
        """Return the detections."""
        del first
        return self.boxes.found(seen)

    def cells(self, record: Record) -> dict[str, object]:
        """Return how many there are."""
        return {"detections": len(record)}

    def figures(self, records: Sequence[Record], samples: Sequence[Sample], data: Data) -> list[Figure]:
        """Return the mean precision over classes that have objects."""
        ids = list(data.truth["categories"]) if data.truth is not None else []
        found = _judged(
            _document(samples, len(ids)), _detections(records, samples, self.boxes, ids), self.name == "map50"
        )
        precision = Precision.of(found, len(samples), len(ids))
        classes = _of_classes(found, samples, data)
        return [Figure(self.name, _value(found), None, False, precision.mean, classes=classes)]


def _document(samples: Sequence[Sample], categories: int) -> dict[str, Any]:
    """Return the truth in COCO's form; images and categories numbered as here, annotations from 1."""
    objects = [(n, o) for n, sample in enumerate(samples) for o in sample.label]
    return {
        "images": [{"id": n} for n in range(len(samples))],
        "categories": [{"id": n} for n in range(categories)],
        "annotations": [
            {
                "id": k,
                "image_id": n,
                "category_id": o["category"],
                "bbox": o["bbox"],
                "area": o["area"],
                "iscrowd": o["iscrowd"],
            }
            for k, (n, o) in enumerate(objects, start=1)
        ],
    }


def _detections(
    records: Sequence[Record], samples: Sequence[Sample], boxes: Boxes, ids: list[Any]
) -> list[dict[str, Any]]:
    number = {float(i): n for n, i in enumerate(ids)} if boxes.ids else {}
    rows: list[dict[str, Any]] = []
    for n, (record, sample) in enumerate(zip(records, samples, strict=True)):
        for x1, y1, x2, y2, score, of in record:
            category = number.get(of) if boxes.ids else of - boxes.first
            if category is None or category not in range(len(ids)):
                where = f"sample '{sample.key}'"
                allowed = (
                    "an id of a category" if boxes.ids else f"in {boxes.first}..{boxes.first + len(ids) - 1}"
                )
                fix = "see --first-class and --class-ids"
                raise InputError(must(where, "the class of a detection", allowed, f"{of:g}", fix))
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": n,
                    "category_id": int(category),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return rows


def _judged(truth: dict[str, Any], rows: list[dict[str, Any]], at_half: bool) -> Any:
    """Return pycocotools' evaluation; what it prints is nobody's business."""
    from pycocotools.coco import COCO  # noqa: PLC0415  # an extra
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()):
        ground, made = COCO(), COCO()
        ground.dataset, made.dataset = truth, truth | {"annotations": rows}
        ground.createIndex()
        made.createIndex()
        found = COCOeval(ground, made, "bbox")
        found.params.maxDets = [_AT_MOST]
        found.params.areaRng, found.params.areaRngLbl = [found.params.areaRng[0]], ["all"]
        if at_half:
            found.params.iouThrs = np.array([0.5])
        found.evaluate()
        found.accumulate()
    return found


def _value(found: Any) -> float:
    """Return the mean over classes, overlaps and recalls; a class without objects says nothing."""
    precision: Array = found.eval["precision"]
    known = precision[precision > -1]
    return float(np.mean(known)) if known.size else 0.0


def _of_classes(found: Any, samples: Sequence[Sample], data: Data) -> tuple[OfClass, ...]:
    """Return the mean precision of every class that has objects."""
    counts = Counter(o["category"] for sample in samples for o in sample.label if not o["iscrowd"])
    precision: Array = found.eval["precision"]
    made = []
    for number, count in sorted(counts.items()):
        known = precision[:, :, number]
        known = known[known > -1]
        made.append(OfClass(data.name_of(number), float(np.mean(known)) if known.size else 0.0, count))
    return tuple(made)
