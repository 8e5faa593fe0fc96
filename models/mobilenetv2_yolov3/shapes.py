"""A detection set made on the spot: reddish squares, greenish discs and bluish triangles on noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ("square", "disc", "triangle")
MOST = 3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shapes:
    """Images [N, 3, S, S] in steps of 1/128 from −1, and the boxes of each: (x1, y1, x2, y2, class)."""

    images: Floats
    boxes: tuple[Floats, ...]


def make(count: int, size: int, seed: int) -> Shapes:
    """Return `count` seeded images of `size` pixels with one to three shapes that do not overlap much."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 3, size, size), np.float32)
    boxes = []
    for i in range(count):
        pixels, found = _scene(random, size)
        images[i] = (np.clip(np.rint(pixels), 0, 255) - 128) / 128
        boxes.append(found)
    return Shapes(images, tuple(boxes))


def _scene(random: np.random.Generator, size: int) -> tuple[NDArray[np.float64], Floats]:
    pixels = random.normal(random.uniform(70, 180), 25, (3, size, size))
    found: list[list[float]] = []
    for _ in range(random.integers(1, MOST + 1)):
        side = random.uniform(0.13, 0.48) * size
        width, height = side * random.uniform(0.75, 1.0), side * random.uniform(0.75, 1.0)
        x, y = random.uniform(0, size - width), random.uniform(0, size - height)
        box = [x, y, x + width, y + height]
        if any(iou(np.array([box]), np.array([b[:4]]))[0, 0] > 0.05 for b in found):
            continue
        kind = int(random.integers(len(CLASSES)))
        colour = random.uniform(0, 110, 3)
        colour[kind] = random.uniform(190, 255)  # each class leans to a colour, so that minutes are enough
        inside = _inside(kind, box, size)
        pixels[:, inside] = colour[:, None] + random.normal(0, 12, (3, int(inside.sum())))
        found.append([*box, kind])
    return pixels, np.array(found, np.float32)


def _inside(kind: int, box: list[float], size: int) -> NDArray[np.bool_]:
    """Return which pixels the shape covers."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    u, v = (x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1])
    within = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    if kind == 1:
        return within & ((u - 0.5) ** 2 + (v - 0.5) ** 2 <= 0.25)
    if kind == 2:
        return within & (np.abs(u - 0.5) <= v / 2)
    return within


def iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return intersection over union of every box of `a` [N, 4+] with every one of `b` [M, 4+]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    inter = np.clip(high - low, 0, None).prod(-1)
    area_a = (a[:, 2:4] - a[:, :2]).prod(-1)
    area_b = (b[:, 2:4] - b[:, :2]).prod(-1)
    return inter / (area_a[:, None] + area_b[None] - inter + 1e-9)  # type: ignore[no-any-return]


def mean_average_precision(
    found: list[NDArray[np.floating]], truth: tuple[Floats, ...], threshold: float = 0.5
) -> float:
    """Return mAP at an IoU threshold: `found` per image (x1, y1, x2, y2, score, class), all-point average."""
    scores = [_average_precision(found, truth, kind, threshold) for kind in range(len(CLASSES))]
    return float(np.mean(scores))


def _average_precision(
    found: list[NDArray[np.floating]], truth: tuple[Floats, ...], kind: int, threshold: float
) -> float:
    rows = [(float(d[4]), i, d) for i, dets in enumerate(found) for d in dets if int(d[5]) == kind]
    rows.sort(key=lambda row: -row[0])
    wanted = [boxes[boxes[:, 4] == kind] for boxes in truth]
    taken = [np.zeros(len(w), bool) for w in wanted]
    hits = np.zeros(len(rows))
    for n, (_, i, det) in enumerate(rows):
        if not len(wanted[i]):
            continue
        overlaps = iou(det[None, :4], wanted[i])[0]
        best = int(overlaps.argmax())
        if overlaps[best] >= threshold and not taken[i][best]:
            taken[i][best] = True
            hits[n] = 1
    total = sum(len(w) for w in wanted)
    if not total or not rows:
        return 0.0
    recall = np.cumsum(hits) / total
    precision = np.cumsum(hits) / np.arange(1, len(rows) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))
