"""How close a quantized model stays to its float model, run on ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.quantization.measures import Sums
from openbpu.quantization.onnx.engine import net_session, run, session
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.load import ModelLike, read_model
from openbpu.quantization.onnx.net import Net, take_apart
from openbpu.quantization.onnx.samples import Calibration, Feed, feeds_of

APART = 64 << 20
"""A model with more weights is taken apart, since protobuf cannot hand 2 GiB over as a whole."""

JUDGED_SAMPLES = 16
"""A comparison reads this many samples at most."""


def output_cosines(reference: ModelLike, quantized: ModelLike, data: Calibration) -> dict[str, float]:
    """Return by output the cosine between two models of the same inputs and outputs.

    `data` as in `quantize`; at most JUDGED_SAMPLES samples are run. 1.0 where both are all zero.
    """
    model = read_model(reference)
    feeds = feeds_of(data, fed_inputs(model))[:JUDGED_SAMPLES]
    names = [v.name for v in model.graph.output]
    return cosines(names, run_all(model, names, feeds), run_all(read_model(quantized), names, feeds))


def run_all(model: ModelLike | Net, names: Sequence[str], feeds: Sequence[Feed]) -> list[dict[str, Array]]:
    """Return the outputs `names` for every feed."""
    whole = model if isinstance(model, Net) else read_model(model)
    if isinstance(whole, ModelProto) and not whole.functions and _is_large(whole):
        whole = take_apart(whole)
    engine = net_session(whole) if isinstance(whole, Net) else session(whole)
    return [run(engine, feed, names) for feed in feeds]


def _is_large(model: ModelProto) -> bool:
    return sum(int(math.prod(tensor.dims)) for tensor in model.graph.initializer) > APART


def cosines(
    names: Sequence[str], a: Sequence[dict[str, Array]], b: Sequence[dict[str, Array]]
) -> dict[str, float]:
    """Return by output the cosine between the values of all runs taken as one vector."""
    return {name: _cosine([r[name] for r in a], [r[name] for r in b]) for name in names}


def _cosine(a: Sequence[Array], b: Sequence[Array]) -> float:
    """NaN where a shape that depends on data (NonZero, NonMaxSuppression) came out different, or infinity."""
    sums = Sums()
    for x, y in zip(a, b, strict=True):
        sums.add(np.asarray(x), np.asarray(y))
    found = sums.closeness()
    return found.cosine if np.isfinite(found.max_abs) else float("nan")
