"""The face detector with real weights and photos, which lie beside the repository where it is developed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
FOLDER = Path(__file__).parents[3] / "shared" / "models" / "ultraface"
MODEL = FOLDER / "version-RFB-320.onnx"


def photos() -> list[Array]:
    """The photos as the network takes them: RGB, 320×240, (x − 127) / 128, float32 [1,3,240,320]."""
    return [_load(path) for path in sorted(FOLDER.glob("*.jpg"))]


def _load(path: Path) -> Array:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((320, 240), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, np.float32)
    return np.asarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])


def faces(outputs: dict[str, Array], score: float) -> Array:
    """Boxes [n,4] of the faces above `score`, overlapping ones suppressed at IoU 0.3."""
    scores, boxes = outputs["scores"][0, :, 1], outputs["boxes"][0]
    order = np.argsort(-scores)
    order = order[scores[order] > score]
    kept: list[int] = []
    while order.size:
        kept.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) < 0.3]
    return np.asarray(boxes[kept])


def iou(box: Array, others: Array) -> Array:
    """Intersection over union of one box [4] with others [n,4], corners x1 y1 x2 y2."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return np.asarray(shared / np.maximum(area, 1e-12))
