"""BPU segments in a session: both simulators, threads, latency, programs that change sides."""

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openbpu.arch.errors import InputError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.program import BpuSegment, CpuSegment, Program
from openbpu.compiler import compile as build
from openbpu.runtime import Mode, Session
from runtime.qdq import mixed_model

DIGITS = Path(__file__).parents[2] / "models" / "digits"
MODES: tuple[Mode, ...] = ("fast", "exact")


@lru_cache
def digits(**options: Any) -> Program:
    return read_hbm(to_bytes(build(DIGITS / "digits.q.onnx", march="nash-e", **options)))


@lru_cache
def mixed() -> Program:
    return read_hbm(to_bytes(build(mixed_model(), march="nash-e")))


def images(count: int) -> list[Any]:
    return list(
        (np.load(DIGITS / "test.npz")["images"][:count] / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8)
    )


@pytest.mark.parametrize("mode", MODES)
def test_digits_are_recognised(mode: Mode) -> None:
    session = Session(digits(), mode=mode)
    labels = np.load(DIGITS / "test.npz")["labels"][:20]
    found = [int(session.run({"image": x}).outputs["logits"].argmax()) for x in images(20)]
    assert sum(a == b for a, b in zip(found, labels, strict=True)) >= 19


@pytest.mark.parametrize("threads", [1, 2])
def test_fast_and_exact_agree_to_the_bit(threads: int) -> None:
    fast, exact = Session(digits(), threads=threads), Session(digits(), mode="exact")
    for x in images(5):
        a, b = (s.run({"image": x}).outputs["logits"] for s in (fast, exact))
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", [digits, mixed])
def test_threads_that_share_a_session_get_the_same_bits(mode: Mode, program: Any) -> None:
    session = Session(program(), mode=mode)
    feeds = [session_feed(session, seed) for seed in range(6)]
    expected = [session.run(feed).outputs for feed in feeds]
    wrong: list[int] = []
    barrier = threading.Barrier(3)

    def work(offset: int) -> None:
        barrier.wait()
        for k in [*range(offset, 6), *range(offset)]:
            outputs = session.run(feeds[k]).outputs
            wrong.extend(k for name, y in outputs.items() if y.tobytes() != expected[k][name].tobytes())

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def session_feed(session: Session, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {t.name: rng.random(t.shape, dtype=np.float32) for t in session.inputs}


def test_mixed_model_changes_sides() -> None:
    kinds = [type(s) for s in mixed().segments]
    assert kinds == [BpuSegment, CpuSegment, BpuSegment]


def test_nan_that_the_cpu_makes_does_not_reach_the_bpu() -> None:
    session = Session(mixed())
    rng = np.random.default_rng(0)
    feed = {t.name: rng.normal(size=t.shape).astype(np.float32) * 10 for t in session.inputs}
    with pytest.raises(
        InputError, match=r"BPU segment '.*', tensor '.*': every value must be finite, not NaN"
    ):
        session.run(feed)


def test_latency_is_simulated_once_and_keeps_sides_apart() -> None:
    session = Session(mixed())
    first = session.run(session_feed(session, 0)).latency
    assert session.latency is first
    bpu = [s for s in first.segments if s.on == "BPU"]
    cpu = [s for s in first.segments if s.on == "CPU"]
    assert [s.basis for s in bpu] == ["simulated"] * 2
    assert [s.basis for s in cpu] == ["estimate"]
    assert first.bpu_us == pytest.approx(sum(s.microseconds for s in bpu))
    assert first.cpu_us == pytest.approx(cpu[0].microseconds)
    assert all(s.cycles > 0 and s.timing is not None for s in bpu)


def test_what_is_printed_is_short() -> None:
    session = Session(mixed())
    result = session.run(session_feed(session, 0))
    assert repr(session).startswith("Session('")
    assert " → " in repr(session)
    first = result.latency.segments[0]
    for thing in (session, result, result.latency, first, first.timing):
        assert len(repr(thing)) < 250
    assert "bpu_us=" in repr(result.latency)
    assert "timing" not in repr(first)
    assert "cycles=" in repr(first.timing)


def test_latency_needs_no_run() -> None:
    assert Session(digits()).latency.bpu_us > 0


def test_bare_ends_take_and_give_integers() -> None:
    session = Session(digits(remove_io=("quantize", "dequantize")))
    (given,), (made,) = session.inputs, session.outputs
    assert given.dtype.value == "int8"
    assert given.quanti_type == made.quanti_type == "SCALE"
    with pytest.raises(InputError, match="this input takes integers: quantize it first"):
        session.run({given.name: np.zeros(given.shape, np.float32)})
    full = Session(digits())
    for x in images(3):
        q = np.clip(np.rint(x / np.float32(given.scale[0])) + given.zero_point, -128, 127).astype(np.int8)
        raw = session.run({given.name: q}).outputs[made.name]
        scale = np.array(made.scale, np.float32)
        np.testing.assert_array_equal(
            raw.astype(np.float32) * scale, full.run({"image": x}).outputs["logits"]
        )
