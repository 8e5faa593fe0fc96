"""`hrt_model_exec model_info | infer | perf`: the runtime tool of the boards, in the simulator."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.files import write_atomic, write_text
from openbpu.arch.hbm import read_package
from openbpu.compat.commands.described import tensors_text
from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.pyeasy_dnn import Model
from openbpu.compat.samples import folder_samples
from openbpu.compat.scheduling import check_scheduling
from openbpu.compat.screen import say
from openbpu.quantization.samples import Input
from openbpu.runtime import Session
from openbpu.runtime.frames import Frames, Load, simulate_frames
from openbpu.runtime.latency import cores_of

_MS = 1e3
"""µs per ms."""

_PERCENTILES = (50, 90, 95, 99)


def main(arguments: Sequence[str]) -> int:
    """Describe, run or time compiled files."""
    parser = Parser("hrt_model_exec", "Describe, run or time a compiled file.")
    parser.add_argument("command", choices=("model_info", "infer", "perf"))
    parser.add_argument("--model_file", required=True, help="one file, or several with commas")
    parser.add_argument("--model_name", help="of several files the one to run")
    parser.add_argument("--input_file", help="a file per input, with commas")
    parser.add_argument("--frame_count", type=int, default=200, help="frames that are submitted")
    parser.add_argument("--thread_num", type=int, default=1, help="threads that submit them")
    parser.add_argument("--core_id", default="0", help="0: any core; 1, 2, …: that one, several with commas")
    parser.add_argument("--priority", type=int, default=0, help="0..255; of several files, that of the first")
    parser.add_argument("--perf_time", type=float, default=0, help="minutes, in place of frame_count")
    parser.add_argument("--profile_path", help="a folder for profiler.log")
    parser.add_argument("--dump_path", help="a folder for the outputs, as .npy")
    parser.add_argument("--enable_dump", nargs="?", const="true", default="false", help="write the outputs")
    given = parser.parsed(arguments)
    files = files_of(given.model_file, "hrt_model_exec")
    sessions = [Session(program) for path in files for program in read_package(path)]
    if given.model_name is not None:
        names = [s.program.name for s in sessions]
        if given.model_name not in names:
            raise InputError(
                must("--model_name", "the model", f"one of {', '.join(names)}", f"'{given.model_name}'")
            )
        sessions = [s for s in sessions if s.program.name == given.model_name]
    {"model_info": _info, "infer": _infer, "perf": _perf}[given.command](sessions, given)
    return 0


def _info(sessions: Sequence[Session], given: argparse.Namespace) -> None:
    del given
    for session in sessions:
        say(f"[model name]: {session.program.name}")
        say(f"[march]: {session.program.march}")
        say(tensors_text(session))


# --- infer ---


def _infer(sessions: Sequence[Session], given: argparse.Namespace) -> None:
    """Run one file on its inputs (zeros where none are given), and write the outputs where that is asked."""
    session = sessions[0]
    model = Model(session)
    outputs = model.forward(_arrays(model, session, given.input_file))
    for number, out in enumerate(outputs):
        y = out.buffer
        ends = f", {y.min():.6g} … {y.max():.6g}" if y.size else ""
        say(f"output[{number}] {out.name}: {y.dtype.name} ({','.join(map(str, y.shape))}){ends}")
    say(f"Infer time: {session.latency.one_thread_us / _MS:.6f} ms (simulated)")
    if given.dump_path or given.enable_dump.lower() in {"true", "1"}:
        folder = Path(given.dump_path or ".")
        folder.mkdir(parents=True, exist_ok=True)
        for number, out in enumerate(outputs):
            path = folder / f"model_infer_output_{number}_{_safe(out.name)}.npy"
            _write(path, out.buffer)
            say(f"wrote {path}")


def _write(path: Path, array: Array) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, [buffer.getbuffer()])


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:100] or "output"


def _arrays(model: Model, session: Session, given: str | None) -> list[Array]:
    """Return an array per input; a picture's planes may be a file each, or one file together."""
    if given is None:
        return [end.buffer for end in model.inputs]
    files = files_of(given, "--input_file")
    if len(files) == len(session.inputs) != len(model.inputs):
        planes = {
            t.name: np.asarray(
                folder_samples(path, Input(t.name, t.shape, np.dtype(t.dtype.numpy)), raw=t.dtype.value)[0]
            )
            for path, t in zip(files, session.inputs, strict=True)
        }
        return model.joined(planes)
    if len(files) != len(model.inputs):
        raise InputError(must("--input_file", "the number of files", len(model.inputs), len(files)))
    return [_array(path, end) for path, end in zip(files, model.inputs, strict=True)]


