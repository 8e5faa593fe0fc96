"""What every command prints and says, over small models that take its branches, word by word.

Weights and samples are small sums of powers of two, so that most sums of float32 are exact in any order. What
depends on the clock or on the machine is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.main import get_command

from conftest import Golden
from interfaces.conftest import Command, Ran
from openbpu.arch.hbm import write_hbm
from openbpu.cli.app import app
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model

TEXT = """(float[1, 3, 8, 8] x) => (float[1, 5] y, float[1, 5, 1, 1] z) {
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m, v)
    s = HardSigmoid <alpha = 0.25> (d)
    g = GlobalAveragePool (s)
    f = Flatten (g)
    y = Gemm (f, k)
    t = Unsqueeze (y, axes)
    z = LRN <size = 3, alpha = 0.5> (t)
}"""


def sixteenths(*shape: int, seed: int, most: int = 16) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).integers(-most, most + 1, shape) / 16).astype(np.float32)


def net() -> onnx.ModelProto:
    weights = {
        "w": sixteenths(4, 3, 3, 3, seed=1) * np.array([1, 1, 1, 1 / 64], np.float32).reshape(4, 1, 1, 1),
        "b": sixteenths(4, seed=2),
        "v": sixteenths(6, 4, 3, 3, seed=3, most=8),
        "k": sixteenths(6, 5, seed=4),
        "axes": np.array([2, 3]),
    }
    model = float_model(TEXT, weights)
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx, q.onnx, q.hbm, others that are wrong, and samples."""
    folder = tmp_path_factory.mktemp("words")
    x = sixteenths(12, 1, 3, 8, 8, seed=5, most=32)
    x[0, 0, 0, 0, 0] = 24  # beyond what a narrower range holds
    np.savez(folder / "c.npz", x=x)
    np.savez(folder / "few.npz", x=x[:3])
    np.savez(folder / "d.npz", x=x[:, 0], labels=np.arange(12) % 5)
    np.save(folder / "x.npy", x[1])
    model = net()
    onnx.save(model, folder / "net.onnx")
    quantized = quantize(model, {"x": x})
    onnx.save(quantized, folder / "q.onnx")
    write_hbm(build(quantized, march="nash-e"), folder / "q.hbm")
    damaged = onnx.ModelProto()
    damaged.CopyFrom(quantized)
    codes = next(
        t for t in damaged.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    )
    array = onnx.numpy_helper.to_array(codes)
    codes.CopyFrom(onnx.numpy_helper.from_array(np.roll(array, 1, axis=0), codes.name))
    onnx.save(damaged, folder / "damaged.onnx")
    (folder / "images").mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8 + k, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
    (folder / "types.yaml").write_text("node_config:\n  n_d: {qtype: int16}\n  n_g: {qtype: float}\n")
    (folder / "text.onnx").write_text("no model")
    (folder / "mine.py").write_text(
        "import numpy as np\n"
        "def prepared(sample):\n    return {'x': np.asarray(sample.arrays['x'])[None] / 2}\n"
        "def largest(outputs, sample):\n    return int(np.argmin(outputs['y']))\n"
    )
    return folder


