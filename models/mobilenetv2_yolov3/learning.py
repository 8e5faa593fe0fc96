"""YOLOv3's targets, loss, decoding and non-maximum suppression, and a training loop that any stage uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from network import STRIDES, anchors_of
from numpy.typing import NDArray
from shapes import CLASSES, Shapes, iou, mean_average_precision
from torch import nn
from torch.nn import functional

PER_ANCHOR = 5 + len(CLASSES)
Predict = Callable[[Any], tuple[Any, ...]]


def targets(boxes: tuple[NDArray[np.float32], ...], size: int) -> list[torch.Tensor]:
    """Return per level [N, 3, H, W, 5 + classes]: offsets in the cell, log sizes, objectness, class."""
    made = [torch.zeros(len(boxes), 3, size // s, size // s, PER_ANCHOR) for s in STRIDES]
    sizes = torch.cat([anchors_of(level, size) for level in range(len(STRIDES))])
    for n, rows in enumerate(boxes):
        for x1, y1, x2, y2, kind in rows.tolist():
            width, height = x2 - x1, y2 - y1
            inter = torch.minimum(sizes[:, 0], torch.tensor(width)) * torch.minimum(
                sizes[:, 1], torch.tensor(height)
            )
            shape_iou = inter / (sizes.prod(1) + width * height - inter)
            level, anchor = divmod(int(shape_iou.argmax()), 3)
            stride = STRIDES[level]
            cx, cy = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
            cell = made[level][n, anchor, int(cy), int(cx)]
            w, h = sizes[level * 3 + anchor].tolist()
            cell[:5] = torch.tensor([cx % 1, cy % 1, np.log(width / w), np.log(height / h), 1.0])
            cell[5 + int(kind)] = 1.0
    return made


class YoloLoss(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Cross entropies of class, objectness and offsets, squared error of the log sizes."""

    def forward(self, maps: tuple[Any, ...], wanted: list[Any]) -> Any:
        """Return the mean loss of a batch."""
        total = 0.0
        for pred, want in zip(maps, wanted, strict=True):
            p = pred.float().reshape(len(pred), 3, PER_ANCHOR, *pred.shape[2:]).permute(0, 1, 3, 4, 2)
            has = want[..., 4] > 0
            bce = functional.binary_cross_entropy_with_logits
            total = total + bce(p[..., 4], want[..., 4], reduction="sum")
            if has.any():
                total = total + bce(p[has][:, :2], want[has][:, :2], reduction="sum")
                total = total + functional.mse_loss(p[has][:, 2:4], want[has][:, 2:4], reduction="sum")
                total = total + bce(p[has][:, 5:], want[has][:, 5:], reduction="sum")
        return total / len(maps[0])


def decode(maps: tuple[Any, ...], size: int, least: float = 0.02) -> list[NDArray[np.float64]]:
    """Return per image (x1, y1, x2, y2, score, class), after non-maximum suppression within a class."""
    images = len(maps[0])
    rows: list[list[NDArray[np.float64]]] = [[] for _ in range(images)]
    for level, (pred, stride) in enumerate(zip(maps, STRIDES, strict=True)):
        grid = size // stride
        p = torch.as_tensor(pred).double().reshape(images, 3, PER_ANCHOR, grid, grid)
        y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
        anchors = anchors_of(level, size).double()[None, :, :, None, None]
        centre = (p[:, :, :2].sigmoid() + torch.stack([x, y])[None, None]) * stride
        extent = p[:, :, 2:4].clamp(max=3).exp() * anchors
        score = p[:, :, 4:5].sigmoid() * p[:, :, 5:].sigmoid()
        best, kind = score.max(dim=2, keepdim=True)
        found = torch.cat([centre - extent / 2, centre + extent / 2, best, kind.double()], dim=2)
        flat = found.permute(0, 1, 3, 4, 2).reshape(images, -1, 6)
        for n in range(images):
            rows[n].append(flat[n][flat[n][:, 4] > least].numpy())
    return [_suppressed(np.concatenate(r)) for r in rows]


def _suppressed(rows: NDArray[np.float64], overlap: float = 0.45, most: int = 30) -> NDArray[np.float64]:
    kept: list[NDArray[np.float64]] = []
    for row in rows[np.argsort(-rows[:, 4], kind="stable")][:200]:
        same = [k for k in kept if k[5] == row[5]]
        if not same or iou(row[None, :4], np.array(same)).max() < overlap:
            kept.append(row)
        if len(kept) == most:
            break
    return np.array(kept).reshape(-1, 6)


def detections(predict: Predict, data: Shapes, batch: int = 32) -> list[NDArray[np.float64]]:
    """Return what is found in each image by whatever maps images to prediction maps."""
    size, found = data.images.shape[-1], []
    with torch.no_grad():
        for start in range(0, len(data.images), batch):
            found += decode(predict(torch.from_numpy(data.images[start : start + batch])), size)
    return found


def evaluate(predict: Predict, data: Shapes) -> float:
    """Return the mAP of whatever maps images to prediction maps."""
    return mean_average_precision(detections(predict, data), data.boxes)


def train_detector(
    model: Any, data: Shapes, epochs: int, rate: float, batch: int = 16, seed: int = 0
) -> None:
    """Train in place: the same loop for the float model and for the QAT model."""
    size = data.images.shape[-1]
    images, wanted = torch.from_numpy(data.images), targets(data.boxes, size)
    loss = YoloLoss()
    steps = epochs * -(-len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=order).split(batch):
            optimizer.zero_grad()
            loss(model(images[chosen]), [w[chosen] for w in wanted]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
