"""CPU segments mean what ONNX says, and their failures name the nodes."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import HbmError, MarchError, ModelError
from openbpu.arch.hbm import to_bytes, write_hbm
from openbpu.arch.program import CpuSegment, Program, Space, Tensor
from openbpu.runtime import Session
from runtime.models import cpu_program, floats, onnx_model

X = np.array([[-1, 0, 1], [2, -2, 0.5]], np.float32)


def test_program_bytes_and_path_run_alike(tmp_path: Path) -> None:
    program = cpu_program()
    write_hbm(program, tmp_path / "m.hbm")
    for source in (program, to_bytes(program), tmp_path / "m.hbm", str(tmp_path / "m.hbm")):
        result = Session(source).run({"image": X})
        np.testing.assert_array_equal(result.outputs["result"], np.maximum(X, 0))
        assert result.placement == program.placement


def test_outputs_belong_to_the_caller() -> None:
    program = replace(cpu_program(), outputs=(0, 1))
    x = X.copy()
    outputs = Session(program).run({"image": x}).outputs
    outputs["image"][:] = 7
    outputs["result"][:] = 7
    np.testing.assert_array_equal(x, X)


def test_operator_that_does_not_exist_is_named() -> None:
    message = r"CPU segment 'cpu0' \(NoSuchOperator 'only'\): ONNX Runtime cannot load it: .*NoSuchOperator"
    with pytest.raises(ModelError, match=message):
        Session(cpu_program("NoSuchOperator")).run({"image": X})


def test_subgraph_that_is_no_model_is_named() -> None:
    program = cpu_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    with pytest.raises(ModelError, match="cannot load it"):
        Session(replace(program, segments=(replace(segment, model=b"garbage"),))).run({"image": X})


def test_node_that_fails_on_the_values_is_named() -> None:
    nodes = [helper.make_node("Gather", ["table", "index"], ["result"], name="look")]
    model = onnx_model(
        [helper.make_node("Constant", [], ["index"], value_int=99), *nodes],
        [floats("table", (2, 3))],
        ["result"],
    )
    program = cpu_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    bad = replace(segment, model=model, names_in=("table",))
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot (run|load) it: .*look"):
        Session(replace(program, segments=(bad,))).run({"image": X})


def test_the_word_location_alone_is_no_reason_to_refuse() -> None:
    program = cpu_program()
    model = onnx.ModelProto.FromString(program.segments[0].model)  # type: ignore[union-attr]
    model.graph.node[0].doc_string = "location"
    same = replace(program, segments=(replace(program.segments[0], model=model.SerializeToString()),))
    np.testing.assert_array_equal(Session(same).run({"image": X}).outputs["result"], np.maximum(X, 0))


def qdq_program() -> Program:
    """A quantized MatMul in uint8: where a fusion into integer kernels would round otherwise."""
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 127, (64, 64), dtype=np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"]),
        helper.make_node("MatMul", ["d", "wd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "t", "z"], ["mq"]),
        helper.make_node("DequantizeLinear", ["mq", "t", "z"], ["y"]),
    ]
    model = onnx.ModelProto.FromString(onnx_model(nodes, [floats("x", (8, 64))], ["y"]))
    for name, value in {"s": np.float32(0.02), "t": np.float32(0.11), "z": np.uint8(128), "w": w}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    tensors = (
        Tensor("x", (8, 64), DType.FLOAT32, Space.DDR, -1),
        Tensor("y", (8, 64), DType.FLOAT32, Space.DDR, -1),
    )
    segment = CpuSegment("cpu0", model.SerializeToString(), (0,), (1,), ("x",), ("y",))
    return replace(cpu_program(), tensors=tensors, segments=(segment,), placement=())


def test_qdq_keeps_its_meaning() -> None:
    program = qdq_program()
    (segment,) = program.segments
    assert isinstance(segment, CpuSegment)
    w = onnx.numpy_helper.to_array(onnx.ModelProto.FromString(segment.model).graph.initializer[3])
    x = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    q = np.clip(np.rint(x / np.float32(0.02)) + 128, 0, 255) - 128
    exact = (q.astype(np.int64) @ w.astype(np.int64)) * (0.02 * 0.02 / 0.11)
    steps = np.clip(np.rint(exact), -128, 127)
    y = Session(program).run({"x": x}).outputs["y"]
    off_ties = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    np.testing.assert_array_equal(np.rint(y / np.float32(0.11))[off_ties], steps[off_ties])


def test_threads_give_the_same_bits() -> None:
    x = np.random.default_rng(2).normal(size=(8, 64)).astype(np.float32)
    one, two = Session(qdq_program()), Session(qdq_program(), threads=2)
    expected = one.run({"x": x}).outputs["y"]
    found: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    workers = [
        threading.Thread(target=lambda s=s: found.append(s.run({"x": x}).outputs["y"]))
        for s in (one, two) * 4
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == len(workers)
    for y in found:
        np.testing.assert_array_equal(y, expected)


def test_non_finite_values_reach_the_cpu_when_allowed() -> None:
    x = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], np.float32)
    y = Session(cpu_program()).run({"image": x}, finite=False).outputs["result"]
    np.testing.assert_array_equal(y, np.array([[np.nan, np.inf, 0], [0, 1, 2]], np.float32))


def test_file_for_another_march_is_refused() -> None:
    with pytest.raises(
        HbmError, match=r"the march must be 'nash-m', not 'nash-e'; binaries are not portable"
    ):
        Session(cpu_program(), march="nash-m")


@pytest.mark.parametrize("march", [None, "nash-e", "NASH_E", "S100", "j6e", "J6E / S100"])
def test_a_march_may_be_said_by_any_of_its_names(march: str | None) -> None:
    assert Session(cpu_program(), march=march).march.name == "nash-e"


@pytest.mark.parametrize("march", ["nash-p", "S600"])
def test_a_product_of_another_march_is_refused(march: str) -> None:
    with pytest.raises(HbmError, match=f"the march must be '{march}', not 'nash-e'"):
        Session(cpu_program(), march=march)


def test_a_march_whose_file_is_not_at_hand_may_be_named() -> None:
    program = replace(cpu_program(), march="mine")
    found = Session(program, march="mine").run({"image": X}).outputs["result"]
    np.testing.assert_array_equal(found, np.maximum(X, 0))


def test_unknown_march_is_refused() -> None:
    with pytest.raises(MarchError, match="nash-x"):
        Session(cpu_program(), march="nash-x")


def test_file_for_a_march_of_ones_own_needs_its_file(tmp_path: Path) -> None:
    program = replace(cpu_program(), march="mine")
    np.testing.assert_array_equal(Session(program).run({"image": X}).outputs["result"], np.maximum(X, 0))
    with pytest.raises(MarchError, match="mine"):
        _ = Session(program).inputs
    path = tmp_path / "mine.json"
    path.write_text('{"based_on": "nash-e", "name": "mine"}')
    assert Session(program, march=str(path)).inputs[0].aligned_bytes == 64


def test_what_a_tensor_is() -> None:
    info = Session(qdq_program()).inputs[0]
    assert (info.name, info.shape, info.dtype, info.strides) == ("x", (8, 64), DType.FLOAT32, (256, 4))
    assert (info.nbytes, info.aligned_bytes, info.quanti_type) == (2048, 2048, "NONE")
    assert Session(cpu_program()).inputs[0].aligned_bytes == 64


def test_latency_of_a_cpu_segment_is_an_estimate_and_not_the_bpus() -> None:
    latency = Session(cpu_program()).run({"image": X}).latency
    (segment,) = latency.segments
    assert (segment.on, segment.basis) == ("CPU", "estimate")
    assert latency.bpu_us == 0
    assert latency.cpu_us == segment.microseconds > 0


def test_import_is_quick_and_loads_no_engine() -> None:
    script = (
        # Seconds of CPU, not of the clock: other processes of the machine do not count.
        "import sys, time; t = time.process_time(); import openbpu.runtime; t = time.process_time() - t; "
        "assert not {'numba', 'onnx', 'onnxruntime'} & sys.modules.keys(); print(t)"
    )
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    runs = [
        subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert min(float(r.stdout) for r in runs) < 0.5
