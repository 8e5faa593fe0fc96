"""Calibration data as hmct's functions take them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.compat.samples import folder_samples
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.samples import input_of


def calibration(given: Mapping[str, Any], model: ModelProto, where: str) -> dict[str, list[Array]]:
    """Return samples by input: given as lists of arrays, arrays with samples first, or folders.

    Raises InputError for a name that is no input and for what cannot be read.
    """
    takers = {value.name: input_of(value) for value in fed_inputs(model)}
    for name in given:
        if name not in takers:
            raise InputError(must(where, "an input", f"one of {', '.join(takers)}", f"'{name}'"))
    found = {}
    for name, value in given.items():
        if isinstance(value, str | os.PathLike):
            found[name] = folder_samples(Path(value), takers[name])
        else:
            found[name] = [np.asarray(sample) for sample in value]
    return found