def _array(path: Path, end: Any) -> Array:
    dtype = end.buffer.dtype
    if end.properties.tensor_type == "NV12":
        taker = Input(end.name, end.buffer.shape, dtype)
    else:
        taker = Input(end.name, end.properties.shape, dtype)
    return np.asarray(folder_samples(path, taker, raw=dtype.name)[0])


# --- perf ---


def _perf(sessions: Sequence[Session], given: argparse.Namespace) -> None:
    """Simulate the frames of all threads, and print what the board's tool prints."""
    march = sessions[0].march
    for session in sessions:
        if session.program.march != sessions[0].program.march:
            raise InputError(must("--model_file", "the marches", "the same", "different", "time them apart"))
    cores = _cores(given.core_id, march.chip.cores)
    check_scheduling(given.priority, sorted(cores), march.chip.cores)
    loads = [_load(session, given, cores, first=n == 0) for n, session in enumerate(sessions)]
    found = simulate_frames(loads, bpu_cores=march.chip.cores, cpu_cores=march.cpu.cores)
    for session, load, frames in zip(sessions, loads, found, strict=True):
        if len(sessions) > 1:
            say(f"[model name]: {session.program.name}")
        say(perf_text(load, frames))
    if given.profile_path:
        path = Path(given.profile_path) / "profiler.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = [_profile(s, one, f) for s, one, f in zip(sessions, loads, found, strict=True)]
        write_text(path, json.dumps(runs[0] if len(runs) == 1 else runs, indent=2))
        say(f"wrote {path}")


def _cores(given: str, there: int) -> frozenset[int]:
    """Return the cores that may be used, numbered from 0; empty for any."""
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdigit() and int(word) <= there for word in words):
        raise InputError(must("--core_id", "the cores", f"0 (any), or 1..{there}", f"'{given}'"))
    chosen = {int(word) for word in words}
    return frozenset() if 0 in chosen else frozenset(core - 1 for core in chosen)


def _load(session: Session, given: argparse.Namespace, cores: frozenset[int], *, first: bool) -> Load:
    frames = given.frame_count
    if given.perf_time:
        per_frame = session.latency.frame_us or session.latency.one_thread_us
        frames = max(int(given.perf_time * 60e6 / max(per_frame, 1.0)), 1)
    level = given.priority if first else 0
    return Load(session.latency, frames, given.thread_num, level, cores, cores_of(session.program))


def perf_text(load: Load, found: Frames) -> str:
    """Return the lines that users read latency and FPS from; times in ms."""
    lines = [
        "Running condition:",
        f"  Thread number is: {load.threads}",
        f"  Frame count   is: {load.frames}",
        f"  Program run time: {found.total_us / _MS:.6f} ms (simulated)",
        "Perf result:",
        f"  Frame totally latency is: {float(found.latencies_us.sum()) / _MS:.6f} ms",
        f"  Average    latency    is: {found.average_us / _MS:.6f} ms",
        f"  Frame      rate       is: {found.fps:.6f} FPS",
        ",  ".join(
            (
                f"Frame count: {load.frames}",
                f"Thread Average: {found.average_us / _MS:.6f} ms",
                f"thread max latency: {found.most_us / _MS:.6f} ms",
                f"thread min latency: {found.least_us / _MS:.6f} ms",
                f"FPS: {found.fps:.6f}",
            )
        ),
        "latency percentiles: "
        + ", ".join(f"p{share} {found.percentile_us(share) / _MS:.6f} ms" for share in _PERCENTILES),
    ]
    return "\n".join(lines)


def _profile(session: Session, load: Load, found: Frames) -> dict[str, Any]:
    """Return what the profiler's file holds, in ms."""
    latency = session.latency
    segments = {s.name: {"avg_time": s.microseconds / _MS, "processor": s.on} for s in latency.segments}
    return {
        "perf_result": {
            "FPS": found.fps,
            "average_latency": found.average_us / _MS,
            "max_latency": found.most_us / _MS,
            "min_latency": found.least_us / _MS,
            **{f"p{share}_latency": found.percentile_us(share) / _MS for share in _PERCENTILES},
        },
        "running_condition": {
            "core_id": sorted(core + 1 for core in load.cores) or 0,
            "frame_count": load.frames,
            "model_name": session.program.name,
            "priority": load.priority,
            "run_time": found.total_us / _MS,
            "thread_num": load.threads,
        },
        "model_latency": segments,
        "processor_latency": {
            "BPU_inference_time_cost": {"avg_time": latency.bpu_us / _MS},
            "CPU_inference_time_cost": {"avg_time": (latency.cpu_us + latency.dequantize_us) / _MS},
        },
        "task_latency": {
            "TaskPendingTime": {"avg_time": max(found.average_us - latency.one_thread_us, 0.0) / _MS},
            "TaskRunningTime": {"avg_time": latency.one_thread_us / _MS},
        },
    }
