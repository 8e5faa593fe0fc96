"""ONNX's own backend suite against `openbpu.onnx_backend`: node tests and the light models."""

from __future__ import annotations

import functools
import unittest
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.test import BackendTest

import openbpu.onnx_backend as backend
from interfaces.onnx_backend_skips import SKIPS
from openbpu.arch.errors import InputError

HEAVY = ("test_vgg19_cpu", "test_zfnet512_cpu", "test_bvlc_alexnet_cpu")  # hundreds of megabytes of weights

Case = Callable[[unittest.TestCase], None]


def judged(name: str, case: Case) -> Case:
    """Return `case` that skips, with its reason, where SKIPS knows its failure."""

    @functools.wraps(case)
    def run(self: unittest.TestCase) -> None:
        try:
            case(self)
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            reason = next((s.reason for s in SKIPS if s.covers(name, text)), None)
            if reason is None:
                raise
            raise unittest.SkipTest(reason) from error

    return pytest.mark.slow(run) if name in HEAVY else run


def suite() -> dict[str, type[unittest.TestCase]]:
    """Return ONNX's test classes; those for other devices than the CPU are dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes its cases by overflowing on purpose
        classes = BackendTest(backend.OpenbpuBackend, __name__).test_cases
    for cls in classes.values():
        for name in [n for n in vars(cls) if n.startswith("test_")]:
            if name.endswith("_cpu"):
                setattr(cls, name, judged(name, getattr(cls, name)))
            else:
                delattr(cls, name)
    return dict(classes)


globals().update(suite())

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def onnx_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite makes folders for its models: not in the user's home."""
    monkeypatch.setenv("ONNX_HOME", str(tmp_path_factory.getbasetemp() / "onnx"))


def relu(shape: list[int | str]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


X = np.array([[-1.0, 2.0]], np.float32)


@pytest.mark.parametrize("inputs", [[X], (X,), X, {"x": X}])
def test_ways_to_give_inputs(inputs: Any) -> None:
    outputs: Any = backend.run_model(relu([1, 2]), inputs)
    np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))
    np.testing.assert_array_equal(outputs["y"], outputs[0])


def test_dynamic_shapes_are_compiled_when_they_come() -> None:
    rep = backend.prepare(relu(["n", 2]))
    for n in (1, 3, 1):
        (y,) = rep.run([np.tile(X, (n, 1))])
        np.testing.assert_array_equal(y, np.tile(np.maximum(X, 0), (n, 1)))


def test_a_node_runs_alone() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    for info in (None, [(np.dtype(np.float32), (1, 2))]):
        (y,) = backend.run_node(node, [X, X], outputs_info=info)
        np.testing.assert_array_equal(y, X + X)


def test_wrong_number_of_inputs_is_said() -> None:
    with pytest.raises(InputError, match="their number must be 1, not 2; they are: x"):
        backend.run_model(relu([1, 2]), [X, X])


def test_only_the_cpu_is_a_device() -> None:
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA:0")
    with pytest.raises(InputError, match="the device must be CPU"):
        backend.prepare(relu([1, 2]), "CUDA")


def test_every_skip_has_a_reason_of_its_own() -> None:
    reasons = [s.reason for s in SKIPS]
    assert all(reasons)
    assert len(reasons) == len(set(reasons))
