"""What no array and no program can hold is refused by name; what `compile` returns can be written."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compiler.reading import model, run
from openbpu.arch.errors import CompileError, InputError, InternalError, ModelError
from openbpu.arch.hbm import to_bytes
from openbpu.arch.program import CpuSegment
from openbpu.compiler import api as door
from openbpu.compiler import check, compile  # noqa: A004 - the word of the field
from openbpu.compiler.lower.work import Work
from openbpu.compiler.reader import elements, read_model, to_onnx
from openbpu.compiler.reader.tensors import TensorReader

HUGE = 1 << 62
PLAIN = "g (float[2] x) => (float[2] y) { y = Relu (x) }"


def relu(shape: list[int], unread: list[int] | None = None) -> ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if unread is not None:
        inputs.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, unread))
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def with_weight(tensor: TensorProto) -> ModelProto:
    proto = model("g (float[2] x) => (float[N] y) { y = Add (x, w) }")
    tensor.name = "w"
    proto.graph.initializer.append(tensor)
    return proto


# --- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (relu([1] * 33), "input 'x': number of axes must be at most 32, not 33"),
        (relu([2], [HUGE]), "input 'u': size must be at most 2 GiB, not 18,446,744,073,709,551,616 bytes"),
        (relu([2], [0, HUGE]), "input 'u': size must be at most 2 GiB"),
        (
            with_weight(TensorProto(data_type=1, dims=[1] * 65, raw_data=bytes(4))),
            "tensor 'w': number of axes",
        ),
        (with_weight(TensorProto(data_type=1, dims=[0, HUGE])), "tensor 'w': size must be at most 2 GiB"),
    ],
)
def test_a_shape_that_no_array_has_is_refused(proto: ModelProto, said: str) -> None:
    for ask in (check, compile):
        with pytest.raises(ModelError) as error:
            ask(proto, march="nash-e")
        assert said in str(error.value)


def test_a_result_of_too_many_axes_is_refused_with_its_node() -> None:
    text = "g (float[2] x) => (float[N] y) <int64[32] a = {AXES}> { y = Unsqueeze (x, a) }"
    proto = model(text.replace("AXES", ", ".join(str(i) for i in range(32))))
    with pytest.raises(
        ModelError, match=r"\(Unsqueeze\): output 'y': number of axes must be at most 32, not 33"
    ):
        read_model(proto)


@pytest.mark.parametrize("sizes", [["2"], [2.5], 7, [None]])
def test_sizes_that_are_no_whole_numbers_are_refused(sizes: object) -> None:
    with pytest.raises(InputError, match="shape of 'x': sizes must be whole numbers, not"):
        compile(model(PLAIN.replace("2", "N")), march="nash-e", shapes={"x": sizes})  # type: ignore[dict-item]


def test_an_absurd_size_of_a_dynamic_axis_is_refused() -> None:
    with pytest.raises(ModelError, match="input 'x': size must be at most 2 GiB"):
        compile(model(PLAIN.replace("2", "N")), march="nash-e", shapes={"x": [HUGE]})


@pytest.mark.parametrize("name", ["y", "k", "x"])
def test_a_name_that_stands_twice_among_the_outputs_is_refused(name: str) -> None:
    proto = model(
        "g (float[2] x) => (float[2] y, float[1] k, float[2] x) <float[1] k = {3}> { y = Relu (x) }"
    )
    assert to_bytes(compile(proto, march="nash-e"))
    proto.graph.output.add().CopyFrom(next(v for v in proto.graph.output if v.name == name))
    with pytest.raises(ModelError, match=f"output '{name}': name must be unique, not used twice"):
        compile(proto, march="nash-e")


# --- constants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in TensorProto.DataType.values() if k])
@pytest.mark.parametrize("raw", [True, False])
def test_a_constant_of_any_element_type_is_read(kind: int, raw: bool) -> None:
    name = elements.name_of(kind)
    tensor = TensorProto(data_type=kind, dims=[3])
    if raw:
        tensor.raw_data = bytes(-(-3 * elements.bits_of(name) // 8))
    else:
        field = getattr(tensor, helper.tensor_dtype_to_field(kind))
        packed = {4: 2, 2: 1}.get(elements.bits_of(name), 6 if name.startswith("complex") else 3)
        field.extend([b"\xff"] * 3 if name == "string" else [0] * packed)
    if name == "string":
        with pytest.raises(
            ModelError, match="strings must be in string_data" if raw else "data must be readab"
        ):
            TensorReader(None).array(tensor)
    else:
        array = TensorReader(None).array(tensor)
        assert (elements.name_of_array(array), array.shape) == (name, (3,))


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("text", ["9" * 5000, "-1", "", "٣", "1e3"])
def test_a_strange_number_of_external_data_is_refused(tmp_path: Path, key: str, text: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    error = _external(tmp_path, "w.bin", **{key: text})
    assert f"external data {key} must be a number of bytes, not" in error or "bytes long" in error
    assert len(error) < 300


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("a" * 5000, "unreadable"),
        ("folder", "must be in a regular file"),
        ("pipe", "must be in a regular file"),
        ("none", "missing"),
        ("w.bin/x", "unreadable"),
        ("../w.bin", "must be inside"),
        ("w\0.bin", "must be inside"),
    ],
)
def test_a_file_of_external_data_that_cannot_be_mapped_is_refused(
    tmp_path: Path, location: str, said: str
) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert said in _external(tmp_path, location)


def _external(folder: Path, location: str, **numbers: str) -> str:
    """What is said about a weight in a file."""
    tensor = TensorProto(data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **numbers}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(with_weight(tensor).SerializeToString())
    with pytest.raises(ModelError, match="tensor 'w': external data") as error:
        read_model(folder / "m.onnx")
    return str(error.value)


# --- sparse tensors --------------------------------------------------------------------------------------


def sparse(indices: object, dims: list[int], count: int, kind: type = np.int64) -> ModelProto:
    proto = model("g (float[2,3] x) => (float[2,3] y) { y = Add (x, w) }")
    values = numpy_helper.from_array(np.arange(1, count + 1, dtype=np.float32), "w")
    at = numpy_helper.from_array(np.array(indices, kind), "at")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, dims))
    return proto


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_a_sparse_initializer_becomes_dense(indices: object) -> None:
    feeds = {"x": np.zeros((2, 3), np.float32)}
    (got,) = run(to_onnx(read_model(sparse(indices, [2, 3], 2))), feeds)
    assert got.tolist() == [[0, 1, 0], [0, 0, 2]]


@pytest.mark.parametrize(
    ("indices", "dims", "said"),
    [
        ([1, 6], [2, 3], r"indices must be inside the shape \(2, 3\), not \[6\] \(element 1\)"),
        ([-1, 1], [2, 3], "indices must be inside the shape"),
        ([[0, 1], [1, -1]], [2, 3], "indices must be inside the shape"),
        ([[0, 1], [2, 0]], [2, 3], "indices must be inside the shape"),
        ([2, 1], [2, 3], "indices must be in rising order, each once"),
        ([1, 1], [2, 3], "indices must be in rising order, each once"),
        ([[0, 1, 0], [1, 0, 0]], [2, 3], "indices must be int64 of shape"),
        ([1], [2, 3], "indices must be int64 of shape"),
        ([0, 1], [1 << 31, 3], "size must be at most 2 GiB"),
        ([0, 1], [-2, 3], "dimensions must be 0 or more"),
        ([0, 1], [1] * 40, "number of axes must be at most 32"),
    ],
)
def test_sparse_indices_are_those_that_onnx_allows(indices: object, dims: list[int], said: str) -> None:
    with pytest.raises(ModelError, match=f"sparse tensor 'w': {said}"):
        read_model(sparse(indices, dims, 2))


def test_sparse_indices_are_int64() -> None:
    with pytest.raises(ModelError, match="indices must be int64 of shape"):
        read_model(sparse([0, 1], [2, 3], 2, np.int32))


def test_many_small_sparse_tensors_cannot_fill_the_memory() -> None:
    proto = sparse([0, 1], [1 << 28], 2)
    for i in range(4):
        proto.graph.sparse_initializer.append(proto.graph.sparse_initializer[0])
        proto.graph.sparse_initializer[-1].values.name = f"w{i}"
    with pytest.raises(ModelError, match="its dense form must be numbers of at most 2 GiB"):
        read_model(proto)


# --- constant folding ------------------------------------------------------------------------------------


def growing(many: int, op: str) -> ModelProto:
    """Constants of 64 MiB each that a file of some KB describes; each is read by an Add of its own."""
    head = "g (float[1] x) => (float[1] y) <int64[1] n = {16777216}, float[1] one = {1}, int64[1] zero = {0}>"
    body = [f"c{i} = {op} s{i} = ReduceSum (c{i}, zero) r{i} = Add (x, s{i})" for i in range(many)]
    return model(f"{head} {{ {' '.join(body)} y = Sum ({', '.join(f'r{i}' for i in range(many))}) }}")


@pytest.mark.parametrize("op", ["Tile (one, n)", "ConstantOfShape (n)", "Expand (one, n)"])
def test_constants_that_describe_gigabytes_are_not_made(op: str) -> None:
    tracemalloc.start()
    try:
        read_model(growing(12, op))
        assert tracemalloc.get_traced_memory()[1] < 700 << 20
    finally:
        tracemalloc.stop()


def test_a_chain_that_doubles_stops_being_folded() -> None:
    text = " ".join(f"c{i + 1} = Concat <axis = 0> (c{i}, c{i})" for i in range(60))
    head = "g (float[1] x) => (float[N] y) <float[1] c0 = {1}>"
    with pytest.raises(ModelError, match=r"\(Concat\): output 'c30': size must be at most 2 GiB"):
        read_model(model(f"{head} {{ {text} y = Add (x, c60) }}"))


def test_a_large_constant_that_repeats_itself_is_small_in_a_cpu_segment() -> None:
    text = """g (float[1,4] x) => (float[1,500000] y) <int64[2] s = {4, 500000}> {
        w = ConstantOfShape <value = float[1] {0.5}> (s) y = MatMul (x, w) }"""
    written = to_onnx(read_model(model(text)))
    assert written.ByteSize() < 2000
    (got,) = run(written, {"x": np.ones((1, 4), np.float32)})
    assert got.shape == (1, 500_000)
    assert (got == 2).all()


# --- the last net ----------------------------------------------------------------------------------------


def test_a_failure_of_the_compiler_is_one_error_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(door, "partition", fail)
    for ask in (check, compile):
        with pytest.raises(
            InternalError, match=r"does not get through \(IndexError: tuple index out"
        ) as error:
            ask(model(PLAIN), march="nash-e")
        assert isinstance(error.value.__cause__, IndexError)


def test_a_model_too_large_for_the_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(door, "partition", fail)
    with pytest.raises(
        CompileError, match=r"compile: the memory it needs must be there, not \(out of memory\)"
    ):
        compile(model(PLAIN), march="nash-e")


def test_what_a_progress_function_raises_reaches_its_owner() -> None:
    def stop(stage: str, share: float) -> None:
        raise KeyError(stage)

    with pytest.raises(KeyError, match="read"):
        compile(model(PLAIN), march="nash-e", progress=stop)


# --- element types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bfloat16", "int4", "uint4", "float4e2m1"])
@pytest.mark.parametrize("end", ["input", "output"])
def test_an_end_on_the_cpu_of_a_type_that_numpy_lacks_is_refused(kind: str, end: str) -> None:
    """ONNX Runtime computes with them, and can neither be given them nor give them back."""
    number = getattr(TensorProto, kind.upper())
    ends = {"input": (number, TensorProto.FLOAT), "output": (TensorProto.FLOAT, number)}[end]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=ends[1])],
        "g",
        [helper.make_tensor_value_info("x", ends[0], [2])],
        [helper.make_tensor_value_info("y", ends[1], [2])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    name = "x" if end == "input" else "y"
    with pytest.raises(ModelError, match=f"CPU: {end} '{name}': element type must be .*, not {kind}"):
        compile(proto, march="nash-e")


def test_work_beyond_all_measure_fits_a_segment() -> None:
    endless = Work(1, 1) * 2**80 + Work(1, 1) * 2**80
    program = compile(model("g (float[2] x) => (float[2] y) { y = Erf (x) }"), march="nash-e")
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    most = replace(segment, flops=endless.flops, bytes_moved=endless.moved)
    assert to_bytes(replace(program, segments=(most,)))
