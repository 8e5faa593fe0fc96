"""Time inference: our fast mode and ONNX Runtime's int8, alternately in one process, with the same threads.

    python benchmarks/inference.py                    resnet18, mobilenetv2_100, ultraface; made if missing
    python benchmarks/inference.py MODEL.onnx …       other quantized models
    python benchmarks/inference.py --fixtures DIR     where NAME.u8.onnx and NAME.s8.onnx are, or will be made

Each named model is there in two forms: u8 (uint8 activations, ONNX Runtime's default and mostly its faster)
and s8. The ratio is ours to ONNX Runtime's on the same form; "to best" is to its faster form. Medians, and
minima beside them: the machine may be busy.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from openbpu.compiler import compile as compile_model
from openbpu.engine import onnxruntime
from openbpu.runtime import Session

HERE = Path(__file__).parent
NAMES = ("resnet18", "mobilenetv2_100", "ultraface")
FORMS = ("u8", "s8")
WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of both, run by run."""

    ours: list[float]
    theirs: list[float]


def milliseconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def random_inputs(session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Uniform images for every input; a dynamic size is 1."""
    rng = np.random.default_rng(0)
    sizes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
    return {name: rng.random(shape, dtype=np.float32) for name, shape in sizes.items()}


def measure(model: Path, march: str, threads: int, runs: int) -> Times:
    """Run a model in both, one after the other, `runs` times."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    theirs = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    ours = Session(compile_model(model, march=march), threads=threads)
    inputs = random_inputs(theirs)
    times = Times([], [])
    for run in range(runs + WARM_UP):
        pair = milliseconds(lambda: theirs.run(None, inputs)), milliseconds(lambda: ours.run(inputs))
        if run >= WARM_UP:
            times.theirs.append(pair[0])
            times.ours.append(pair[1])
    return times


def report(label: str, threads: int, times: Times, best: float) -> None:
    """Print one line; `best` is ONNX Runtime's median on the faster form."""
    ours, theirs = median(times.ours), median(times.theirs)
    print(
        f"{label:24} {threads:7} {ours:9.2f} {min(times.ours):9.2f} {theirs:9.2f} {min(times.theirs):9.2f} "
        f"{ours / theirs:7.2f} {ours / best:7.2f}",
        flush=True,
    )


def fixture_forms(name: str, folder: Path) -> list[Path]:
    """Return the forms of a named model, making them if they are missing."""
    forms = [folder / f"{name}.{form}.onnx" for form in FORMS]
    if not all(form.exists() for form in forms):
        script = [sys.executable, str(HERE / "fixtures.py"), str(folder), "--only", name]
        subprocess.run(script, check=True)
    return forms


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, help="quantized ONNX models instead of the fixtures")
    parser.add_argument("--fixtures", type=Path, default=HERE / "fixtures", help="folder of the fixtures")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--march", default="nash-e")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    asked = parse()
    onnxruntime.set_default_logger_severity(3)
    groups = [[m] for m in asked.models] or [fixture_forms(name, asked.fixtures) for name in NAMES]
    columns = ("model", "threads", "ours med", "min", "ORT med", "min", "ratio", "to best")
    print("{:24} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}   (ms)".format(*columns))
    failures = 0
    for forms in groups:
        for threads in asked.threads:
            try:
                times = {m: measure(m, asked.march, threads, asked.runs) for m in forms}
            except Exception as error:
                print(f"{forms[0].name}: {error}", file=sys.stderr)
                failures += 1
                continue
            best = min(median(t.theirs) for t in times.values())
            for model, each in times.items():
                report(model.name.removesuffix(".onnx"), threads, each, best)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
