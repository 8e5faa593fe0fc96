"""ONNX Runtime, the engine that float models and quantized models are run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from onnx import ModelProto, ValueInfoProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.net import SMALL, Net, Shape, assemble

APART = 1 << 20
"""A net whose constants take more bytes is run on them where they are.

That spares three copies of them, and a model of protobuf holds 2 GiB at most.
"""

HUGE = 1 << 30
"""From here on the engine does not keep a second form of every weight, which would be faster."""


def net_session(net: Net, extra_outputs: Sequence[str] = ()) -> Any:
    """Return a session of a net; `extra_outputs` are float32 tensors that it makes too.

    Where its constants take more than APART bytes, they are not copied: memory-mapped ones stay in their
    file. The arrays must live as long as the session: those of the net do.
    """
    if sum(array.nbytes for array in net.consts.values()) <= APART:
        return session(assemble(net, extra_outputs))
    large = {name: array for name, array in net.consts.items() if array.size > SMALL and _is_shareable(array)}
    return session(assemble(net, extra_outputs, apart=large), weights=large)


def _is_shareable(array: Array) -> bool:
    """Whether ONNX Runtime takes the memory of an array as it is."""
    return bool(array.flags.c_contiguous and array.flags.aligned and array.dtype.kind in "biuf")


def session(
    model: ModelProto,
    *,
    optimize: bool = True,
    threads: int = 0,
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> Any:
    """Return an ONNX Runtime session of `model`; raises ModelError when it cannot be loaded.

    Without `optimize` the session is ready sooner and runs slower: right for a single run. threads: 0 for one
    per core; with 1 the session starts no thread. weights: the initializers whose data the model has not.
    """
    from openbpu.engine import onnxruntime as ort  # noqa: PLC0415  (0.1 s; only calibration needs it)
    from openbpu.engine.bounded import bounded, check  # noqa: PLC0415  (as above)

    options = ort.SessionOptions()
    # Pairs stay pairs: integer kernels round otherwise, and overflow on processors without VNNI.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Waiting threads that spin take a core from whatever runs between two runs: a third of the time of many.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised with its message
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers([*weights], values)
        if sum(array.nbytes for array in weights.values()) > HUGE:
            options.add_session_config_entry("session.disable_prepacking", "1")
    if not optimize:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # as the nodes stand in the file
    try:
        data = model.SerializeToString()
        named = b"".join(part.SerializeToString() for part in (*model.graph.node, *model.functions))
        check(data, named)
        made = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except ModelError:  # of the check
        raise
    except Exception as error:  # ONNX Runtime has an exception class per status code, protobuf one for 2 GiB
        raise ModelError(f"model '{model.graph.name}': ONNX Runtime cannot load it ({error})") from error
    return bounded(made, named)


def float_shapes(model: ModelProto, names: Sequence[str]) -> dict[str, Shape | None]:
    """Return the float32 tensors among `names` with the shapes that ONNX Runtime infers."""
    asked = ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(ValueInfoProto(name=name) for name in names)
    try:
        outputs = session(asked, optimize=False).get_outputs()
    except ModelError:
        return {}
    floats = [value for value in outputs if value.name in names and value.type == "tensor(float)"]
    return {value.name: tuple(value.shape) or None for value in floats}


def run_once(model: ModelProto, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return `outputs` of `model` by name, computed in one run of an unoptimized session."""
    return run(session(model, optimize=False), feeds, outputs)


def run(engine: Any, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Return `outputs` by name; raises ModelError with ONNX Runtime's words when the run fails."""
    try:
        return dict(zip(outputs, engine.run(list(outputs), dict(feeds)), strict=True))
    except ModelError:  # it was stopped
        raise
    except Exception as error:  # as above: one class per status code
        raise ModelError(f"the model does not run on ONNX Runtime ({error})") from error
