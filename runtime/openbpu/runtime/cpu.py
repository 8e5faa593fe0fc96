"""CPU segments: ONNX subgraphs run by ONNX Runtime, meaning what ONNX says and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import HbmError, ModelError, must
from openbpu.arch.program import CpuSegment, Program, Tensor
from openbpu.arch.protos import external_tensors, field_numbers, messages

_SHOWN_NODES = 4
OPSET = "opset of ai.onnx"
_TOO_NEW = {
    OPSET: re.compile(r"Opset (\d+) is under development.*domain ai\.onnx is till opset (\d+)", re.DOTALL),
    "IR version": re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)"),
}
"""What ONNX Runtime says of a model that came after it: which of them it is, and the newest that it knows."""
_CONTEXT, _CONFIG = "EPContext", "ort_config"
_FUNCTIONS = 25  # the field of ModelProto
_FILE_WORDS = (b"location", _CONTEXT.encode(), _CONFIG.encode())
_NO_KERNEL = re.compile(r"Could not find an implementation for \w+\((\d+)\)")
_WHOLE_OPSET = 26
"""A later revision of an operator may have no kernel in an ONNX Runtime that takes models of its opset."""
_QUIET = 4  # ONNX Runtime's log: only what is fatal; its errors reach the user as exceptions


class CpuRunner:
    """One CPU segment, ready to run from any number of threads.

    Constant folding is allowed; the fusion of QDQ into integer kernels is not, because those round
    differently. Raises ModelError, naming segment and nodes, when ONNX Runtime cannot run it.
    """

    def __init__(self, program: Program, segment: CpuSegment, threads: int) -> None:
        self._segment = segment
        self._where = f"CPU segment '{segment.name}' ({_nodes(program, segment)})"
        _refuse_files(self._where, segment.model)
        _refuse_functions(self._where, segment.model)
        self._tensors = {i: program.tensors[i] for i in segment.outputs}
        self._session = make_engine(self._where, segment.model, threads)

    def run(self, inputs: Mapping[int, Array]) -> dict[int, Array]:
        """Return the outputs by tensor id: arrays, or what ONNX Runtime returns for a sequence or a map.

        Raises ModelError when a node fails on these values, HbmError when they make another type or shape
        than the file says.
        """
        segment = self._segment
        feeds = {name: inputs[i] for name, i in zip(segment.names_in, segment.inputs, strict=True)}
        try:
            made = self._session.run(list(segment.names_out), feeds)
        except Exception as error:
            raise run_failure(self._where, error) from error
        outputs = dict(zip(segment.outputs, made, strict=True))
        for i, value in outputs.items():
            _check_output(self._where, self._tensors[i], value)
        return outputs


def make_engine(where: str, model: str | bytes, threads: int, *, plain: bool = False) -> Any:
    """Return an ONNX Runtime session of a model (a path or bytes) that means what ONNX says.

    `plain`: nothing at all is optimised, as for a witness. Raises ModelError, beginning with `where`, when
    ONNX Runtime cannot load it.
    """
    from openbpu.engine import onnxruntime as ort  # noqa: PLC0415  # 0.1 s that most programs never pay
    from openbpu.engine.bounded import bounded, check  # noqa: PLC0415  # as above

    check(model)
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if plain else levels.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.load_model_format", "ONNX")  # its own is never looked into
    options.log_severity_level = _QUIET
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class per status code and no public base
        for what, said in _TOO_NEW.items():
            found = said.search(str(error))
            if found:
                raise TooNewError(where, what, int(found[1]), int(found[2]), ort.__version__) from error
        lacking = _NO_KERNEL.search(str(error))
        if lacking and int(lacking[1]) > _WHOLE_OPSET:  # it knows the opset, but not its operators
            revision = int(lacking[1])
            raise TooNewError(where, OPSET, revision, revision - 1, ort.__version__) from error
        raise ModelError(_failure(where, "load", error)) from error
    return bounded(session, model)


class TooNewError(ModelError):
    """A model of an opset or IR version that this ONNX Runtime does not know; `newest`: that it does."""

    def __init__(self, where: str, what: str, actual: int, newest: int, version: str) -> None:
        fix = f"export the model with {newest} or older, or install an ONNX Runtime newer than {version}"
        super().__init__(must(where, f"the {what}", f"<= {newest} for ONNX Runtime", actual, fix))
        self.what, self.newest = what, newest


def run_failure(where: str, error: Exception) -> ModelError:
    """Return what is said of a run that failed: why it was stopped, or what ONNX Runtime says."""
    return error if isinstance(error, ModelError) else ModelError(_failure(where, "run", error))


def _failure(where: str, what: str, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"{where}: ONNX Runtime cannot {what} it: {reason}; check these nodes in the ONNX model"


def _nodes(program: Program, segment: CpuSegment) -> str:
    """Return the user's nodes of a segment, the first few by name."""
    index = next((i for i, s in enumerate(program.segments) if s is segment), -1)
    inside = [f"{p.op} '{p.node}'" for p in program.placement if p.segment == index and p.on == "CPU"]
    if not inside:
        return f"{segment.nodes} nodes"
    more = len(inside) - _SHOWN_NODES
    return ", ".join(inside[:_SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")


def _check_output(where: str, t: Tensor, value: Any) -> None:
    """Refuse what would be another tensor than the one that everything behind it was compiled for."""
    if t.dtype is DType.OTHER:
        return  # only ever goes on to ONNX Runtime or to the user
    is_array = isinstance(value, np.ndarray | np.generic)
    if not is_array or value.dtype != t.dtype.numpy:
        actual = value.dtype.name if is_array else type(value).__name__
        raise _not_ours(must(where, f"output '{t.name}'", t.dtype.value, actual))
    if value.shape != t.shape and not t.is_shapeless:
        raise _not_ours(must(where, f"the shape of output '{t.name}'", t.shape, value.shape))


def _refuse_functions(where: str, model: bytes) -> None:
    """Functions that call functions are inlined before anything is checked: thirty of them fill the memory.

    The compiler inlines those of the user, so a subgraph of its own has none.
    """
    try:
        fields = field_numbers(model)
    except ValueError as error:
        raise ModelError(_failure(where, "load", error)) from error
    if _FUNCTIONS in fields:
        raise _not_ours(f"{where}: it has functions of its own")


def _refuse_files(where: str, model: bytes) -> None:
    """A `.hbm` is one file: a subgraph that names others would read whatever a forger likes."""
    if not any(word in model for word in _FILE_WORDS):
        return  # every reference to another file has one of these keys
    import onnx  # noqa: PLC0415  # as above; almost no subgraph holds these words

    try:
        proto = onnx.ModelProto.FromString(model)
    except Exception as error:  # protobuf's DecodeError
        raise ModelError(_failure(where, "load", error)) from error
    if any(external_tensors(proto)):
        raise _not_ours(f"{where}: its weights lie in another file")
    for message in messages(proto):
        if type(message).__name__ == "NodeProto" and message.op_type == _CONTEXT:
            raise _not_ours(f"{where}: its {_CONTEXT} '{message.name}' is compiled code in another file")
    if any(p.key == _CONFIG for p in proto.metadata_props):
        raise _not_ours(f"{where}: it sets options of ONNX Runtime")


def _not_ours(what: str) -> HbmError:
    return HbmError(f"{what}, which no compiler of openbpu writes; compile the model again")
