"""Published latencies and compiled networks for `fidelity.py`: rows, families, and programs cached in build/.

Quantizing and compiling depend on the sources and the march file alone, so both are cached under a digest of
them: a second run only times.
"""

from __future__ import annotations

import csv
import hashlib
import lzma
import multiprocessing
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx
from fidelity_builds import Build, build_of
from onnx.shape_inference import infer_shapes

from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.march import get_march
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import quantize_random

ROOT = Path(__file__).resolve().parents[1]
LATENCY = ROOT.parent / "shared" / "latency"
GRAPHS = LATENCY / "graphs"
BUILT = ROOT / "build" / "graphs"
"""Those of `published_graphs.py`."""
CACHE = ROOT / "build" / "fidelity"
MARCHES = ("nash-e", "nash-m", "nash-p", "bayes-e")
OTHER_HOSTS = frozenset({"siglip"})
"""Families whose one thread is another program's: some 16 ms (nash-e) of each are no one's layers."""
UNCERTAIN = 0.25
"""Weight of a row whose build is not known."""
TOKENS = 3
"""Axes of a tensor of tokens."""
ENDS = ("quantize", "dequantize", "transpose")


@dataclass(frozen=True, slots=True)
class Row:
    """One published measurement in ms (None: not published)."""

    model: str
    march: str
    one_thread: float | None
    frame: float | None
    threads: int
    cores: int

    @property
    def build(self) -> Build:
        """How the network was built, as far as that is known."""
        return build_of(self.model, self.march)

    @property
    def measured(self) -> float | None:
        """What a fit can use: the time per frame, else that of one thread; None where a host we do not know
        is in it, or where the row is not what it says.
        """
        unknown = self.family in OTHER_HOSTS or not self.build.saturated
        return self.frame or (None if unknown else self.one_thread)

    @property
    def weight(self) -> float:
        """What its error counts in a fit: less where the build is not known."""
        return 1.0 if self.build.certain else UNCERTAIN

    @property
    def family(self) -> str:
        """The networks that are left out together: those of one paper (and its sizes)."""
        return family_of(self.model)


def family_of(model: str) -> str:
    """Return the family of a network: YOLOv8n and YOLOv8l-CLS → YOLOv8, RepVGG_A0 → RepVGG."""
    if found := re.match(r"YOLO(v?)(\d+)", model):
        return found.group(0)
    return re.split(r"[_\-]|(?<=ResNet)(?=\d)|v\d", model, maxsplit=1)[0].lower()


def rows(march: str) -> list[Row]:
    """Return the published rows of a march whose graph is at hand, one per network."""
    found: dict[str, Row] = {}
    with (LATENCY / "published.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if line["march"] == march and graph_of(line["model"]).exists():
                found.setdefault(line["model"], _row(line))
    return [found[name] for name in sorted(found)]


def graph_of(model: str) -> Path:
    """Return where the graph of a published network is, or would be."""
    given = GRAPHS / f"{model}.onnx.xz"
    return given if given.exists() else BUILT / given.name


def _row(line: dict[str, str]) -> Row:
    saturated = build_of(line["model"], line["march"]).saturated
    return Row(
        line["model"],
        line["march"],
        float(line["one_thread_ms"]) if line["one_thread_ms"] else None,
        float(line["bpu_ms_per_frame"]) if line["bpu_ms_per_frame"] and saturated else None,
        int(line["threads"] or 1),
        int(line["cores"] or 1),
    )


def estimates() -> dict[str, tuple[float, int]]:
    """Return what the vendor's compiler estimated for X5: (µs, DDR bytes) by graph name."""
    graphs = {p.name.removesuffix(".onnx.xz").lower().replace("-", "_"): p for p in GRAPHS.glob("*.xz")}
    found = {}
    with (LATENCY / "vendor_static_estimates.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            if path := graphs.get(line["model"]):
                name = path.name.removesuffix(".onnx.xz")
                found[name] = (float(line["static_latency_us"]), int(line["ddr_bytes_per_frame"]))
    return found


@cache
def _digest(*folders: str) -> str:
    state = hashlib.sha256()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            state.update(path.read_bytes())
    return state.hexdigest()[:12]


def quantized(model: str, build: Build) -> onnx.ModelProto:
    """Return the network as --fast-perf quantizes it, in the types of its build."""
    packed = graph_of(model).read_bytes()
    key = hashlib.sha256(packed).hexdigest()[:12] + _digest("quantization/openbpu/quantization/onnx")
    path = CACHE / f"{model}-{key}{build.key}.onnx.z"
    if not path.exists():
        given = onnx.load_from_string(lzma.decompress(packed))
        made = quantize_random(given, activation=build.activation, config=_config(given, build))
        _write(path, zlib.compress(made.SerializeToString(), 1))
    return onnx.load_from_string(zlib.decompress(path.read_bytes()))


def _config(model: onnx.ModelProto, build: Build) -> dict[str, Any]:
    """Return the `quant_config` of a build."""
    config: dict[str, Any] = {}
    if build.softmax:
        config["op_config"] = {"Softmax": {"qtype": build.softmax.value}}
    if build.on_cpu:
        shapes = {v.name: v.type.tensor_type.shape.dim for v in infer_shapes(model).graph.value_info}
        tokens = [
            n for n in model.graph.node if n.op_type in build.on_cpu and len(shapes[n.input[0]]) == TOKENS
        ]
        config["node_config"] = {n.name: {"qtype": "float"} for n in tokens}
    return config


def state(march: str) -> str:
    """Return a name for the state of the compiler and a march, so that a whole run uses one."""
    numbers = hashlib.sha256(repr(sorted(get_march(march).numbers.items())).encode()).hexdigest()[:12]
    return _digest("compiler", "arch", "quantization/openbpu/quantization/onnx") + numbers


def _path(model: str, march: str, tag: str) -> Path:
    return CACHE / f"{model}-{march}-{tag or state(march)}{build_of(model, march).key}.hbm.z"


def compiled(model: str, march: str, tag: str = "") -> Program:
    """Return the network compiled for a march by name, as the published one was built.

    tag: names a state of the compiler instead of its digest, so that programs outlive edits.
    """
    path = _path(model, march, tag)
    if not path.exists():
        build = build_of(model, march)
        given = quantized(model, build)
        program = compile_model(given, march=march, remove_io=ENDS, bpu_ops=build.bpu_ops)
        _write(path, zlib.compress(to_bytes(program), 1))
    return read_hbm(zlib.decompress(path.read_bytes()))


def compiled_size(model: str, march: str, tag: str = "") -> int:
    """Return the bytes of a compiled network in the cache: as good as its instructions."""
    return _path(model, march, tag).stat().st_size


def _write(path: Path, data: bytes) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{id(path)}.tmp")
    fresh.write_bytes(data)
    fresh.replace(path)


def _prepare(march: str, tag: str, model: str) -> tuple[str, float, str]:
    start = time.perf_counter()
    try:
        compiled(model, march, tag)
    except Exception as error:
        return model, time.perf_counter() - start, f"{type(error).__name__}: {error}"
    return model, time.perf_counter() - start, ""


def prepare(
    march: str, models: Iterable[str], jobs: int = 2, tag: str = ""
) -> Iterator[tuple[str, float, str]]:
    """Compile networks in parallel; yields (network, seconds, error) as they are done, largest first."""
    order: Sequence[str] = sorted(models, key=lambda m: -_size(m))
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
        yield from pool.imap_unordered(partial(_prepare, march, tag), order)


def _size(model: str) -> int:
    return graph_of(model).stat().st_size
