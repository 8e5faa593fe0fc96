"""The quantizers that `accuracy.py` compares: ONNX Runtime's, NNCF's and ours, all given the same samples.

Each is a function of a float model, samples and a file to write. Its result is run by ONNX Runtime with all
optimizations off, so that a QDQ model means what it says.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accuracy_auto import of_auto
from accuracy_networks import Feed, Network
from accuracy_scores import Array
from onnx import version_converter

from openbpu.arch.dtypes import DType
from openbpu.compiler import compile as compile_model
from openbpu.engine import onnxruntime
from openbpu.evaluation.search import Search
from openbpu.quantization.onnx import Corrections, quantize
from openbpu.runtime import Session

# isort: split
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = Path(__file__).resolve().parent
PER_CHANNEL_OPSET = 13
NNCF_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Way:
    """A quantizer with its options. column: of the table, where the best of its ways counts."""

    column: str
    name: str
    run: Callable[[Path, list[Feed], Path], Search | None]


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Feed samples to ONNX Runtime's calibration."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        """Keep an iterator over the samples."""
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next sample, None after the last."""
        return next(self._feeds, None)


def fixed(network: Network, source: Path, target: Path) -> None:
    """Write the float model that all start from: free axes fixed, opset 13 at least."""
    model = onnx.load(source)
    for value in model.graph.input:
        for dim, size in zip(
            value.type.tensor_type.shape.dim, network.shapes.get(value.name, ()), strict=False
        ):
            dim.dim_value = size
    if model.opset_import[0].version < PER_CHANNEL_OPSET:
        model.ir_version = max(model.ir_version, 7)
        model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
    del model.graph.value_info[:]
    onnx.save(model, target)


def of_onnx_runtime(
    model: Path, feeds: list[Feed], out: Path, method: CalibrationMethod, *, per_channel: bool
) -> None:
    """Quantize as ONNX Runtime's documentation does: pre-processing, then `quantize_static`."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.onnx")
        try:
            quant_pre_process(model, ready)
        except Exception:  # its symbolic shapes do not know every operator
            quant_pre_process(model, ready, skip_symbolic_shape=True)
        quantize_static(ready, out, Reader(feeds), calibrate_method=method, per_channel=per_channel)


def of_nncf(model: Path, feeds: list[Feed], out: Path, python: str) -> None:
    """Quantize in the interpreter that has nncf."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder, "feeds.npz"), **{f"{n} {k}": v for n, f in enumerate(feeds) for k, v in f.items()}
        )
        command = [
            python,
            str(HERE / "accuracy_nncf.py"),
            str(model),
            str(Path(folder, "feeds.npz")),
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=NNCF_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def of_ours(model: Path, feeds: list[Feed], out: Path, **options: Any) -> None:
    """Quantize with openbpu."""
    quantize(model, feeds, out, **options)


def peers(nncf: str | None) -> list[Way]:
    """Return the ways of the others."""
    methods = [(m, False) for m in ("MinMax", "Entropy", "Percentile")] + [("MinMax", True)]
    ways = [
        Way(
            "ONNX Runtime",
            m + (" per channel" if each else ""),
            partial(of_onnx_runtime, method=CalibrationMethod[m], per_channel=each),
        )
        for m, each in methods
    ]
    return ways + ([Way("NNCF", "NNCF", partial(of_nncf, python=nncf))] if nncf else [])


def ours(corrections: bool, network: Network, source: Path, march: str, budget: float | None) -> list[Way]:
    """Return our ways: those that this version of `quantize` has."""
    ways = [Way("int8", "int8", of_ours), Way("int16", "int16", partial(of_ours, activation=DType.INT16))]
    auto = partial(of_auto, network=network, source=source, march=march, budget=budget)
    ways.append(Way("auto", "auto", auto))
    if not corrections:
        return ways
    ways += [Way("int8, best", m, partial(of_ours, method=m)) for m in METHODS]
    every = Corrections(**dict.fromkeys(CORRECTIONS, True))
    ways += [
        Way("int8, best", name.replace("_", " "), partial(of_ours, corrections=Corrections(**{name: True})))
        for name in CORRECTIONS
    ]
    ways += [
        Way("int8, best", "symmetric", partial(of_ours, asymmetric=False)),
        Way("int8, best", "asymmetric inputs", partial(of_ours, asymmetric=True)),
    ]
    all_of_it = partial(of_ours, method="mix", corrections=every)
    return [*ways, Way("int8, best", "mix, corrected", all_of_it)]


METHODS = ("mse", "percentile", "kl", "mix")
CORRECTIONS = ("equalisation", "bias_correction", "adaptive_rounding")


def session(model: Path) -> onnxruntime.InferenceSession:
    """Return a model in ONNX Runtime with nothing optimized, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def outputs_of(model: Path, feeds: Sequence[Feed]) -> Iterator[list[Array]]:
    """Yield the outputs of every sample, in the model's order."""
    loaded = session(model)
    names = {i.name for i in loaded.get_inputs()}
    for feed in feeds:
        yield loaded.run(None, {k: v for k, v in feed.items() if k in names})


@dataclass(frozen=True, slots=True)
class Binary:
    """A compiled model against its QDQ model, over some samples. microseconds: of the BPU's part, simulated.

    same: samples whose outputs are equal; difference: the largest relative to the largest magnitude.
    """

    same: int
    samples: int
    difference: float
    microseconds: float


def binary_of(model: Path, feeds: Sequence[Feed], march: str) -> Binary:
    """Compile a QDQ model and run it in the simulator beside ONNX Runtime."""
    from openbpu.arch.march import get_march
    from openbpu.runtime.latency import latency_of

    program = compile_model(model, march=march)
    found = Session(program)
    same, worst = 0, 0.0
    for feed, expected in zip(feeds, outputs_of(model, feeds), strict=True):
        pairs = list(zip(found.run(feed).outputs.values(), expected, strict=True))
        same += all(np.array_equal(f, e) for f, e in pairs)
        worst = max(worst, *(float(np.abs(f - e).max() / max(1e-9, np.abs(e).max())) for f, e in pairs))
    return Binary(same, len(feeds), worst, latency_of(program, get_march(march)).bpu_us)


def quiet() -> None:
    """Keep warnings of the libraries about their own work off the screen."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # progress is worth seeing
