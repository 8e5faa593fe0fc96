"""Photos for `accuracy.py`, and the detectors that look at them.

The photos are those of scikit-image and scikit-learn, and UltraFace's where `../shared/models/ultraface` is.
Calibration and test take crops of different photos; a crop is a random window, sometimes mirrored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy_networks import ROOT, Measure, MissingError, Network, Samples, Wheels
from accuracy_scores import Array, Boxes, f1, mean_overlap, suppressed
from accuracy_text import glyphs
from PIL import Image

ULTRAFACE = ROOT.parent / "shared" / "models" / "ultraface"
FACES = {False: ("1.jpg", "10.jpg", "11.jpg"), True: ("12.jpg", "13.jpg", "15.jpg")}
"""UltraFace's photos: for the test or not."""
SKIMAGE = {
    False: ("chelsea.png", "coffee.png", "motorcycle_left.png", "camera.png"),
    True: ("astronaut.png", "rocket.jpg"),
}
SKLEARN = {False: "china.jpg", True: "flower.jpg"}
CROPS, TEST_CROPS = 16, 32


def photos(wheels: Wheels, test: bool) -> list[Image.Image]:
    """Return the photos there are for the test or for calibration."""
    paths = [ULTRAFACE / name for name in FACES[test]]
    folder = wheels.unpacked("scikit-image") / "skimage" / "data"
    paths += [folder / name for name in SKIMAGE[test]]
    found = [Image.open(p).convert("RGB") for p in paths if p.exists()]
    return found + sample_of_sklearn(SKLEARN[test])


def sample_of_sklearn(name: str) -> list[Image.Image]:
    """Return a photo of scikit-learn, where it is installed."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        return []
    return [Image.fromarray(load_sample_image(name))]


def crops(wheels: Wheels, test: bool) -> list[Image.Image]:
    """Return windows of the photos, in turn."""
    rng = np.random.default_rng(22 if test else 21)
    sources = photos(wheels, test)
    return [crop(rng, sources[n % len(sources)]) for n in range(TEST_CROPS if test else CROPS)]


def crop(rng: np.random.Generator, photo: Image.Image) -> Image.Image:
    """Return a window of 40 … 100 % of each side, mirrored half of the times."""
    width, height = (int(side * rng.uniform(0.4, 1)) for side in photo.size)
    x, y = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
    window = photo.crop((x, y, x + width, y + height))
    return window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else window


def planes(picture: Image.Image, scale: float, mean: float) -> Array:
    """Return RGB pixels (1, 3, H, W), (pixel − mean) · scale."""
    return ((np.asarray(picture, np.float32).transpose(2, 0, 1) - mean) * np.float32(scale))[None]


def squares(wheels: Wheels, test: bool) -> Samples:
    """Return crops in the upper left of a black square of 320 pixels, 0 … 1."""
    feeds = []
    for window in crops(wheels, test):
        square = Image.new("RGB", (max(window.size),) * 2)
        square.paste(window)
        feeds.append({"images": planes(square.resize((320, 320)), 1 / 255, 0)})
    return Samples(feeds)


def faces(wheels: Wheels, test: bool) -> Samples:
    """Return crops as UltraFace takes them, 240 × 320 pixels, about −1 … 1."""
    if not ULTRAFACE.exists():
        raise MissingError("needs ../shared/models/ultraface")
    return Samples([{"input": planes(w.resize((320, 240)), 1 / 128, 127)} for w in crops(wheels, test)])


def read_yolov8(outputs: list[Array], _model: Path) -> Boxes:
    """Return boxes of an output (1, 4 + classes, places): centre, size, a score per class."""
    values = outputs[0][0].T
    return suppressed(around(values[:, :4]), values[:, 4:].argmax(1), values[:, 4:].max(1), 0.25, 0.45)


def around(boxes: Array) -> Array:
    """Return corners of boxes that are given by centre and size."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def read_yolox(outputs: list[Array], _model: Path) -> Boxes:
    """Return boxes of an output (1, places, 4 + 1 + classes) over grids of 8, 16 and 32 pixels."""
    values = outputs[0][0].astype(np.float64)
    grids, steps = [], []
    for step in (8, 16, 32):
        rows, columns = np.divmod(np.arange((416 // step) ** 2), 416 // step)
        grids.append(np.stack([columns, rows], axis=1))
        steps.append(np.full((len(rows), 1), step))
    grid, step = np.concatenate(grids), np.concatenate(steps)
    centre, size = (values[:, :2] + grid) * step, np.exp(np.minimum(values[:, 2:4], 10)) * step
    scores = values[:, 4:5] * values[:, 5:]
    corners = around(np.concatenate([centre, size], axis=1))
    return suppressed(corners, scores.argmax(1), scores.max(1), 0.1, 0.45)


def read_ultraface(outputs: list[Array], _model: Path) -> Boxes:
    """Return boxes in pixels of 240 × 320, of scores (1, places, 2) and corners (1, places, 4) in 0 … 1."""
    scores, corners = outputs[0][0, :, 1], outputs[1][0] * (320, 240, 320, 240)
    return suppressed(corners, np.zeros(len(scores), int), scores, 0.7, 0.3)


BOXES: tuple[Measure, ...] = (Measure("F1 of boxes", "float", f1), Measure("mean IoU", "float", mean_overlap))

NETWORKS = (
    Network(
        "NudeNet 320n",
        "nudenet",
        "nudenet/320n.onnx",
        {"images": (1, 3, 320, 320)},
        squares,
        read_yolov8,
        BOXES,
    ),
    Network("ddddocr detection", "ddddocr", "ddddocr/common_det.onnx", {}, glyphs, read_yolox, BOXES),
    Network("UltraFace", "", str(ULTRAFACE / "version-RFB-320.onnx"), {}, faces, read_ultraface, BOXES),
)
