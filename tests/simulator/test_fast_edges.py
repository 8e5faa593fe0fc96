"""Facts about the fast mode at the edges: ties, saturation, extreme shifts, odd shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from llvmlite import ir

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import SimulationError
from openbpu.arch.program import Conv, MatMul, Operator, Program, Quantize, Rescale, Softmax
from openbpu.simulator.fast import FastSegment
from openbpu.simulator.fast.conv.arguments import MAX_ROWS
from openbpu.simulator.fast.conv.plan import lower_conv
from openbpu.simulator.fast.conv.vector import add_tiles, tile_name
from openbpu.simulator.fast.jit.cpu import host
from openbpu.simulator.fast.plan.steps import Lowering
from simulator.build import Build, one_operator_program, random_tensor, segment_of
from simulator.oracle import Array, Oracle
from simulator.test_fast_operators import check

MODES = host().modes()
INT8, INT16, INT32 = DType.INT8, DType.INT16, DType.INT32


@dataclass(frozen=True)
class Shape:
    """A small convolution; everything else is the default of Conv."""

    x: tuple[int, ...] = (1, 5, 6, 8)
    channels: int = 16
    kernel: tuple[int, int] = (1, 1)
    groups: int = 1
    x_dtype: DType = INT8
    w_dtype: DType = INT8


def conv_program(shape: Shape, params: Array, weights: Array | None = None, **fields: object) -> Program:
    b, rng = Build(), np.random.default_rng(1)
    y_shape = (shape.x[0], *(shape.x[i + 1] - shape.kernel[i] + 1 for i in range(2)), shape.channels)
    if weights is None:
        weights = random_tensor(
            rng, (shape.channels, *shape.kernel, shape.x[3] // shape.groups), shape.w_dtype
        )
    operator = Conv(
        inputs=(b.input(shape.x, shape.x_dtype),), outputs=(b.tensor(y_shape),), weight_id=b.const(weights),
        params_id=b.const(np.broadcast_to(params, (shape.channels, 4)).astype(np.int32)), x_shape=shape.x,
        y_shape=y_shape, kernel=shape.kernel, groups=shape.groups,
    )  # fmt: skip
    return one_operator_program(b, replace(operator, **fields))  # type: ignore[arg-type]


def inputs_of(program: Program) -> dict[int, Array]:
    rng = np.random.default_rng(2)
    return {t: random_tensor(rng, program.tensors[t].shape, program.tensors[t].dtype) for t in program.inputs}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENBPU_KERNELS", request.param)
    return str(request.param)


@pytest.mark.parametrize("shift", [0, 1, 2, 7, 31, 44, 45, 46, 61, 62])
@pytest.mark.parametrize("mult", [1, -1, 3, 2**30, 2**31 - 1, -(2**31)])
def test_any_shift_and_multiplier_round_half_to_even(mode: str, shift: int, mult: int) -> None:
    program = conv_program(Shape(), np.array([5, mult, -7, shift]), zero=3)
    check(program, inputs_of(program))


@pytest.mark.parametrize("groups", [1, 64])
def test_ties_go_to_even(mode: str, groups: int) -> None:
    weights = np.ones((64, 1, 1, 64 // groups), dtype=np.int8)
    program = conv_program(Shape((1, 16, 16, 64), 64, groups=groups), np.array([0, 1, 0, 1]), weights)
    check(program, inputs_of(program))


def test_one_awkward_channel_does_not_spoil_the_others(mode: str) -> None:
    params = np.tile(np.array([0, 2**30, 0, 42]), (16, 1))
    params[3] = (2**30, 2**31 - 1, -(2**31), 62)
    program = conv_program(Shape(kernel=(3, 3), x=(1, 9, 9, 100)), params)
    check(program, inputs_of(program))


@pytest.mark.parametrize("dtypes", [(INT8, INT8), (INT16, INT8), (INT8, INT16), (INT16, INT16)])
@pytest.mark.parametrize("groups", [1, 3])
def test_wide_sums_saturate_once_and_are_counted(mode: str, dtypes: tuple[DType, DType], groups: int) -> None:
    shape = Shape((1, 3, 3, 999), 33, (1, 1), groups, *dtypes)
    weights = np.full((33, 1, 1, 999 // groups), dtypes[1].qmax).astype(dtypes[1].numpy)
    program = conv_program(shape, np.array([2**31 - 1, 2**30, 0, 60]), weights, wide=True)
    inputs = {t: np.full(program.tensors[t].shape, dtypes[0].qmax, dtypes[0].numpy) for t in program.inputs}
    segment = segment_of(program)
    fast = FastSegment(program, segment)
    fast.run(inputs)
    assert fast.saturations > 0
    check(program, inputs)


def test_wide_depthwise_saturates(mode: str) -> None:
    weights = np.full((20, 3, 3, 1), 127, dtype=np.int8)
    shape = Shape((1, 5, 5, 20), 20, (3, 3), 20, INT16, INT8)
    program = conv_program(shape, np.array([-(2**31), 2**30, 0, 60]), weights, wide=True)
    check(program, {t: np.full(program.tensors[t].shape, -32768, np.int16) for t in program.inputs})


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 4095, 9001])
def test_deep_sums(mode: str, depth: int) -> None:
    program = conv_program(Shape((1, 1, 3, depth), 19), np.array([1, 2**30, 0, 50]))
    check(program, inputs_of(program))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 33, 63, 64, 65, 100, 145])
def test_depthwise_of_any_width(mode: str, channels: int) -> None:
    shape = Shape((2, 6, 7, channels), channels, (3, 2), channels)
    program = conv_program(shape, np.array([9, 2**30, 0, 40]), lo=-100, hi=90, zero=-4)
    check(program, inputs_of(program))


@pytest.mark.parametrize(
    ("dtypes", "kernel"),
    [
        ((INT8, INT8), "depthwise_packed"),
        ((INT16, INT8), "depthwise_tiled"),
        ((INT8, INT16), "depthwise_tiled"),
    ],
)
def test_only_bytes_times_bytes_take_the_kernel_of_bytes(dtypes: tuple[DType, DType], kernel: str) -> None:
    shape = Shape((1, 3, 3, 16), 16, (3, 3), 16, *dtypes)
    program = conv_program(shape, np.array([0, 1, 0, 20]))
    segment = segment_of(program)
    (operator,) = segment.operators
    assert isinstance(operator, Conv)
    low = Lowering(program, segment, mode="vnni512")  # chosen alike on processors that could not run it
    lower_conv(operator, low)
    assert [step.kernel for step in low.steps] == [kernel]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("upsample", [2, 3, 5])
def test_transposed_convolution_in_phases(mode: str, stride: int, upsample: int) -> None:
    program = conv_program(
        Shape((2, 4, 5, 6), 20, (4, 3)), np.array([0, 2**30, 0, 39]), upsample=(upsample, 2),
        strides=(stride, 1), pads=(1, 2, 0, 1), pad_value=-77, y_shape=(2, (3 * upsample + 1 + 1 - 4) //
        stride + 1, 10, 20),
    )  # fmt: skip
    operator = segment_of(program).operators[0]
    tensor = replace(program.tensors[operator.outputs[0]], shape=operator.y_shape)  # type: ignore[attr-defined]
    tensors = tuple(tensor if i == operator.outputs[0] else t for i, t in enumerate(program.tensors))
    program = replace(program, tensors=tensors)
    check(program, inputs_of(program))


def test_pad_value_of_two_layers_differs(mode: str) -> None:
    b, rng = Build(), np.random.default_rng(0)
    x, middle, y = b.input((1, 4, 4, 20)), b.tensor((1, 4, 4, 40)), b.tensor((1, 4, 4, 8))
    for source, target, cin, cout, value in ((x, middle, 20, 40, 9), (middle, y, 40, 8, -9)):
        b.add(Conv(
            inputs=(source,), outputs=(target,), weight_id=b.const(random_tensor(rng, (cout, 3, 3, cin))),
            params_id=b.const(np.tile([[0, 2**30, 0, 40]], (cout, 1)).astype(np.int32)), kernel=(3, 3),
            x_shape=(1, 4, 4, cin), y_shape=(1, 4, 4, cout), pads=(1, 1, 1, 1), pad_value=value,
        ))  # fmt: skip
    program = b.program((y,))
    check(program, inputs_of(program))


@pytest.mark.parametrize("k", [1, 2, 127, 4100])
def test_matmul_of_extremes(mode: str, k: int) -> None:
    b = Build()
    left, right = b.input((1, 7, k)), b.input((1, k, 21))
    operator: Operator = MatMul(
        inputs=(left, right), outputs=(b.tensor((1, 7, 21), INT32),), a_batch=1, b_batch=1, m=7, k=k, n=21,
        a_zero=127, raw=True,
    )  # fmt: skip
    program = one_operator_program(b, operator)
    check(program, {left: np.full((1, 7, k), -128, np.int8), right: np.full((1, k, 21), -128, np.int8)})


def test_quantize_divides_in_float64_and_rounds_half_to_even() -> None:
    for scale in (np.float32(0.1), np.float32(0.3), np.float32(2.0**-149), np.float32(3e38)):
        halves = (np.arange(-300, 300) + 0.5).astype(np.float64) * np.float64(scale)
        values = np.concatenate([halves, np.nextafter(halves, 0), [np.inf, -np.inf, 3.4e38, -0.0, 1e-45]])
        for dtype in (INT8, INT16, INT32):
            b = Build()
            x, y = b.input((1205,), DType.FLOAT32), b.tensor((1205,), dtype)
            operator = Quantize(
                inputs=(x,), outputs=(y,), scale=float(scale), zero=1, lo=dtype.qmin, hi=dtype.qmax
            )
            with np.errstate(over="ignore"):
                data = values.astype(np.float32)
            check(one_operator_program(b, operator), {x: data})


@pytest.mark.parametrize("total", [2**62, -(2**62), 2**62 + 2**60 - 1, -(2**62) - 2**60])
def test_sums_near_the_end_of_int64(total: int) -> None:
    b = Build()
    x, y = b.input((4,), INT8), b.tensor((4,), INT16)
    operator = Rescale(inputs=(x,), outputs=(y,), mult=2**30 + 1, offset=total, shift=62, lo=-32768, hi=32767)
    check(one_operator_program(b, operator), {x: np.array([-128, -1, 0, 127], dtype=np.int8)})


def test_softmax_of_equal_values() -> None:
    from openbpu.arch import numerics

    b = Build()
    x, y = b.input((2, 65536), INT8), b.tensor((2, 65536), INT16)
    operator = Softmax(
        inputs=(x,), outputs=(y,), exp_id=b.const(numerics.exp_table()), shape=(2, 65536), mult=2**20,
        shift=10, out_mult=2**30, out_shift=46, lo=-32768, hi=32767,
    )  # fmt: skip
    check(one_operator_program(b, operator), {x: np.full((2, 65536), -128, np.int8)})


@pytest.mark.parametrize("mode", ["vnni256", "portable"])
def test_every_micro_kernel_that_is_called_is_built_on_any_machine(mode: str) -> None:
    module = ir.Module(mode)
    add_tiles(module, mode)
    operands = (True,) if mode == "portable" else (False, True)
    called = {
        tile_name(words, groups, rows)
        for words in operands
        for groups, most in enumerate(MAX_ROWS[mode])
        for rows in range(1, most + 1)
    }
    assert {f.name for f in module.functions if not f.is_declaration} == called


def test_unknown_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBPU_KERNELS", "fastest")
    program = conv_program(Shape(), np.array([0, 1, 0, 0]))
    with pytest.raises(SimulationError, match=r"OPENBPU_KERNELS must be .*portable, not fastest"):
        FastSegment(program, segment_of(program))


def test_no_threads_are_refused() -> None:
    program = conv_program(Shape(), np.array([0, 1, 0, 0]))
    with pytest.raises(SimulationError, match="threads must be 1 or more, not 0"):
        FastSegment(program, segment_of(program), threads=0)


def test_oracle_counts_saturations() -> None:
    weights = np.full((1, 1, 1, 999), 127, dtype=np.int8)
    program = conv_program(Shape((1, 1, 1, 999), 1), np.array([2**31 - 1, 1, 0, 0]), weights, wide=True)
    oracle = Oracle(program, segment_of(program))
    oracle.run({t: np.full((1, 1, 1, 999), 127, np.int8) for t in program.inputs})
    assert oracle.saturations == 1