COMMANDS: dict[str, Sequence[str]] = {
    "check": (
        "check net.onnx --march nash-e",
        "check net.onnx --march bayes-e --as int16 --json",
        "check q.onnx --march nash-e --bpu LRN",
        "check q.onnx --march nash-e --as int8",
        "check net.onnx --march nash-e --quant-config types.yaml",
        "check net.onnx --march nash-e --shape x=2,3,8,8",
        "check net.onnx --march nash-e --shape q=1,3,8,8",
        "check net.onnx --march nash-e --bpu nothing",
        "check text.onnx --march nash-e",
        "check missing.onnx --march nash-e",
        "check images --march nash-e",
    ),
    "quantize": (
        "quantize net.onnx --calib c.npz -o o.onnx --page o.html",
        "quantize net.onnx --calib few.npz -o o.onnx --int16 --int8-nodes n_c,n_d",
        "quantize net.onnx --calib c.npz -o o.onnx --int8-tail --asymmetric --json",
        "quantize net.onnx --calib c.npz -o o.onnx --symmetric --int16-nodes n_[dg] --float-nodes n_s",
        "quantize net.onnx --calib images -o o.onnx --mean 0.5,0.25,0.5 --std 0.25 --scale 0.00390625",
        "quantize net.onnx --calib c.npz -o o.onnx --quant-config types.yaml --json",
    ),
    "methods": (
        "quantize net.onnx --calib c.npz -o o.onnx --method percentile",
        "quantize net.onnx --calib c.npz -o o.onnx --method mse --json",
        "quantize net.onnx --calib c.npz -o o.onnx --method kl",
        "quantize net.onnx --calib c.npz -o o.onnx --method mix --page o.html",
    ),
    "corrections": (
        "quantize net.onnx --calib c.npz -o o.onnx --equalisation --bias-correction",
        "quantize net.onnx --calib few.npz -o o.onnx --adaptive-rounding --json",
    ),
    "quantize_wrong": (
        "quantize net.onnx --calib c.npz -o net.onnx",
        "quantize net.onnx --calib c.npz -o missing/o.onnx",
        "quantize net.onnx --calib missing -o o.onnx",
        "quantize net.onnx --calib text.onnx -o o.onnx",
        "quantize net.onnx --calib d.npz -o o.onnx",
        "quantize net.onnx --calib c.npz -o o.onnx --page o.onnx",
        "quantize net.onnx --calib c.npz -o o.onnx --page net.onnx",
        "quantize net.onnx --calib c.npz -o o.onnx --int16-nodes nothing",
        "quantize net.onnx --calib c.npz -o o.onnx --int16-nodes n_c,",
        "quantize net.onnx --calib c.npz -o o.onnx --quant-config missing.yaml",
        "quantize net.onnx --calib c.npz -o o.onnx --quant-config text.onnx",
        "quantize net.onnx --calib c.npz -o o.onnx --budget 1%",
        "quantize net.onnx --calib c.npz -o o.onnx --trials 3",
        "quantize net.onnx --calib c.npz -o o.onnx --class-ids",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --int16",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --labels l",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --limit 3",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --budget=-1%",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --latency=-0.5",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --budget x%",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --workers 2 --scheduler tcp://h:1",
        "quantize net.onnx --calib c.npz -o o.onnx --auto --trials 1",
        "quantize net.onnx --calib images -o o.onnx --mean 1,2",
        "quantize net.onnx --calib images -o o.onnx --std 0",
        "quantize q.onnx --calib c.npz -o o.onnx",
        "quantize q.hbm --calib c.npz -o o.onnx",
    ),
    "compile": (
        "compile q.onnx -o o.hbm --march nash-e",
        "compile q.onnx -o o.hbm --march nash-p --core-num 2 -O 0 --balance 0 --max-l2m-size 65536 --json",
        "compile net.onnx -o o.hbm --march nash-e",
        "compile net.onnx -o o.hbm --march nash-e --fast-perf",
        "compile q.onnx -o o.hbm --march nash-e --remove-io quantize,dequantize --json",
        "compile q.onnx -o o.hbm --march nash-e --batch 2 --json",
        "compile q.onnx -o q.onnx --march nash-e",
        "compile q.onnx -o missing/o.hbm --march nash-e",
        "compile text.onnx -o o.hbm --march nash-e",
        "compile q.onnx -o o.hbm --march nash-e --batch 5000",
    ),
    "run": (
        "run q.hbm --input x.npy",
        "run q.hbm --input x=x.npy -o out --json",
        "run q.hbm --input images -o out",
        "run q.hbm --input images/0.png --mode exact --scale 1",
        "run q.hbm --input few.npz",
        "run q.hbm",
        "run q.hbm --input nothing=x.npy",
        "run q.hbm --input x.npy --input x.npy",
        "run q.hbm --input missing.npy",
        "run q.hbm --input x=",
        "run q.hbm --input d.npz",
        "run q.hbm --input x.npy --march nash-m",
        "run net.onnx --input x.npy",
        "info q.hbm",
        "info q.hbm --march bayes-e",
        "disasm text.onnx",
        "perf q.hbm --top 2 --sort compute",
        "perf q.hbm --accuracy text.onnx",
        "perf q.hbm --accuracy text.onnx -o out",
        "march nash-z",
    ),
    "verify": (
        "verify q.onnx q.hbm",
        "verify q.onnx q.hbm --samples 2 --seed 3 --json",
        "verify q.onnx q.hbm --input x.npy --min-cosine 0.5 --max-steps 3",
        "verify damaged.onnx q.hbm --input x.npy",
        "verify damaged.onnx q.hbm --input x.npy --json",
        "verify damaged.onnx q.hbm --input x.npy --min-cosine 0.5",
        "verify damaged.onnx q.hbm --input x.npy --max-steps 0.5",
        "verify q.onnx q.hbm --input images",
        "verify net.onnx q.hbm",
        "verify q.onnx text.onnx",
        "verify q.onnx q.hbm --input d.npz",
    ),
    "analyze": (
        "analyze net.onnx q.onnx q.hbm --data c.npz --all --sort order --page a.html",
        "analyze net.onnx q.onnx --data c.npz --samples 2 --sort cosine --top 3 --csv a.csv --json",
        "analyze net.onnx damaged.onnx q.hbm --data few.npz --sort sqnr --min-cosine 0.999",
        "analyze net.onnx q.onnx --data few.npz --sensitivity only --metric mse --top 4 --sort max",
        "analyze net.onnx q.onnx --data few.npz --sensitivity all-but --until n_d --sort used --json",
        "analyze net.onnx q.onnx --data few.npz --dump out --tensor r --tensor n_d --sort clipped",
        "analyze net.onnx q.onnx --data c.npz --dump out --samples 2 --until m --sort l1",
        "analyze net.onnx q.onnx --data c.npz --tensor r",
        "analyze net.onnx q.onnx --data c.npz --dump out --tensor nothing",
        "analyze net.onnx q.onnx --data c.npz --until nothing",
        "analyze net.onnx q.onnx --data c.npz --metric nothing",
        "analyze net.onnx q.onnx --data c.npz --csv missing/a.csv",
        "analyze net.onnx q.onnx --data c.npz --page q.onnx",
        "analyze q.onnx net.onnx --data c.npz",
        "analyze net.onnx q.onnx x.npy --data c.npz",
        "analyze net.onnx q.onnx --data images --sort order --samples 1",
    ),
    "eval": (
        "eval net.onnx q.onnx q.hbm --data d.npz --metric top1 --metric cosine --scores y --resamples 20",
        "eval q.onnx --data d.npz --metric top1 --scores y --resamples 0 -o o.csv --per-class p.csv",
        "eval net.onnx damaged.onnx --data d.npz --metric top1,top2 --scores y --limit 5 --json --records r",
        "eval net.onnx damaged.onnx --data d.npz --metric top1,top2 --scores y --limit 5 --json --resume r",
        "eval net.onnx damaged.onnx --data d.npz --metric top1 --scores y --max-drop 0 -o o.json",
        "eval q.onnx --data d.npz --metric top1 --scores y --min-accuracy 99%",
        "eval q.onnx --data d.npz --metric top1 --preprocess mine:prepared --postprocess mine:largest",
        "eval net.onnx --data d.npz --metric top1",
        "eval net.onnx --data d.npz --metric top1 --scores nothing",
        "eval net.onnx --data d.npz --metric nothing",
        "eval net.onnx --data d.npz --metric top1 --labels nothing",
        "eval net.onnx --data d.npz --metric top1 --max-drop 1%",
        "eval net.onnx --data d.npz --metric top1 -o o.txt",
        "eval net.onnx --data d.npz --metric top1 -o net.onnx",
        "eval net.onnx --data d.npz --metric top1 --per-class p.json",
        "eval net.onnx --data d.npz --metric top1 --per-class p.csv --records p.csv",
        "eval net.onnx --data d.npz --metric top1 --records r --resume r",
        "eval net.onnx --data d.npz --metric top1 --records o.csv -o o.csv",
        "eval net.onnx --data missing --metric top1",
        "eval net.onnx --data c.npz --metric map",
        "eval net.onnx --data images --metric top1",
        "eval net.onnx --data d.npz --metric top1 --preprocess mine:nothing",
        "eval net.onnx --data d.npz --metric top1 --postprocess mine",
        "eval net.onnx --data d.npz --metric top1 --min-accuracy high",
    ),
}  # fmt: skip

