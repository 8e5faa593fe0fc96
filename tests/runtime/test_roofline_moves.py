"""Facts about rooflines of layers that move, rescale or convert: what takes them off."""

from __future__ import annotations

import numpy as np
import pytest

from openbpu.arch.dtypes import DType
from openbpu.arch.program import (
    Concat,
    Lut,
    Move,
    Program,
    Quantize,
    Rescale,
    Softmax,
)
from openbpu.runtime.roofline import analyse
from openbpu.runtime.roofline.changes import ends
from openbpu.runtime.roofline.site import Site
from runtime.roofline_layers import fast, march, one, only
from simulator.build import Build, segment_of
from simulator.tiles import tiled


def transposed(rank: int = 4) -> Program:
    b = Build()
    shape, turned, strides = (1, 3, 16, 16), (1, 16, 16, 3), (768, 16, 1, 256)
    x, y = b.input(shape[4 - rank :]), b.tensor(turned[4 - rank :])
    return one(Move(inputs=(x,), outputs=(y,), shape=turned, strides=strides), b)


def test_a_layout_move_at_the_input_is_removed_by_the_option_of_that_name() -> None:
    line = only(transposed(), fast(trans__elements_per_cycle=1))
    assert line.bound.engine == "TRANS"
    assert line.advice.text == "layout move at the input: --remove-io transpose"
    assert line.advice.gain_us == pytest.approx(768 / 1000)


def test_a_layout_move_of_three_axes_is_not_promised_to_go_by_an_option() -> None:
    assert only(transposed(3), fast(trans__elements_per_cycle=1)).advice.key == "layout inside"


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        pytest.param((1, 8, 8, 4), (512, 64, 8, 1), 4, id="slice"),
        pytest.param((1, 4, 8, 8), (512, 1, 64, 8), 0, id="slice of what is turned"),
        pytest.param((1, 8, 8, 8), (512, 0, 64, 1), 0, id="copies"),
        pytest.param((1, 8, 8, 8), (512, 64, 8, 1), 0, id="as it is"),
    ],
)
def test_a_move_that_is_no_permutation_is_no_layout_move(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    b = Build()
    x, y = b.input((1, 8, 8, 8)), b.tensor(shape)
    op = Move(inputs=(x,), outputs=(y,), shape=shape, strides=strides, offset=offset)
    assert only(one(op, b), fast(trans__elements_per_cycle=1)).advice.key == "none"


def test_softmax_gains_by_shorter_rows() -> None:
    b = Build()
    x, y = b.input((64, 256)), b.tensor((64, 256))
    table = b.const(np.zeros(256, np.int32))
    op = Softmax(
        inputs=(x,), outputs=(y,), exp_id=table, shape=(64, 256), mult=1, shift=0, out_mult=1, out_shift=0
    )
    chip = fast(vae__lanes_int16=128, vae__softmax_passes=8, vae__row_cycles=0)
    line = only(one(op, b), chip)
    assert line.bound.engine == "VAE"
    assert line.advice.key == "softmax"
    assert line.advice.gain_us == pytest.approx(64 * 8 / 1000)


def test_a_pass_that_only_rescales_gains_all_of_it() -> None:
    b = Build()
    x, y = b.input((1, 8, 8, 32)), b.tensor((1, 8, 8, 32))
    op = Rescale(inputs=(x,), outputs=(y,), mult=1 << 30, shift=31, lo=-128, hi=127)
    line = only(one(op, b), fast(vae__lanes_int8=32, vae__lanes_int16=32))
    assert line.advice.key == "same scale"
    assert line.advice.gain_us == pytest.approx(64 / 1000)


@pytest.mark.parametrize(("curved", "key"), [(False, "same scale"), (True, "function")])
def test_a_table_is_a_rescale_exactly_when_it_is_a_line(curved: bool, key: str) -> None:
    b = Build()
    x, y = b.input((1, 8, 8, 32)), b.tensor((1, 8, 8, 32))
    at = np.arange(-128, 128)
    values = at * at / 128 if curved else np.clip(np.rint(at * 1.3), -128, 127)
    op = Lut(inputs=(x,), outputs=(y,), table_id=b.const(np.clip(values, -128, 127).astype(np.int8)))
    assert only(one(op, b), fast()).advice.key == key


def test_concat_of_equal_scales_has_nothing_to_rescale() -> None:
    def joined(mults: tuple[int, int]) -> Program:
        b = Build()
        xs, y = (b.input((64, 16)), b.input((64, 16))), b.tensor((64, 32))
        op = Concat(
            inputs=xs, outputs=(y,), outer=64, sizes=(16, 16), x_zeros=(0, 0), mults=mults, shifts=(31, 31)
        )
        return one(op, b)

    assert only(joined((1 << 30, 1 << 30)), fast()).advice.key == "same scale"
    assert only(joined((0, 0)), fast()).advice.key != "same scale"


def test_quantize_at_the_input_is_removed_by_the_option_of_that_name() -> None:
    b = Build()
    x, y, z = b.input((1, 8, 8, 32), DType.FLOAT32), b.tensor((1, 8, 8, 32)), b.tensor((1, 8, 8, 32))
    b.add(Quantize(inputs=(x,), outputs=(y,), scale=0.1))
    b.add(Rescale(inputs=(y,), outputs=(z,), mult=1 << 30, shift=31, lo=-128, hi=127))
    line = analyse(tiled(b.program((z,))), march()).layers[0]
    assert line.advice.text == "quantize at the input: --remove-io quantize"
    assert line.advice.gain_us == pytest.approx((2048 * 3 + 2048 / 64) / 1000, rel=0.05)


def test_a_quantize_whose_codes_are_given_out_is_not_said_to_come_off() -> None:
    b = Build()
    x, y = b.input((1, 8, 8, 32), DType.FLOAT32), b.tensor((1, 8, 8, 32))
    line = only(one(Quantize(inputs=(x,), outputs=(y,), scale=0.1), b), march())
    assert "--remove-io" not in line.advice.text


@pytest.mark.parametrize(
    ("more", "removed"),
    [("", True), ("another reader", False), ("also an output", False), ("codes go in", False)],
)
def test_a_conversion_comes_off_where_nothing_else_knows_its_tensors(more: str, removed: bool) -> None:
    b = Build()
    x, q, y = b.input((1, 8, 8, 32), DType.FLOAT32), b.tensor((1, 8, 8, 32)), b.tensor((1, 8, 8, 32))
    b.add(Quantize(inputs=(x,), outputs=(q,), scale=0.1))
    b.add(Rescale(inputs=(q,), outputs=(y,), mult=1 << 30, shift=31, lo=-128, hi=127))
    outputs: tuple[int, ...] = (y,)
    if more == "another reader":
        z = b.tensor((1, 8, 8, 32))
        b.add(Quantize(inputs=(x,), outputs=(z,), scale=0.3))
        outputs = (y, z)
    if more == "also an output":
        outputs = (y, x)
    if more == "codes go in":
        b.inputs.append(q)
    program = tiled(b.program(outputs))
    site = Site(program, segment_of(program), march())
    assert bool(ends.conversion(site, 0)) is removed
    assert ends.conversion(site, 1) == ""
