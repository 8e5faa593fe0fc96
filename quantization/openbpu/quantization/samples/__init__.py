"""Samples from files, for every door: arrays, `.npz`, pictures and folders, as a model's inputs take them.

Imports arch, NumPy and, where a picture is read, Pillow; knows nothing of ONNX, of a compiler or a runtime.
"""

from openbpu.quantization.samples.arrays import read_numpy, split
from openbpu.quantization.samples.files import Sample, read_samples, stacked
from openbpu.quantization.samples.images import IMAGES, Changes, Pixels, frame, read_image, read_pixels
from openbpu.quantization.samples.inputs import Input

__all__ = [
    "IMAGES",
    "Changes",
    "Input",
    "Pixels",
    "Sample",
    "frame",
    "read_image",
    "read_numpy",
    "read_pixels",
    "read_samples",
    "split",
    "stacked",
]
