"""What compiling costs, and other times a user waits for: `python benchmarks/compile.py [MODEL.onnx …]`.

Every figure is of a fresh process: CPU time (user + system, so that a busy machine changes it little) and
peak memory (ru_maxrss) of the whole `openbpu compile`, and CPU time of the `compile()` call alone. Without
arguments: start-up, resnet18 and mobilenetv2 as ONNX Runtime quantizes them (`benchmarks/fixtures.py` makes
them), `timing` and `exact` on resnet18, and by --fast-perf the networks in `../shared/latency/graphs` where
that folder exists. The limits are the project's own; the exit code is 1 when one is missed or a model fails.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from rich.table import Table

from openbpu.cli.screen import show
from openbpu.report.text import add_row, table

ROOT = Path(__file__).resolve().parents[1]
GRAPHS = ROOT.parent / "shared" / "latency" / "graphs"
DIGITS = ROOT / "models" / "digits"
FIXTURES = ROOT / "build" / "fixtures"

QUANTIZED = {"resnet18": 2.0, "mobilenetv2_100": 1.5}
"""Fixtures and the CPU seconds that compiling one may take."""

VARIANTS = ("s8", "u8")
FLOAT_GRAPHS = ("YOLOv8n", "YOLO11n", "ConvNeXt_atto", "FastViT_T8", "YOLO11x", "siglip-base-patch16-224")
FLOAT_SECONDS = {"YOLOv8n": 10.0}
MEMORY_FACTOR, MEMORY_EXTRA = 4, 500e6
MEGA = 1e6

COMPILE_ALONE = """
import json, sys, time
from openbpu.compiler import compile
from openbpu.quantization.onnx import quantize_random
model, march, fast = sys.argv[1], sys.argv[2], sys.argv[3] == "fast-perf"
t0 = time.process_time()
source = quantize_random(model) if fast else model
t1 = time.process_time()
compile(source, march=march, remove_io=("quantize", "dequantize") if fast else ())
print(json.dumps([t1 - t0, time.process_time() - t1]))
"""

CHAIN_NODES, CHAIN_SECONDS = 20_000, 20.0
"""A chain so long, of alternating functions with QuantizeLinear and DequantizeLinear, and its CPU seconds."""

CHAIN = """
import json, sys, time
import numpy as np
from onnx import helper, numpy_helper
from openbpu.compiler import compile
inits = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
nodes = []
def add(op, *inputs, **attrs):
    nodes.append(helper.make_node(op, inputs, [f"y{len(nodes)}"], **attrs))
    return nodes[-1].output[0]
x = "x"
while len(nodes) < int(sys.argv[2]):
    if nodes:
        x = add("Sigmoid", x) if len(nodes) % 2 else add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
    x = add("DequantizeLinear", add("QuantizeLinear", x, "s", "z"), "s", "z")
ends = [helper.make_tensor_value_info(name, 1, [1, 8, 8, 8]) for name in ("x", x)]
model = helper.make_model(helper.make_graph(nodes, "chain", ends[:1], ends[1:], inits))
t = time.process_time()
compile(model, march=sys.argv[1])
print(json.dumps(time.process_time() - t))
"""

TIMING = """
import json, sys, time
from openbpu.runtime import Session
from openbpu.simulator.timing import simulate
from openbpu.arch.program import BpuSegment
session = Session(sys.argv[1])
times = []
for _ in range(5):
    t = time.process_time()
    for segment in session.program.segments:
        if isinstance(segment, BpuSegment):
            simulate(session.program, segment, session.march)
    times.append(time.process_time() - t)
print(json.dumps(times))
"""

EXACT = """
import json, sys, time
from openbpu.runtime import Session
from openbpu.evaluation.ends import random_inputs
session = Session(sys.argv[1], mode="exact")
feeds = random_inputs(session, 0)
t = time.process_time()
session.run(feeds)
print(json.dumps(time.process_time() - t))
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took: seconds of CPU and of wall time, peak memory in bytes, what it printed."""

    cpu: float
    wall: float
    memory: float
    out: str


@dataclass(frozen=True, slots=True)
class Line:
    """One measured figure against its limit; `limit` is None where the project sets none."""

    what: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the limit is exceeded."""
        return self.limit is not None and self.value > self.limit


def spend(command: Sequence[str | Path], **env: str) -> Spent:
    """Run a command to its end and return what it took; raises RuntimeError with its stderr when it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = os.times().elapsed
        process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err, env=os.environ | env)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = os.times().elapsed - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(err.read().strip() or f"exit code {process.returncode}")
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, KiB elsewhere
        return Spent(used.ru_utime + used.ru_stime, wall, float(used.ru_maxrss * unit), out.read())


def openbpu(*arguments: str | Path) -> list[str | Path]:
    """Return the command line of an `openbpu` command in this environment."""
    return [sys.executable, "-m", "openbpu.cli", *arguments]


def script(text: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command line of a script in this environment."""
    return [sys.executable, "-c", text, *arguments]


def float_bytes(path: Path) -> int:
    """Return the size of a model's constants as float32: every element counts four bytes."""
    model = onnx.load(path, load_external_data=False)
    return 4 * sum(int(math.prod(t.dims)) for t in model.graph.initializer)


