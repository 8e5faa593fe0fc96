"""The trained network of this repository, for `accuracy.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accuracy_networks import ROOT, Measure, Network, Samples, Wheels
from accuracy_scores import Array, exact

DIGITS = ROOT / "models" / "digits"


def digits(_wheels: Wheels, test: bool) -> Samples:
    """Return the images that ship with the network: 64 for calibration, 200 for the test."""
    if not test:
        return Samples([{"image": image[None]} for image in np.load(DIGITS / "calibration.npz")["image"]])
    data = np.load(DIGITS / "test.npz")
    images = data["images"].astype(np.float32) / 16
    return Samples([{"image": image[None]} for image in images], [int(n) for n in data["labels"]])


def read_digit(outputs: list[Array], _model: Path) -> int:
    """Return the class that scores highest."""
    return int(outputs[0].argmax())


DIGIT = (Measure("digits right", "truth", exact), Measure("digits as float", "float", exact))

NETWORKS = (Network("digits", "", "models/digits/digits.onnx", {}, digits, read_digit, DIGIT),)
