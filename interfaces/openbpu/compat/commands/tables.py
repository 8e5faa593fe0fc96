"""The tables that the vendor's tools print: nodes with cosine and threshold, outputs with distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.program import Placement
from openbpu.compat.screen import table
from openbpu.evaluation.analysis import Analysis, analyze
from openbpu.quantization.measures import Closeness, Sums
from openbpu.report.placement import placement_json, placement_summary
from openbpu.report.text import DASH
from openbpu.runtime.reference import Reference

NODE_COLUMNS = ("Node", "ON", "Subgraph", "Type", "Cosine Similarity", "Threshold", "In/Out DataType")
OUTPUT_COLUMNS = ("Output", "Cosine Similarity", "L1 Distance", "L2 Distance", "Chebyshev Distance")
DISTANCES = "L1: mean of |difference|; L2: root of the mean of its squares; Chebyshev: the largest"
SAMPLES = 16
"""So many calibration samples are compared at most."""

Data = Mapping[str, Sequence[Array]]


def compared(original: ModelProto, quantized: ModelProto, data: Data | None) -> Analysis | None:
    """Return what each node loses on the samples; None without any, or if they cannot be compared."""
    if data is None:
        return None
    try:
        return analyze(original, quantized, dict(data), samples=SAMPLES, pictures=False)
    except OpenbpuError:
        return None


def node_table(placement: Sequence[Placement], found: Analysis | None) -> str:
    """Return a row per node; cosine is to the float model's values, threshold the largest of the codes'."""
    rows = {row.node: row for row in found.rows} if found is not None else {}
    cells = []
    for place in placement_json(placement):
        row = rows.get(place["node"])
        cosine = DASH if row is None else f"{row.so_far.cosine:.6f}"
        threshold = DASH if row is None or row.range is None else f"{max(map(abs, row.range)):.6g}"
        cells.append(
            (place["node"], place["on"], place["subgraph"], place["type"], cosine, threshold, place["dtypes"])
        )
    reasons = [
        f"{place['node']}: on the CPU: {place['reason']}" + (f"; {place['fix']}" if place["fix"] else "")
        for place in placement_json(placement)
        if place["on"] == "CPU"
    ]
    return "\n".join([table(NODE_COLUMNS, cells), *reasons, placement_summary(placement)])


def output_table(original: ModelProto, quantized: ModelProto, data: Data | None) -> str:
    """Return a row per output of the quantized model against the float one; "" where there are no samples."""
    if data is None:
        return ""
    found = output_closeness(original, quantized, data)
    rows = [(name, *distances(of)) for name, of in found.items()]
    return f"{table(OUTPUT_COLUMNS, rows)}\n{DISTANCES}"


def output_closeness(expected: Any, found: Any, data: Data) -> dict[str, Closeness]:
    """Return by output how close two ONNX models are on the samples."""
    models = Reference(expected), Reference(found)
    sums = {name: Sums() for name in models[0].output_names}
    for feed in feeds(data):
        first, second = (model.run(feed) for model in models)
        for name, of in sums.items():
            if name in second:
                of.add(np.asarray(first[name]), np.asarray(second[name]))
    return {name: of.closeness() for name, of in sums.items()}


def feeds(data: Data) -> list[dict[str, Array]]:
    """Return one feed per sample, SAMPLES at most."""
    count = min(SAMPLES, min((len(every) for every in data.values()), default=0))
    return [{name: np.asarray(every[n], np.float32) for name, every in data.items()} for n in range(count)]


def distances(of: Closeness) -> tuple[str, str, str, str]:
    """Return cosine, L1, L2 and Chebyshev as the table has them."""
    return f"{of.cosine:.6f}", f"{of.l1:.6f}", f"{sqrt(of.mse):.6f}", f"{of.max_abs:.6f}"