def compiling(path: Path, march: str, seconds: float | None, *, fast_perf: bool) -> Iterator[Line]:
    """Measure compiling one model: the whole command, the call alone, the memory."""
    show(path.stem)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--fast-perf"] if fast_perf else []
        whole = spend(openbpu("compile", path, "-o", Path(folder) / "m.hbm", "--march", march, *options))
    alone = spend(script(COMPILE_ALONE, path, march, "fast-perf" if fast_perf else "as it is"))
    quantizing, call = json.loads(alone.out)
    limit = (MEMORY_FACTOR * float_bytes(path) + MEMORY_EXTRA) / MEGA
    name = path.stem
    yield Line(f"{name}: openbpu compile{' --fast-perf' * fast_perf}, CPU", whole.cpu, "s", seconds)
    if fast_perf:
        yield Line(f"{name}: quantize_random() alone, CPU", quantizing, "s")
    yield Line(f"{name}: compile() alone, CPU", call, "s", seconds)
    yield Line(f"{name}: peak memory", whole.memory / MEGA, "MB", limit)


def fixture_lines(path: Path, march: str, seconds: float) -> Iterator[Line]:
    """Measure a quantized fixture, where it is."""
    if path.exists():
        yield from compiling(path, march, seconds, fast_perf=False)
    else:
        show(f"{path}: skipped, it is not there; benchmarks/fixtures.py makes it")


def running_lines(path: Path, march: str) -> Iterator[Line]:
    """Measure `timing` (the best of five, and the first) and `exact` on one model, where it is."""
    if not path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        hbm = Path(folder) / "m.hbm"
        spend(openbpu("compile", path, "-o", hbm, "--march", march))
        times = json.loads(spend(script(TIMING, hbm)).out)
        again = json.loads(spend(script(TIMING, hbm)).out)
        yield Line(f"{path.stem}: timing", min(times) * 1e3, "ms", 50)
        yield Line(f"{path.stem}: timing, first in a process", again[0] * 1e3, "ms")
        yield Line(f"{path.stem}: exact, CPU", json.loads(spend(script(EXACT, hbm)).out), "s", 30)


def chain_lines(march: str) -> Iterator[Line]:
    """Measure compiling a long chain: nothing in the compiler may take more than its length's time."""
    show("chain")
    seconds = json.loads(spend(script(CHAIN, march, str(CHAIN_NODES))).out)
    yield Line(f"chain of {CHAIN_NODES:,} nodes: compile() alone, CPU", seconds, "s", CHAIN_SECONDS)


def graph_lines(march: str, name: str) -> Iterator[Line]:
    """Measure a float graph of the shared folder by --fast-perf, where it is."""
    packed = GRAPHS / f"{name}.onnx.xz"
    if not packed.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        yield from compiling(path, march, FLOAT_SECONDS.get(name), fast_perf=True)


def startup_lines(march: str) -> Iterator[Line]:
    """Measure what every command costs before it does anything, and a second run of the digits model."""

    def best(command: Sequence[str | Path]) -> float:
        return min(spend(command).wall for _ in range(5))

    yield Line("openbpu --help", best(openbpu("--help")), "s", 0.3)
    yield Line("import openbpu.runtime", best(script("import openbpu.runtime")), "s", 0.5)
    with tempfile.TemporaryDirectory() as folder:
        hbm, image = Path(folder) / "digits.hbm", Path(folder) / "image.npy"
        spend(openbpu("compile", DIGITS / "digits.q.onnx", "-o", hbm, "--march", march))
        spend(script("import numpy, sys; numpy.save(sys.argv[1], numpy.zeros((1, 1, 8, 8), 'f'))", image))
        run = openbpu("run", hbm, "--input", image)
        kernels = str(Path(folder) / "cache")
        yield Line(
            "digits: openbpu run, compiling kernels, CPU", spend(run, OPENBPU_CACHE_DIR=kernels).cpu, "s"
        )
        yield Line("digits: openbpu run, again", best(run), "s", 1.5)


def parts(options: argparse.Namespace) -> Iterator[Iterator[Line]]:
    """Yield everything that was asked for, one iterator per model, so that a failure costs only its own."""
    march, limits = options.march, QUANTIZED | FLOAT_SECONDS
    for path in options.models:
        seconds = next((s for name, s in limits.items() if path.stem.startswith(name)), None)
        yield compiling(path, march, seconds, fast_perf=options.fast_perf)
    if options.models:
        return
    yield startup_lines(march)
    for name, seconds in QUANTIZED.items():
        for path in (options.fixtures / f"{name}.{variant}.onnx" for variant in VARIANTS):
            yield fixture_lines(path, march, seconds)
    yield chain_lines(march)
    yield running_lines(options.fixtures / "resnet18.s8.onnx", march)
    for name in options.graph or FLOAT_GRAPHS:
        yield graph_lines(march, name)


def main() -> int:
    """Measure and print; 1 when a limit is missed or a model fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.onnx", help="only these")
    parser.add_argument("--fast-perf", action="store_true", help="the given models are float")
    parser.add_argument("--march", default="nash-e")
    parser.add_argument(
        "--fixtures", type=Path, default=FIXTURES, metavar="DIR", help="default build/fixtures"
    )
    parser.add_argument(
        "--graph", action="append", metavar="NAME", help="only this of ../shared/latency/graphs"
    )
    made = table("Figure", "Measured", "Limit", "", numbers=("Measured", "Limit"))
    failed = sum([_add(made, part) for part in parts(parser.parse_args())])
    show(made)
    return 1 if failed else 0


def _add(made: Table, part: Iterator[Line]) -> int:
    """Add the lines of a part to the table as they are measured; return how many missed or failed."""
    bad = 0
    try:
        for line in part:
            limit = "" if line.limit is None else f"{line.limit:.1f} {line.unit}"
            verdict = "" if line.limit is None else "MISSED" if line.missed else "ok"
            add_row(made, line.what, f"{line.value:.2f} {line.unit}", limit, verdict)
            bad += line.missed
    except RuntimeError as error:
        show(f"failed: {error}")
        bad += 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
