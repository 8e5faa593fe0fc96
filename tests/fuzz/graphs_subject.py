"""Random networks: what the float64 reference says, under every march, schedule and kind of end."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from compiler.test_right_random import MARCHES, check_meaning, check_schedule, outputs, schedules
from fuzz.case import EQUAL, Case, FaultError
from fuzz.hbm_subject import difference, same
from fuzz.onnx_subject import written
from openbpu.arch import numerics
from openbpu.arch.errors import CompileError
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from witness.random_graphs import qdq_models

GRAPHS = 10
"""Networks of one case: hypothesis makes the first ones plain."""

Array = np.ndarray[Any, Any]
Model = tuple[onnx.ModelProto, dict[str, Array]]
_ENDS = st.sampled_from((("quantize",), ("dequantize",), ("quantize", "dequantize")))
_ORDERS = st.integers(0, 1 << 16)
_CASES = settings(
    max_examples=GRAPHS,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


class Graphs:
    """Ten networks a case; a fault is shrunk to the smallest that shows it."""

    name = "graphs"
    kinds = MARCHES
    cpu_seconds = 120.0

    def warm_up(self) -> None:
        """Nothing: kernels are loaded once per child, which runs many networks."""

    def make(self, seed: int, index: int) -> Case:
        """Only a number: the networks are drawn while they run."""
        return Case(self.kinds[index % len(self.kinds)], {}, (seed, index), f"{GRAPHS} networks")

    def run(self, case: Case) -> str:
        """Draw and check; the smallest network that fails becomes a file of the case."""
        number = hash(case.data) % 2**32
        files: Any = case.files

        @_CASES
        @seed(number)
        @given(model=qdq_models(max_nodes=8), schedule=schedules(), ends=_ENDS, order=_ORDERS)
        def check(model: Model, schedule: dict[str, Any], ends: tuple[str, ...], order: int) -> None:
            signal.setitimer(signal.ITIMER_PROF, self.cpu_seconds)
            files["model.onnx"] = model[0].SerializeToString()
            files["options.txt"] = _said(case.kind, schedule, ends, order)
            check_meaning(*model, case.kind)
            check_schedule(*model, schedule, order)
            check_ends(*model, schedule, ends)
            check_wishes(*model, case.kind)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # that a network is long to print
            check()
        return EQUAL


def _said(march: str, schedule: dict[str, Any], ends: tuple[str, ...], order: int) -> bytes:
    """What was drawn beside the network, in words."""
    target = schedule["march"]
    rest = {key: value for key, value in schedule.items() if key != "march"}
    words = f"meaning on {march}; schedule {rest} on {target.name} with {target.chip_bytes} bytes on chip, "
    return f"{words}order {order}; without {' and '.join(ends)} at the ends\n".encode()


def check_ends(
    model: onnx.ModelProto, inputs: dict[str, Array], schedule: dict[str, Any], ends: tuple[str, ...]
) -> None:
    """Without Quantize and Dequantize at the ends: both modes agree, and the codes mean the floats."""
    whole = outputs(compile_model(model, march=schedule["march"].name), inputs, "fast")
    try:
        bare = written(compile_model(model, **schedule, remove_io=ends))
    except CompileError:
        return  # a layer may be too large for the room drawn
    codes = {name: _coded(bare, name, value) for name, value in inputs.items()}
    fast, exact = (outputs(bare, codes, mode) for mode in ("fast", "exact"))
    if not same(fast, exact):
        raise FaultError(f"fast ≠ exact with bare ends: {difference(fast, exact)}")
    reals = {name: _real(bare, name, value) for name, value in fast.items()}
    sums = {name for name, value in fast.items() if value.dtype == np.int32 and name in whole}
    if not same(*({k: v for k, v in found.items() if k not in sums} for found in (reals, whole))):
        raise FaultError(f"bare ends mean something else: {difference(reals, whole)}")
    for name in sums:
        # A bias in int32 is whole steps of the sums (docs/numerics.md): half a step, and what floats round.
        bound = _step(bare, name, whole[name].ndim) * 0.501 + np.spacing(np.abs(whole[name]) * 4)
        if not (np.abs(np.subtract(reals[name], whole[name], dtype=np.float64)) <= bound).all():
            raise FaultError(f"bare sums mean something else: {difference(reals, whole)}")


def _coded(program: Program, name: str, value: Array) -> Array:
    t = next(program.tensors[i] for i in program.inputs if program.tensors[i].name == name)
    if value.dtype == t.dtype.numpy:
        return value
    return numerics.quantize(value, np.float32(t.scale[0]), t.zero_point, t.dtype)


def _real(program: Program, name: str, value: Array) -> Array:
    t = next(program.tensors[i] for i in program.outputs if program.tensors[i].name == name)
    return numerics.dequantize(value, _step(program, name, value.ndim), t.zero_point) if t.scale else value


def _step(program: Program, name: str, rank: int) -> Array:
    """The scales of an output, with as many axes as it has where they are one per channel."""
    t = next(program.tensors[i] for i in program.outputs if program.tensors[i].name == name)
    scale = np.array(t.scale, np.float32)
    return scale if scale.size == 1 else scale.reshape([-1 if axis == t.axis else 1 for axis in range(rank)])


def check_wishes(model: onnx.ModelProto, inputs: dict[str, Array], march: str) -> None:
    """What the march prefers on the CPU may be asked onto the BPU; then too both modes agree."""
    wishes = sorted({row.op for row in compile_model(model, march=march, opt=0).placement if row.on == "CPU"})
    if not wishes:
        return
    try:
        program = written(compile_model(model, march=march, bpu_ops=wishes))
    except CompileError:
        return  # a wish for what was folded away
    both: list[Mapping[str, Array]] = [outputs(program, inputs, mode) for mode in ("fast", "exact")]
    if not same(*both):
        raise FaultError(f"fast ≠ exact with everything wished onto the BPU: {difference(*both)}")
