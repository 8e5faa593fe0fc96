"""The product in one command: `python examples/demo.py` (or `make demo`).

Compiles the digits model that ships with openbpu, runs its 200 test images through the simulator, and prints
what it computes, how long it takes on the chip and where every operator runs; the whole report is written as
an HTML page. Nothing printed is quoted.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from openbpu.arch.files import write_atomic
from openbpu.arch.hbm import write_hbm
from openbpu.cli.screen import show
from openbpu.compiler import compile as compile_model
from openbpu.evaluation import verify
from openbpu.report.latency import latency_table
from openbpu.report.page import performance_page
from openbpu.report.performance import performance_json
from openbpu.report.placement import placement_summary, placement_table
from openbpu.report.text import add_row, in_bytes, table
from openbpu.report.verify import verify_table
from openbpu.runtime import Session
from openbpu.runtime.reference import Reference

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "models" / "digits"
FULL_SCALE = np.float32(16)  # the pixels are 0..16, the network takes 0..1

Feed = dict[str, NDArray[np.float32]]
Run = Callable[[Feed], dict[str, Any]]


def test_set() -> tuple[list[Feed], NDArray[np.uint8]]:
    """Return the held-out images, one feed each, and their labels."""
    with np.load(DIGITS / "test.npz") as file:
        images, labels = file["images"] / FULL_SCALE, file["labels"]
    return [{"image": image[np.newaxis]} for image in images], labels


def right(run: Run, feeds: list[Feed], labels: NDArray[np.uint8]) -> int:
    """Return how many images `run` classifies correctly."""
    found = [int(run(feed)["logits"].argmax()) for feed in feeds]
    return int((np.array(found) == labels).sum())


def accuracy_table(session: Session, feeds: list[Feed], labels: NDArray[np.uint8]) -> Table:
    """Classify the test set with the float model, the QDQ model and the compiled one."""
    runs: dict[tuple[str, str], Run] = {
        ("digits.onnx, float32", "ONNX Runtime"): Reference(DIGITS / "digits.onnx").run,
        ("digits.q.onnx, int8 QDQ", "ONNX Runtime"): Reference(DIGITS / "digits.q.onnx").run,
        ("digits.hbm, int8", f"simulated {session.program.march}"): lambda x: session.run(x).outputs,
    }
    made = table("Model", "Runs on", "Right", "Accuracy", numbers=("Right", "Accuracy"))
    for (model, where), run in runs.items():
        hits = right(run, feeds, labels)
        add_row(made, model, where, f"{hits} of {len(labels)}", f"{hits / len(labels):.1%}")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Compile, run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--march", default="nash-e", help="see `openbpu march`; default nash-e")
    parser.add_argument(
        "--mode", choices=("fast", "exact"), default="exact", help="fast compiles its kernels on first use"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("out/digits.hbm"), metavar="FILE.hbm")
    options = parser.parse_args(arguments)

    started = time.perf_counter()
    program = compile_model(DIGITS / "digits.q.onnx", march=options.march)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_hbm(program, options.output)
    size, seconds = in_bytes(options.output.stat().st_size), time.perf_counter() - started
    show(f"models/digits/digits.q.onnx → {options.output}: {size}, compiled in {seconds:.1f} s\n")

    session = Session(options.output, mode=options.mode)
    feeds, labels = test_set()
    image = options.output.with_name("image.npy")
    np.save(image, feeds[0]["image"])
    show(f"What it computes: {len(feeds)} test images, {options.mode} simulation")
    show(accuracy_table(session, feeds, labels))
    show("Against the QDQ model in float64, all images")
    show(verify_table(verify(DIGITS / "digits.q.onnx", session, feeds)))
    show(f"How long it takes: one image on {session.program.march}")
    show(latency_table(session.latency))
    show("Where its operators run")
    show(placement_table(session.placement), placement_summary(session.placement))
    page = options.output.with_suffix(".html")
    write_atomic(page, [performance_page(performance_json(session), page.stem).encode()])
    openbpu = (
        "openbpu" if shutil.which("openbpu") else os.path.relpath(Path(sys.executable).with_name("openbpu"))
    )
    show(
        f"\nGo on: {openbpu} run {options.output} --input {image}",
        f"       {openbpu} perf {options.output}",
        f"The page: {page.resolve().as_uri()}",
    )


if __name__ == "__main__":
    main()