OF_THE_CLOCK = re.compile(
    r"compiled in [\d.]+ s|^time: .*|tried on (\S+) in \d+ s|^compiling the simulator's .*"
)
OF_THE_SIZE = re.compile(r"[\d.]+ (B|KiB|MiB)\b")
DROPPED = {"seconds", "bytes"}


def plainly(value: Any) -> Any:
    """A document without seconds and sizes of files; histograms by their sum."""
    if isinstance(value, dict):
        return {k: plainly(v) for k, v in value.items() if k not in DROPPED}
    if isinstance(value, list) and len(value) > 16 and all(isinstance(v, int) for v in value):
        return {"sum": sum(value), "length": len(value)}
    return [plainly(v) for v in value] if isinstance(value, list) else value


def lines(text: str) -> list[str]:
    """Lines without figures of the clock, and without what the option library says of usage."""
    own = (
        line for line in text.splitlines() if line.strip(" ─") and not line.startswith(("Usage: ", "Try "))
    )
    found = (OF_THE_SIZE.sub(r"# \1", OF_THE_CLOCK.sub(r"… \1", line)) for line in own)
    return [" ".join(line.split()) for line in found]


def said(ran: Ran) -> dict[str, Any]:
    out = plainly(json.loads(ran.out)) if ran.out.startswith("{") else lines(ran.out)
    return {"code": ran.code, "out": out, "err": lines(ran.err)}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_say_what_they_said(
    openbpu: Command, golden: Golden, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = shutil.copytree(made, tmp_path / "w")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = {p.name for p in folder.iterdir()}
    found: dict[str, Any] = {}
    for line in COMMANDS[name]:
        found[line] = said(openbpu(*line.split()))
    found["files"] = sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.relative_to(folder).parts[0] not in before
    )
    found["texts"] = {
        p.name: lines(p.read_text())
        for p in sorted(folder.iterdir())
        if p.name not in before and p.suffix in {".csv", ".yaml"}
    }
    golden(f"cli_{name}", found, near=True)


def options(command: Any) -> dict[str, Any]:
    return {
        "/".join((*p.opts, *p.secondary_opts)): [
            getattr(p, "help", None), p.required, repr(p.default), p.metavar, p.nargs, p.multiple,
            list(getattr(getattr(p, "type", None), "choices", ())),
        ]
        for p in command.params
    }  # fmt: skip


def test_every_option_is_what_it_was(golden: Golden) -> None:
    group: Any = get_command(app)
    made = {name: {"about": c.help, "options": options(c)} for name, c in group.commands.items()}
    golden("cli_options", made | {"openbpu": {"about": group.help, "options": options(group)}})
