"""What the options of the schedule change: `python benchmarks/options.py [MODEL.onnx …] [--march nash-p]`.

Every float network is quantized as `--fast-perf` does and compiled once per row of the table: -O, --balance,
--max-l2m-size and --core-num, each against the defaults (-O 2 --balance 100, no L2M, one core). Latency is
the simulated time of the BPU segments. Without arguments: networks of `../shared/latency/graphs` where that
folder exists, else a small network made here. `--markdown` prints the table as docs/schedules.md has it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fidelity_data import ENDS, GRAPHS, quantized
from onnx import TensorProto, helper, numpy_helper
from rich.table import Table

from openbpu.arch.march import March, get_march
from openbpu.cli.screen import show
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import quantize_random
from openbpu.report.text import add_row, table
from openbpu.runtime.latency import latency_of

NETWORKS = ("ResNet18", "YOLOv8n", "EfficientFormer_l1", "YOLO11x")
MIB = 1 << 20
MEGA = 1e6
COLUMNS = ("Network", "Options", "Latency", "", "DDR", "", "L2M", "Compile")


@dataclass(frozen=True, slots=True)
class Line:
    """One network under some options: time of the BPU segments, bytes moved per run, CPU time to compile."""

    options: str
    microseconds: float
    ddr_bytes: int
    l2m_bytes: int
    seconds: float


def variants(march: March) -> Iterator[dict[str, int]]:
    """Yield the options to compare, the defaults first."""
    yield {}
    yield from ({"opt": 0}, {"opt": 1})
    yield from ({"balance": b} for b in (75, 50, 25, 0))
    l2m = march.chip.shared_bytes
    if l2m:
        yield from ({"max_l2m_size": n} for n in (4 * MIB, l2m))
    for cores in sorted({min(2, march.cores), march.cores} - {1}):
        yield {"core_num": cores}
        if l2m:
            yield {"core_num": cores, "max_l2m_size": l2m}


def shown(options: dict[str, int]) -> str:
    """Return options as the command takes them."""
    words = [f"-O {v}" if k == "opt" else f"--{k.replace('_', '-')} {v}" for k, v in options.items()]
    return " ".join(words) or "defaults"


def measured(model: onnx.ModelProto | Path, march: March, options: dict[str, Any]) -> Line:
    """Compile a quantized network and time its program."""
    started = time.process_time()
    program = compile_model(model, march=march, remove_io=ENDS, **options)
    seconds = time.process_time() - started
    latency = latency_of(program, march)
    timings = [s.timing for s in latency.segments if s.timing]
    return Line(
        shown(options),
        latency.bpu_us,
        sum(t.loaded + t.stored for t in timings),
        sum(t.shared for t in timings),
        seconds,
    )


def networks(paths: list[Path]) -> Iterator[tuple[str, onnx.ModelProto | Path]]:
    """Yield name and quantized model of files, of the shared folder, or of what is made here."""
    for path in paths:
        yield path.stem, quantize_random(path)
    if paths:
        return
    if GRAPHS.is_dir():
        yield from ((name, quantized(name)) for name in NETWORKS)
    else:
        yield "made here", quantize_random(residual_network())


def residual_network() -> onnx.ModelProto:
    """Return a float network: 224×224 images, four stages of two residual blocks, 64 to 512 channels."""
    nodes, weights = [], []
    rng = np.random.default_rng(0)

    def conv(x: str, c_in: int, c_out: int, kernel: int, stride: int) -> str:
        y = f"y{len(nodes)}"
        data = rng.normal(size=(c_out, c_in, kernel, kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(data / np.sqrt(data[0].size), f"w{len(nodes)}"))
        pads = {"pads": [kernel // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [x, weights[-1].name], [y], **pads))
        return y

    def node(op: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op, inputs, [f"y{len(nodes)}"]))
        return str(nodes[-1].output[0])

    x, channels = node("Relu", conv("x", 3, 64, 7, 4)), 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and width > channels else 1
            skip = conv(x, channels, width, 1, stride) if width != channels else x
            inner = node("Relu", conv(x, channels, width, 3, stride))
            x, channels = node("Relu", node("Add", conv(inner, width, width, 3, 1), skip)), width
    y = node("GlobalAveragePool", x)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])
    made = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, channels, 1, 1])
    graph = helper.make_graph(nodes, "residual", [given], [made], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def cells(name: str, line: Line, first: Line) -> tuple[str, ...]:
    """Return a row of the table: figures, and how they compare with the defaults."""
    latency, ddr = line.microseconds / first.microseconds - 1, line.ddr_bytes / first.ddr_bytes - 1
    return (
        name,
        line.options,
        f"{line.microseconds:,.0f} µs",
        f"{latency:+.0%}" if line is not first else "",
        f"{line.ddr_bytes / MEGA:.1f} MB",
        f"{ddr:+.0%}" if line is not first else "",
        f"{line.l2m_bytes / MEGA:.1f} MB" if line.l2m_bytes else "",
        f"{line.seconds:.1f} s",
    )


def rows(paths: list[Path], march: March) -> Iterator[tuple[str, ...]]:
    """Yield the rows of all networks."""
    for name, model in networks(paths):
        lines = [measured(model, march, options) for options in variants(march)]
        for line in lines:
            yield cells(name if line is lines[0] else "", line, lines[0])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.onnx", help="float networks")
    parser.add_argument("--march", default="nash-p")
    parser.add_argument("--markdown", action="store_true", help="print a table for Markdown")
    given = parser.parse_args()
    made: Table = table(*COLUMNS, numbers=COLUMNS[2:])
    lines = []
    for row in rows(given.models, get_march(given.march)):
        add_row(made, *row)
        lines.append(f"| {' | '.join(row)} |")
    if given.markdown:
        head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        show("\n".join([*head, *lines]))
    else:
        show(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
