"""The witness on ONNX's own test case of every operator it has a kernel for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.evaluation.reference import KERNELS, evaluate
from openbpu.evaluation.reference.kernel import Array, as_float64

NOT_MEANT = (
    "training_mode",  # the witness evaluates inference
    "antialias",
    "empty_set",
    "downsample_scales_linear_align_corners",  # expects the unrounded output size; ONNX Runtime does not
    "downsample_scales_cubic_align_corners",
)


def _cases() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        yield from load_model_tests(kind="node")


def _covered(model: onnx.ModelProto) -> bool:
    return all(n.op_type in KERNELS and n.domain in ("", "ai.onnx") for n in model.graph.node)


def _arrays(values: Any) -> bool:
    return all(isinstance(v, np.ndarray) for v in values)


def agrees(expected: Array, found: Array) -> bool:
    wide = as_float64(expected)
    if wide.shape != found.shape:
        return False
    if wide.dtype != np.float64:
        return wide.dtype == found.dtype and bool((wide == found).all())
    coarse = expected.dtype not in (np.float32, np.float64)
    relative, absolute = (2e-2, 1e-2) if coarse else (1e-3, 1e-5)
    return np.allclose(found, wide, rtol=relative, atol=absolute, equal_nan=True)


def _disagreements(name: str, model: onnx.ModelProto, inputs: Any, outputs: Any) -> list[str]:
    named = dict(zip([i.name for i in model.graph.input], inputs, strict=False))
    values = evaluate(model, named).values
    expected = zip([o.name for o in model.graph.output], outputs, strict=True)
    # Secondary outputs (indices, masks, statistics) are not the witness's business.
    return [f"{name}: {o}" for o, v in expected if o in values and not agrees(v, values[o])]


def test_agrees_with_the_onnx_case_of_every_operator() -> None:
    bad: list[str] = []
    seen: set[str] = set()
    for case in _cases():
        if case.model is None or any(part in case.name for part in NOT_MEANT) or not _covered(case.model):
            continue
        for inputs, outputs in case.data_sets:
            if _arrays(inputs) and _arrays(outputs):
                bad += _disagreements(case.name, case.model, inputs, outputs)
                seen |= {n.op_type for n in case.model.graph.node}
    if not seen:
        pytest.skip("this version of onnx keeps its cases in files")
    assert not bad
    assert len(seen) > 100
