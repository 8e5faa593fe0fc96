"""Facts about rooflines: what bounds hand-made layers of each kind, and gains that come from the rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from openbpu.arch.dtypes import DType
from openbpu.arch.isa import Engine
from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import (
    Lut,
    MatMul,
    Move,
    Rescale,
)
from openbpu.compiler import compile as build
from openbpu.runtime.latency import latency_of
from openbpu.runtime.roofline import analyse
from openbpu.runtime.roofline.analyse import _hidden
from openbpu.runtime.roofline.changes import BATCH
from openbpu.runtime.roofline.site import Site
from runtime.models import conv_program as conv
from runtime.models import cpu_program, mixed_program
from runtime.roofline_layers import fast, kinds, march, one, only
from simulator.build import Build, segment_of
from simulator.tiles import tiled
from witness.builder import GraphBuilder
from witness.emit import EMITTERS


def test_many_macs_and_a_fast_memory_are_bound_by_computing() -> None:
    line = only(conv(size=16), fast())
    assert (line.bound.by, line.bound.engine) == ("compute", "TAE")
    assert line.bound.compute_us == pytest.approx(256 / 1000)  # one pixel per cycle
    assert line.bound.macs == 256 * 32 * 32
    assert line.bound.array_use == pytest.approx(1.0)
    assert "the array does 100%" in line.advice.text


def test_weights_without_reuse_are_bound_by_ddr_and_a_batch_helps_by_their_share() -> None:
    line = only(conv(c_in=320, c_out=320, size=1), march())
    loaded = 320 * 320 + 320 * 16
    assert line.bound.by == "DDR"
    assert line.bound.ddr_us == pytest.approx((loaded + 2 * 320) / 1000)
    assert line.bound.intensity == pytest.approx(320 * 320 / (loaded + 2 * 320))
    assert line.advice.key == "batch"
    assert line.advice.gain_us == pytest.approx(loaded * (1 - 1 / BATCH) / 1000, rel=0.01)


def test_where_input_and_output_take_the_time_no_change_is_said_to_help_much() -> None:
    line = only(conv(size=64), march())
    maps, constants = 2 * 64 * 64 * 32, 32 * 32 + 32 * 16
    assert line.bound.by == "DDR"
    assert line.exposed_us == pytest.approx(
        (maps + constants + 64 * 64) / 1000
    )  # a tile: load, compute, store
    assert line.advice.key == "little"
    assert line.advice.gain_us == pytest.approx(constants * (1 - 1 / BATCH) / 1000, rel=0.01)
    most = f"a batch of 4 by image (--batch 4) saves {line.advice.gain_us:.2f} of 267.78 µs"
    why = "99% of its DDR time is inputs and outputs of the segment: only smaller ones help"
    assert line.advice.text == f"no change of the list helps much (at most, {most}): {why}"


@pytest.mark.parametrize(("size", "key"), [(24, "batch"), (32, "little")])
def test_a_change_is_advised_from_2_percent_of_what_the_layer_exposes(size: int, key: str) -> None:
    line = only(conv(size=size), march())
    assert line.advice.key == key
    assert (line.advice.gain_us >= 0.02 * line.exposed_us) == (key == "batch")


def test_small_layers_are_bound_by_overhead_and_a_batch_pays_it_once() -> None:
    line = only(conv(size=2), fast(chip__layer_cycles=1000, tae__issue_cycles=100))
    assert line.bound.by == "overhead"
    assert line.bound.overhead_us == pytest.approx(1.1)
    assert line.bound.compute_us == pytest.approx(0.004)
    assert line.advice.key == "batch"
    assert line.advice.gain_us == pytest.approx(0.75)


def test_channels_that_spill_into_another_block_of_lanes_gain_what_the_rule_says() -> None:
    line = only(conv(c_in=40, size=16), fast())
    assert line.advice.key == "input lanes"
    assert line.advice.text.startswith("40 input channels take 2 blocks of 32 lanes (62% used): 32")
    assert line.advice.gain_us == pytest.approx(256 / 1000)
    out = only(conv(c_out=40, size=16), fast())
    assert out.advice.key == "output lanes"
    assert out.advice.gain_us == pytest.approx(256 / 1000)


def test_idle_lanes_are_told_with_what_fills_them_for_nothing() -> None:
    line = only(conv(c_in=24, c_out=16, size=16), fast())
    expected = "24 of 32 lanes of input channels, 16 of 32 lanes of output channels used"
    assert line.bound.idle.startswith(expected)
    full = only(conv(c_in=32, c_out=32, size=16), fast())
    assert full.bound.idle == ""
    assert full.bound.compute_us == line.bound.compute_us


def test_channels_whose_taps_share_the_lanes_are_not_called_idle() -> None:
    line = only(conv(c_in=8, size=16, kernel=3), fast(tae__packs_taps=1))
    assert "input channels" not in line.bound.idle


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_a_large_kernel_gains_by_the_next_smaller_one(kernel: int) -> None:
    line = only(conv(size=16, kernel=kernel), fast(tae__packs_taps=0))
    assert (line.advice.key == "kernel") == (kernel >= 5)
    if kernel >= 5:
        assert line.advice.gain_us == pytest.approx(256 * (kernel**2 - (kernel - 2) ** 2) / 1000)


def test_int16_gains_by_int8() -> None:
    line = only(conv(size=16, dtype=DType.INT16), fast(tae__passes_int16_int8=2))
    assert line.advice.key == "int8"
    assert line.advice.gain_us == pytest.approx(256 / 1000)
    assert line.bound.array_use == pytest.approx(1.0)  # of the int16 rate


def test_int16_through_a_slow_memory_gains_half_of_its_bytes() -> None:
    slow = only(conv(size=16, dtype=DType.INT16), march())
    maps = 2 * 2 * 256 * 32
    assert slow.advice.key == "int8"
    assert slow.advice.gain_us == pytest.approx(maps / 2 / 1000, rel=0.02)


def test_a_matrix_product_tells_its_inner_size() -> None:
    b = Build()
    x, w, y = b.input((1, 64, 40)), b.input((1, 40, 32)), b.tensor((1, 64, 32))
    op = MatMul(inputs=(x, w), outputs=(y,), a_batch=1, b_batch=1, m=64, k=40, n=32, mult=1, shift=1)
    line = only(one(op, b), fast())
    assert line.advice.key == "input lanes"
    assert line.advice.gain_us == pytest.approx(64 / 1000)


def test_feature_maps_through_ddr_between_layers_would_be_faster_on_chip() -> None:
    b = Build()
    x, middle, y = b.input((1, 16, 16, 32)), b.tensor((1, 16, 16, 32)), b.tensor((1, 16, 16, 32))
    for source, target in ((x, middle), (middle, y)):
        b.add(Rescale(inputs=(source,), outputs=(target,), mult=1 << 30, shift=31, lo=-128, hi=127))
    program = tiled(b.program((y,)))
    found = analyse(program, march())
    first, second = found.layers
    assert second.advice.key == "on chip"
    assert "8 KiB of feature maps pass through DDR" in second.advice.text
    assert kinds(found)["on chip"] == pytest.approx(2 * 16 * 16 * 32 / 1000, rel=0.01)
    assert first.bound.by == second.bound.by == "DDR"


def test_what_other_work_hides_gains_nothing() -> None:
    """Two layers that share no data and no engine: the shorter one is hidden behind the longer one."""
    b = Build()
    x, y = b.input((1, 16, 16, 32)), b.tensor((1, 16, 16, 32))
    b.add(Rescale(inputs=(x,), outputs=(y,), mult=1 << 30, shift=31, lo=-128, hi=127))
    short, long = b.input((1, 3, 16, 16)), b.tensor((1, 16, 16, 3))
    b.add(Move(inputs=(short,), outputs=(long,), shape=(1, 16, 16, 3), strides=(768, 16, 1, 256)))
    program = tiled(b.program((y, long)))
    lines = analyse(
        program, fast(vae__lanes_int8=1, vae__lanes_int16=1, trans__elements_per_cycle=1000)
    ).layers
    by_engine = {line.bound.engine: line for line in lines}
    assert by_engine["VAE"].exposed_us > 1.0
    assert by_engine["TRANS"].exposed_us <= by_engine["TRANS"].bound.compute_us + 0.01


@pytest.mark.parametrize("by", ["compute", "DDR", "overhead"])
def test_a_hidden_layer_is_said_to_be_hidden_whatever_bounds_it(by: str) -> None:
    line = only(conv(), fast())
    assert _hidden(replace(line.bound, by=by)).text == "hidden behind other layers: nothing to gain here"
    assert _hidden(replace(line.bound, by="none")).text == "it costs nothing"


def test_gains_are_what_timing_the_changed_march_gives() -> None:
    """The int8 rows against the same program on a march whose int16 rate is the int8 rate."""
    program = conv(size=16, dtype=DType.INT16)
    slow, quick = fast(tae__passes_int16_int8=2), fast(tae__passes_int16_int8=1)
    saved = latency_of(program, slow).bpu_us - latency_of(program, quick).bpu_us
    assert only(program, slow).advice.gain_us == pytest.approx(saved, abs=0.002)


def test_a_layer_exposed_alone_is_the_whole_segment() -> None:
    program = conv(size=16)
    line = only(program, march())
    whole = latency_of(program, march())
    assert line.exposed_us == pytest.approx(whole.bpu_us - 10)  # start_us stays


def test_a_batch_shares_the_start_of_the_network_too() -> None:
    chip = fast(chip__start_us=100)
    found = analyse(conv(size=16), chip)
    assert kinds(found)["batch"] == pytest.approx(75, rel=0.01)


def test_a_cpu_segment_names_its_largest_part_and_its_node() -> None:
    chip = with_values(get_march("nash-e"), {"chip.start_us": 1})
    for program, last in ((cpu_program(), "quantize the model"), (mixed_program(), "quantize it")):
        found = analyse(program, chip)
        (segment,) = found.cpu
        assert segment.parts.total_us == pytest.approx(latency_of(program, chip).cpu_us)
        largest = max(segment.parts.handover_us, segment.parts.dispatch_us, segment.parts.work_us)
        assert f"{segment.by} {largest:.0f} of" in segment.why
        assert last in segment.cure
        assert max(found.changes, key=lambda c: c.gain_us).key == "CPU segment"


def test_a_program_without_bpu_segments_has_no_layers() -> None:
    found = analyse(cpu_program(), get_march("nash-e"))
    assert found.layers == ()
    assert len(found.cpu) == 1


def test_what_transfers_keep_from_the_engines_goes_with_the_transfers() -> None:
    """A port of 1 byte per cycle: the weights hold the array as long as they take to load."""
    line = only(conv(c_in=320, c_out=320, size=1), fast(chip__port_bytes_per_cycle=1))
    loaded = 320 * 320 + 320 * 16
    assert line.bound.by == "DDR"
    assert line.bound.ddr_us == pytest.approx((loaded + 2 * 320) / 1000)
    assert line.bound.compute_us == pytest.approx(0.1)
    assert line.advice.key == "batch"
    assert line.advice.gain_us == pytest.approx(loaded * (1 - 1 / BATCH) / 1000, rel=0.01)


def test_a_table_is_set_up_like_a_layer() -> None:
    b = Build()
    x, y = b.input((1, 8, 8, 32)), b.tensor((1, 8, 8, 32))
    op = Lut(inputs=(x,), outputs=(y,), table_id=b.const(np.arange(-128, 128, dtype=np.int8)))
    assert only(one(op, b), fast(chip__table_ns=5000)).bound.overhead_us == pytest.approx(5)


def test_every_cpu_segment_between_two_of_the_bpu_costs_a_start_and_one_cure_counts_them() -> None:
    b = GraphBuilder()
    y = b.quantized_input((1, 8, 6, 6))
    for _ in range(2):
        y = b.qdq(b.node("Hardmax", b.qdq(EMITTERS["Conv"](b, y, channels=8, pads=1)[0])))
    b.output(b.qdq(EMITTERS["Conv"](b, y, channels=8, pads=1)[0]))
    target = get_march("nash-e")
    found = analyse(build(b.model(), march=target), target)
    assert [c.segment for c in found.cpu] == [1, 3]
    for bound in found.cpu:
        assert bound.gain_us == pytest.approx(bound.parts.total_us + target.chip.start_us)
    (change,) = (c for c in found.changes if c.key == "CPU segment")
    assert change.text.startswith("2 CPU segments: Hardmax onto the BPU")
    assert change.layers == 2


@pytest.mark.parametrize("seed", range(4))
def test_only_transfers_have_addresses_and_only_loads_load_constants(seed: int) -> None:
    target = chip_of(12 << 10)
    program = scheduled(random_net(seed), target, 2)
    site = Site(program, segment_of(program), target)
    columns = (site.engine, site.constant, site.spilled, site.crossing)
    for engine, constant, spilled, crossing in zip(*columns, strict=True):
        assert set(engine[constant]) == {Engine.LOAD}
        assert set(engine[spilled | crossing]) <= {Engine.LOAD, Engine.STORE}
        moved = (engine == Engine.LOAD) | (engine == Engine.STORE)
        assert (constant.astype(int) + spilled + crossing)[moved].tolist() == [1] * int(moved.sum())
