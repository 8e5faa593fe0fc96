"""ONNX Runtime, the engine that float models and quantized models are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.net import Array


def session(model: ModelProto, *, optimize: bool = True) -> Any:
    """Return an ONNX Runtime session of `model`; raises ModelError when it cannot be loaded.

    Without `optimize` the session is ready sooner and runs slower: right for a single run.
    """
    import onnxruntime as ort  # noqa: PLC0415  (costs 0.1 s; only calibration needs it)

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised with its message
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class per status code, protobuf one for 2 GiB
        raise ModelError(f"model '{model.graph.name}': ONNX Runtime cannot load it ({error})") from error


def run_once(model: ModelProto, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return `outputs` of `model` by name, computed in one run of an unoptimized session."""
    return run(session(model, optimize=False), feeds, outputs)


def run(engine: Any, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return `outputs` by name; raises ModelError with ONNX Runtime's words when the run fails."""
    try:
        return dict(zip(outputs, engine.run(list(outputs), dict(feeds)), strict=True))
    except Exception as error:  # as above: one class per status code
        raise ModelError(f"the float model does not run on ONNX Runtime ({error})") from error
