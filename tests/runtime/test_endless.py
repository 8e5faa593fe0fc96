"""Runs that do not end: stopped after a stated time, with the node's name, and by a signal at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.parser import parse_model

from openbpu.arch.errors import ModelError
from openbpu.arch.program import CpuSegment, Program
from openbpu.compiler import compile as compile_
from openbpu.engine.bounded import SWITCH, EndlessError
from openbpu.evaluation import verify
from openbpu.evaluation.fallback import OnnxRuntime
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from openbpu.runtime.reference import Reference

X = {"x": np.asarray([[1, 2]], np.float32)}


def model(least: int) -> onnx.ModelProto:
    """A Loop that goes on while its step is >= `least`: for ever, or once."""
    return parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y) <int64 least = {{{least}}}, bool yes = {{1}}> {{
            h = Relu(x)
            [around] z = Loop<body = b (int64 i, bool c, float[1,2] v) => (bool d, float[1,2] w)
                {{ d = GreaterOrEqual(i, least) w = Neg(v) }}>(, yes, h)
            y = Relu(z)
        }}""")


def quantized() -> None:
    quantize(model(0), [X])


def run() -> None:
    Session(compile_(model(0), march="nash-e")).run(X)


def judged() -> None:
    verify(model(0), compile_(model(0), march="nash-e"), [X])


def referred() -> None:
    Reference(model(0)).run(X)


def fallen_back() -> None:
    made = model(0)
    values = {"least": np.int64(0), "yes": np.bool_(True), "h": X["x"]}
    OnnxRuntime(made)(made.graph.node[1], {k: np.asarray(v) for k, v in values.items()}, 17)


@pytest.mark.parametrize("start", [quantized, run, judged, referred, fallen_back])
def test_a_loop_that_never_ends_is_stopped_by_name(
    start: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "0.2")
    with pytest.raises(
        EndlessError, match=r"node 'around' \(Loop\): .* within 0.2 s, not going on; .*" + SWITCH
    ):
        start()


def test_one_that_ends_gives_what_it_gives(tmp_path: Path) -> None:
    file = tmp_path / "once.onnx"
    onnx.save(model(1), file)
    for given in (model(1), file):
        assert np.array_equal(Reference(given).run(X)["y"], [[0, 0]])


def test_a_fault_in_such_a_model_is_told_as_in_any_other() -> None:
    with pytest.raises(ModelError, match=r"cannot run it: .*Invalid rank"):
        Reference(model(1)).run({"x": np.zeros(3, np.float32)})


@pytest.mark.usefixtures("signals_as_in_a_terminal")
def test_a_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "60")
    endless = Reference(model(0))
    start = time.monotonic()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        endless.run(X)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("wrong", ["soon", "0", "-1", "nan", "inf"])
def test_seconds_that_are_none_are_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, wrong)
    with pytest.raises(ModelError, match=rf"{SWITCH} must be a positive number of seconds, not '{wrong}'"):
        Reference(model(1)).run(X)


def test_what_a_forged_file_would_run_is_looked_at_too() -> None:
    program = compile_(model(1), march="nash-e")
    forged = onnx.load_from_string(next(s.model for s in program.segments if isinstance(s, CpuSegment)))
    loop = next(node for node in forged.graph.node if node.op_type == "Loop")
    loop.attribute[0].g.node[0].CopyFrom(helper.make_node("Identity", ["c"], ["d"]))
    with pytest.raises(ModelError, match=r"'around' \(Loop\): the steps it takes .* not endless"):
        Session(with_model(program, forged.SerializeToString())).run(X)


def with_model(program: Program, data: bytes) -> Program:
    segments = tuple(replace(s, model=data) if isinstance(s, CpuSegment) else s for s in program.segments)
    return replace(program, segments=segments)
