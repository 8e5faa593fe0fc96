"""Facts about frames of several threads: queueing, overlap, priorities, cores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from openbpu.arch.errors import InputError
from openbpu.runtime.frames import Frames, Load, simulate_frames
from openbpu.runtime.latency import Latency, SegmentLatency

LATENCY = Path(__file__).resolve().parents[2].parent / "shared" / "latency"


def latency(
    *segments: tuple[str, float], submit: float = 0.0, serial: float = 0.0, tail: float = 0.0
) -> Latency:
    made = tuple(SegmentLatency(f"s{n}", on, us, "") for n, (on, us) in enumerate(segments))
    return Latency(made, submit_us=submit, dequantize_us=tail, serial_us=serial)


def run(load: Load, bpu: int = 1, cpu: int = 8) -> Frames:
    return simulate_frames([load], bpu_cores=bpu, cpu_cores=cpu)[0]


MIXED = latency(
    ("CPU", 30), ("BPU", 100), ("CPU", 20), ("BPU", 50), ("CPU", 40), submit=60, serial=10, tail=5
)


def test_one_thread_takes_what_latency_says() -> None:
    found = run(Load(MIXED, frames=20))
    assert found.average_us == pytest.approx(MIXED.one_thread_us)
    assert found.least_us == pytest.approx(found.most_us)
    assert found.fps == pytest.approx(1e6 / MIXED.one_thread_us)


@pytest.mark.parametrize("threads", [4, 8])
def test_many_threads_keep_the_bpu_busy(threads: int) -> None:
    found = run(Load(MIXED, frames=400, threads=threads))
    assert 1e6 / found.fps == pytest.approx(MIXED.frame_us, rel=0.02)
    assert found.average_us == pytest.approx(threads * MIXED.frame_us, rel=0.03)  # Little's law
    assert found.least_us < found.average_us <= found.percentile_us(99) <= found.most_us
    assert found.bpu_busy_us / found.total_us > 0.98


def test_two_threads_overlap_cpu_and_bpu() -> None:
    even = latency(("CPU", 50), ("BPU", 50))
    assert run(Load(even, frames=100, threads=2)).total_us == pytest.approx(101 * 50)


def test_frames_by_hand() -> None:
    """Two threads, 10 on the host and 100 on the BPU: the second waits 90 each time."""
    found = run(Load(latency(("BPU", 100), submit=10, serial=10), frames=4, threads=2))
    assert sorted(found.end_us) == [110, 210, 310, 410]
    assert sorted(found.latencies_us) == [110, 200, 200, 210]


def test_cores_wait_for_the_memory_that_they_share() -> None:
    moving = replace(latency(("BPU", 100)), shared_us=40.0)
    per_frame = [run(Load(moving, frames=40, threads=n), bpu=4).total_us / 40 for n in (1, 2, 4)]
    assert per_frame == [100, 50, 40]
    assert per_frame[-1] * 4 == moving.frame_us_on(4)


def test_cores_share_the_frames_until_the_host_is_the_bound() -> None:
    one = latency(("BPU", 100), submit=20, serial=20)
    assert 1e6 / run(Load(one, 400, 8), bpu=4).fps == pytest.approx(25, rel=0.03)
    assert 1e6 / run(Load(one, 400, 16), bpu=8).fps == pytest.approx(20, rel=0.03)
    wide = Load(one, 100, 8, width=2)
    assert 1e6 / run(wide, bpu=4).fps == pytest.approx(50, rel=0.05)
    pinned = Load(one, 100, 8, cores=frozenset({2}))
    assert 1e6 / run(pinned, bpu=4).fps == pytest.approx(100, rel=0.03)


def test_few_cores_of_the_cpu_bound_frames_that_are_all_cpu() -> None:
    slow = latency(("CPU", 300))
    assert 1e6 / run(Load(slow, 60, 12), cpu=6).fps == pytest.approx(50)


def test_models_share_the_bpu_and_the_urgent_one_waits_less() -> None:
    short = latency(("BPU", 50))
    loads = [Load(short, 200, 4, priority=0), Load(short, 40, 1, priority=9)]
    low, high = simulate_frames(loads, bpu_cores=1, cpu_cores=8)
    assert high.most_us <= 2 * 50  # what has begun is not interrupted
    assert high.average_us < low.average_us
    assert max(low.end_us) == pytest.approx(240 * 50)


def test_the_same_loads_give_the_same_frames() -> None:
    load = Load(MIXED, 50, 3)
    assert run(load) == run(load)


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (Load(MIXED, frames=0), "frame_count must be at least 1"),
        (Load(MIXED, threads=0), "thread_num must be at least 1"),
        (Load(MIXED, cores=frozenset({1})), r"core_id must be 1 or more of the cores 0\.\.0, not \[1\]"),
        (Load(MIXED, width=2), "core_id must be 2 or more"),
    ],
)
def test_what_cannot_run_is_refused(load: Load, text: str) -> None:
    with pytest.raises(InputError, match=text):
        run(load)


@pytest.mark.slow
@pytest.mark.skipif(not LATENCY.exists(), reason="the published latencies are not at hand")
@pytest.mark.parametrize(
    ("model", "march"),
    [("YOLOv8n-CLS", "nash-e"), ("Mobilenetv4_conv_small", "nash-e"), ("YOLOv8n-CLS", "nash-p")],
)
def test_published_columns_of_one_and_many_threads(model: str, march: str) -> None:
    """Both columns within what the cycle model itself is off on such networks (docs/fidelity.md)."""
    import csv
    import lzma

    import onnx

    from openbpu.arch.march import get_march
    from openbpu.compiler import compile as build
    from openbpu.quantization.onnx import quantize_random
    from openbpu.runtime import Session

    graph = LATENCY / "graphs" / f"{model}.onnx.xz"
    rows = csv.DictReader((LATENCY / "published.csv").read_text(encoding="utf-8").splitlines())
    row = next((r for r in rows if (r["model"], r["march"]) == (model, march)), None)
    if row is None or not graph.exists():
        pytest.skip("this network is not at hand")
    made = quantize_random(onnx.load_from_string(lzma.decompress(graph.read_bytes())))
    program = build(made, march=march, remove_io=("quantize", "dequantize", "transpose"))
    chip, timed = get_march(march), Session(program).latency
    cores, cpus = chip.chip.cores, chip.cpu.cores
    (one,) = simulate_frames([Load(timed, 50)], bpu_cores=cores, cpu_cores=cpus)
    (many,) = simulate_frames([Load(timed, 200, int(row["threads"]))], bpu_cores=cores, cpu_cores=cpus)
    per_frame = cores * 1e3 / many.fps
    assert one.average_us / 1e3 == pytest.approx(float(row["one_thread_ms"]), rel=0.2)
    assert per_frame == pytest.approx(float(row["bpu_ms_per_frame"]), rel=0.2)
