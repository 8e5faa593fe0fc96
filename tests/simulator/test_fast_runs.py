"""Facts about running: threads, concurrent runs, memory reuse, the cache of kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from openbpu.arch.program import Binary, Conv, Move, Pool, Program, Space
from openbpu.simulator.fast import FastSegment, kernels_are_cached, warm_up
from openbpu.simulator.fast.plan.steps import Buffer
from openbpu.simulator.fast.run.memory import plan_buffers
from openbpu.simulator.fast.run.pace import Pace
from simulator.build import Build, random_tensor, segment_of
from simulator.oracle import Array, Oracle

SIDE, WIDTH = 24, 40


def network(blocks: int = 4) -> tuple[Program, dict[int, Array]]:
    """Residual blocks of a depthwise, a dense and a pooled layer, with views in between."""
    b, rng = Build(), np.random.default_rng(5)
    image = b.input((1, 3, SIDE, SIDE))
    pixels = b.tensor((1, SIDE, SIDE, 3), space=Space.CHIP)
    b.add(Move(inputs=(image,), outputs=(pixels,), shape=(SIDE * SIDE, 3), strides=(1, SIDE * SIDE)))
    x = _conv(b, rng, pixels, 3, WIDTH, groups=1)
    shape = (1, SIDE, SIDE, WIDTH)
    for _ in range(blocks):
        y = _conv(b, rng, x, WIDTH, WIDTH, groups=WIDTH)
        y = _conv(b, rng, b.view(y, shape), WIDTH, WIDTH, groups=1)
        total = b.tensor(shape, space=Space.CHIP)
        b.add(Binary(
            inputs=(x, y), outputs=(total,), fn="add", shape=shape, a_strides=_dense(shape),
            b_strides=_dense(shape), mult_a=2**30, mult_b=2**30, shift=31,
        ))  # fmt: skip
        x = total
    out = b.tensor((1, SIDE // 2, SIDE // 2, WIDTH))
    b.add(Pool(
        inputs=(x,), outputs=(out,), counts_id=b.const(np.array([[2**30, 30]])), fn="max", x_shape=shape,
        y_shape=(1, SIDE // 2, SIDE // 2, WIDTH), kernel=(2, 2), strides=(2, 2),
    ))  # fmt: skip
    return b.program((out, x)), {image: random_tensor(rng, (1, 3, SIDE, SIDE))}


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def _conv(b: Build, rng: np.random.Generator, x: int, cin: int, cout: int, groups: int) -> int:
    y = b.tensor((1, SIDE, SIDE, cout), space=Space.CHIP)
    params = np.tile([[100, 2**30, 0, 41 if groups == 1 else 38]], (cout, 1)).astype(np.int32)
    b.add(Conv(
        inputs=(x,), outputs=(y,), weight_id=b.const(random_tensor(rng, (cout, 3, 3, cin // groups))),
        params_id=b.const(params), x_shape=(1, SIDE, SIDE, cin), y_shape=(1, SIDE, SIDE, cout), kernel=(3, 3),
        pads=(1, 1, 1, 1), groups=groups,
    ))  # fmt: skip
    return y


@pytest.mark.parametrize("threads", [1, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 7))])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    program, inputs = network()
    segment = segment_of(program)
    wanted = Oracle(program, segment).run(inputs)
    fast = FastSegment(program, segment, threads)
    for _ in range(20):
        for tensor_id, value in fast.run(inputs).items():
            np.testing.assert_array_equal(value, wanted[tensor_id])


@pytest.mark.parametrize("threads", [1, 2])
def test_concurrent_runs_do_not_disturb_each_other(threads: int) -> None:
    program, inputs = network(blocks=2)
    (image,) = inputs
    segment = segment_of(program)
    fast = FastSegment(program, segment, threads)
    images = [random_tensor(np.random.default_rng(seed), (1, 3, SIDE, SIDE)) for seed in range(6)]
    wanted = [fast.run({image: values}) for values in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for got, value in zip(pool.map(lambda v: fast.run({image: v}), images), wanted, strict=True):
                assert all((got[t] == value[t]).all() for t in value)


@pytest.mark.parametrize(("alone", "shared"), [(1.0, 3.0), (3.0, 1.0)])
def test_the_faster_way_is_taken_and_the_other_tried_now_and_then(alone: float, shared: float) -> None:
    pace, ways = Pace(), []
    for _ in range(100):
        ways.append(pace.shared_now())
        pace.record(shared=ways[-1], seconds=shared if ways[-1] else alone)
    rarely = ways[10:].count(alone < shared)
    assert 1 <= rarely <= 6


def test_run_all_returns_every_tensor() -> None:
    program, inputs = network(blocks=2)
    segment = segment_of(program)
    oracle = Oracle(program, segment)
    oracle.run(inputs)
    everything = FastSegment(program, segment).run_all(inputs)
    written = {t for op in segment.operators for t in op.outputs}
    assert set(everything) == written
    for tensor_id in written:
        np.testing.assert_array_equal(everything[tensor_id], oracle.get(tensor_id))


def test_outputs_are_fresh_arrays() -> None:
    program, inputs = network(blocks=1)
    fast = FastSegment(program, segment_of(program))
    first = fast.run(inputs)
    copies = {t: v.copy() for t, v in first.items()}
    fast.run({t: np.zeros_like(v) for t, v in inputs.items()})
    assert all((first[t] == copies[t]).all() for t in first)


def test_an_input_may_be_an_output() -> None:
    b = Build()
    x = b.input((2, 6))
    program = b.program((b.view(x, (3, 4)),))
    data = random_tensor(np.random.default_rng(0), (2, 6))
    (out,) = program.outputs
    assert (
        FastSegment(program, segment_of(program)).run({x: data})[out].tolist() == data.reshape(3, 4).tolist()
    )


def test_buffers_that_live_together_do_not_overlap() -> None:
    rng = np.random.default_rng(3)
    buffers = []
    for _ in range(60):
        first = int(rng.integers(0, 30))
        buffers.append(Buffer(int(rng.integers(1, 5000)), first, first + int(rng.integers(0, 6))))
    offsets, size = plan_buffers(buffers)
    spans = [(o, o + b.nbytes) for o, b in zip(offsets, buffers, strict=True)]
    for i, a in enumerate(buffers):
        for j, b in enumerate(buffers[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert spans[i][1] <= spans[j][0] or spans[j][1] <= spans[i][0]
    assert size < sum(b.nbytes for b in buffers)


def test_warm_up_leaves_nothing_to_compile() -> None:
    program, _ = network(blocks=1)
    warm_up(program)
    assert kernels_are_cached(program)


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_importing_the_simulator_imports_neither_numba_nor_llvm() -> None:
    code = "import sys, openbpu.simulator.fast; print([m for m in ('numba', 'llvmlite') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


TINY = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from simulator.build import Build, segment_of
from openbpu.arch.program import Lut
from openbpu.simulator.fast import FastSegment, kernels_are_cached
b = Build()
x, y = b.input((4,)), b.tensor((4,))
b.add(Lut(inputs=(x,), outputs=(y,), table_id=b.const(np.arange(-128, 128).astype(np.int8))))
p = b.program((y,))
cached = kernels_are_cached(p)
got = FastSegment(p, segment_of(p)).run({{x: np.array([1, 2, 3, -4], np.int8)}})
print(got[y].tolist(), cached, "numba" in sys.modules)
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing_and_imports_no_numba(tmp_path: Path) -> None:
    code = TINY.format(tests=str(Path(__file__).parents[1]))
    assert run_python(code, OPENBPU_CACHE_DIR=str(tmp_path)).strip() == "[1, 2, 3, -4] False True"
    before = os.times()
    assert run_python(code, OPENBPU_CACHE_DIR=str(tmp_path)).strip() == "[1, 2, 3, -4] True False"
    after = os.times()  # seconds of CPU, not of the clock: other processes of the machine do not count
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent < 1.5
