"""CPU segments of a forged `.hbm`: no file is read, nothing is computed that the file does not declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from openbpu.arch import memory
from openbpu.arch.errors import HbmError, ModelError, SimulationError
from openbpu.arch.program import BpuSegment, CpuSegment, Program
from openbpu.compiler import compile as compile_model
from openbpu.runtime import Session
from openbpu.runtime.session import Mode
from runtime.models import cpu_program, floats
from runtime.qdq import mixed_model
from witness import ort

node = helper.make_node
X = np.array([[-1, 0, 1], [2, -2, 0.5]], np.float32)


def outside(location: str = "secret", kind: int = TensorProto.FLOAT) -> TensorProto:
    """A tensor whose data lie in another file."""
    tensor = TensorProto(name="w", data_type=kind, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def add(model: ModelProto, *nodes: NodeProto) -> None:
    model.graph.node.extend(nodes)


def constant(**value: Any) -> NodeProto:
    return node("Constant", [], ["w"], **value)


def body(*nodes: NodeProto, tensors: tuple[TensorProto, ...] = ()) -> GraphProto:
    return helper.make_graph(
        [*nodes, node("Identity", ["w"], ["v"])], "g", [], [floats("v", (2, 3))], tensors
    )


def choice(inner: GraphProto) -> NodeProto:
    return node("If", ["c"], ["v"], then_branch=inner, else_branch=body(constant(value_float=1.0)))


def sparse(name: str) -> SparseTensorProto:
    whole = TensorProto(name="w", data_type=TensorProto.INT64, dims=[1], int64_data=[1])
    made = SparseTensorProto(dims=[6], values=whole, indices=whole)
    getattr(made, name).CopyFrom(outside(kind=TensorProto.INT64))
    return made


def function(model: ModelProto, first: NodeProto, **more: Any) -> None:
    nodes = [first, node("Add", ["a", "w"], ["b"])]
    made = helper.make_function("my", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    for default in more.get("defaults", ()):
        made.attribute_proto.append(default)
    model.functions.append(made)


def training(model: ModelProto, name: str) -> None:
    getattr(model.training_info.add(), name).CopyFrom(body(constant(value=outside())))


def context(model: ModelProto) -> None:
    add(model, node("EPContext", ["image"], ["z"], domain="com.microsoft", embed_mode=0))


HIDDEN: dict[str, Callable[[ModelProto], Any]] = {
    "initializer": lambda m: m.graph.initializer.append(outside()),
    "memory address": lambda m: m.graph.initializer.append(outside("*/_ORT_MEM_ADDR_/*")),
    "sparse values": lambda m: m.graph.sparse_initializer.append(sparse("values")),
    "sparse indices": lambda m: m.graph.sparse_initializer.append(sparse("indices")),
    "attribute": lambda m: add(m, constant(value=outside())),
    "sparse attribute": lambda m: add(m, constant(sparse_value=sparse("values"))),
    "list of tensors": lambda m: add(m, node("Any", [], ["w"], domain="my", all=[outside()])),
    "list of graphs": lambda m: add(m,
        node("Any", [], ["w"], domain="my", all=[body(constant(value=outside()))])
    ),
    "branch": lambda m: add(m, choice(body(tensors=(outside(),)))),
    "branch of a branch": lambda m: add(m, choice(body(choice(body(constant(value=outside())))))),
    "loop": lambda m: add(m, node("Loop", ["n"], ["w"], body=body(constant(value=outside())))),
    "function": lambda m: function(m, constant(value=outside())),
    "branch of a function": lambda m: function(m, choice(body(constant(value=outside())))),
    "default of a function": lambda m: function(
        m, constant(value_float=1.0), defaults=[helper.make_attribute("t", outside())]
    ),
    "training": lambda m: training(m, "algorithm"),
    "start of training": lambda m: training(m, "initialization"),
    "compiled code": context,
    "options": lambda m: m.metadata_props.add(key="ort_config", value="{}"),
}  # fmt: skip


def with_model(change: Callable[[ModelProto], Any]) -> Program:
    program = cpu_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    model = ModelProto.FromString(segment.model)
    change(model)
    return replace(program, segments=(replace(segment, model=model.SerializeToString()),))


@pytest.mark.parametrize("place", HIDDEN)
def test_a_reference_to_another_file_is_refused_wherever_it_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(48))
    with pytest.raises(HbmError, match="which no compiler of openbpu writes"):
        Session(with_model(HIDDEN[place])).run({"image": X})


def test_the_format_of_onnx_runtime_is_refused(tmp_path: Path) -> None:
    """Its tensors may lie in other files too, and nobody looked into it."""
    program = cpu_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    other = replace(segment, model=ort.in_own_format(segment.model, tmp_path))
    with pytest.raises(ModelError, match="cannot load it"):
        Session(replace(program, segments=(other,))).run({"image": X})


def instead(op: str, *constants: np.ndarray[Any, Any], **attributes: Any) -> Callable[[ModelProto], None]:
    """Another node in place of the only one, with these constants behind its input."""

    def change(model: ModelProto) -> None:
        names = [f"k{i}" for i in range(len(constants))]
        graph = model.graph
        given, made = graph.input[0].name, graph.output[0].name
        del graph.node[:], graph.output[:]
        graph.initializer.extend(
            onnx.numpy_helper.from_array(v, n) for v, n in zip(constants, names, strict=True)
        )
        graph.node.append(node(op, [given, *names], [made], **attributes))
        graph.output.append(onnx.ValueInfoProto(name=made))

    return change


FORGED: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "scalar": (instead("ReduceSum", keepdims=0), "the shape of output 'result' must be (2, 3), not ()"),
    "shape": (instead("Reshape", np.array([3, 2])), "must be (2, 3), not (3, 2)"),
    "rank": (instead("Reshape", np.array([1, 2, 3])), "must be (2, 3), not (1, 2, 3)"),
    "empty": (instead("Slice", np.array([0]), np.array([0])), "must be (2, 3), not (0, 3)"),
    "string": (instead("Cast", to=TensorProto.STRING), "output 'result' must be float32, not object"),
    "bool": (instead("Cast", to=TensorProto.BOOL), "must be float32, not bool"),
    "wider": (instead("Cast", to=TensorProto.DOUBLE), "must be float32, not float64"),
    "same size": (instead("Cast", to=TensorProto.INT32), "must be float32, not int32"),
    "sequence": (instead("SplitToSequence"), "must be float32, not list"),
}


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("name", FORGED)
def test_outputs_are_what_the_file_declares(name: str, mode: Literal["fast", "exact"]) -> None:
    change, said = FORGED[name]
    with pytest.raises(HbmError) as raised:
        Session(with_model(change), mode=mode).run({"image": X})
    assert said in str(raised.value)


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("what", ["ddr_bytes", "chip_bytes", "l2m_bytes"])
def test_more_memory_than_there_is_is_refused_by_both_modes(
    monkeypatch: pytest.MonkeyPatch, mode: Literal["fast", "exact"], what: str
) -> None:
    program = compile_model(mixed_model(), march="nash-e")
    segment, *others = program.segments
    assert isinstance(segment, BpuSegment)
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1 << 30)
    if what == "ddr_bytes":
        forged = replace(program, ddr_bytes=1 << 31)
    elif what == "chip_bytes":
        forged = replace(program, segments=(replace(segment, chip_bytes=1 << 31), *others))
    else:
        forged = replace(program, segments=(replace(segment, l2m_bytes=1 << 31), *others))
    feed = {"image": np.ones((1, 8, 6, 6), np.float32)}
    Session(program, mode=mode).run(feed)
    with pytest.raises(SimulationError, match="must be no more than this computer has"):
        Session(forged, mode=mode).run(feed)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_memory_that_runs_out_is_an_error_of_openbpu(
    monkeypatch: pytest.MonkeyPatch, mode: Literal["fast", "exact"]
) -> None:
    session = Session(cpu_program(), mode=mode)
    (runner,) = session._ready()

    def run(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(SimulationError, match="must be no more than this computer has"):
        session.run({"image": X})


def doubled(model: ModelProto, levels: int) -> None:
    """Functions of which each calls the next one twice, called once."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    for level in range(levels):
        calls = [node(f"F{level + 1}", ["a"], ["b"], domain="my")] * 2
        body_of = [node("Relu", ["a"], ["b"])] if level == levels - 1 else calls
        model.functions.append(helper.make_function("my", f"F{level}", ["a"], ["b"], body_of, opsets))
    model.opset_import.append(helper.make_opsetid("my", 1))
    add(model, node("F0", [model.graph.input[0].name], ["unused"], domain="my"))


@pytest.mark.parametrize("levels", [1, 40])
def test_functions_of_a_subgraph_are_refused_before_anybody_inlines_them(levels: int) -> None:
    with pytest.raises(HbmError, match="it has functions of its own, which no compiler of openbpu writes"):
        Session(with_model(lambda m: doubled(m, levels))).run({"image": X})


@pytest.mark.parametrize("word", [b"", b"location", b"EPContext", b"ort_config"])
@pytest.mark.parametrize("model", [b"\xff", b"\x0b", b"\x3a\x7f", b"\x80" * 11, b"\x0d\0"])
def test_bytes_that_are_no_message_are_refused(model: bytes, word: bytes) -> None:
    """With a word that makes them be looked through for other files, or without."""
    model += word
    program = cpu_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    broken = replace(program, segments=(replace(segment, model=model),))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        Session(broken).run({"image": X})
