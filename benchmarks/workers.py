"""How much of its cores does `openbpu eval --workers` use? `python benchmarks/workers.py [--images N]`.

Evaluates the network that ships with openbpu, float and compiled, on its test images again and again: first
in one process, then with a worker per core, and checks that both say the same. Efficiency is the time of one
process over (workers x time with workers): as a user waits for it, and without the seconds in which workers
start, which a longer run makes small. The numbers mean something on an idle machine only.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from openbpu.arch.hbm import write_hbm
from openbpu.arch.march import march_names
from openbpu.compiler import compile as build
from openbpu.evaluation.accuracy.data import read_data
from openbpu.evaluation.accuracy.evaluate import Evaluator, Setting, open_evaluator
from openbpu.evaluation.accuracy.metrics import make_metrics
from openbpu.evaluation.accuracy.models import model_file
from openbpu.evaluation.accuracy.results import Evaluation
from openbpu.evaluation.distribution import Pool
from openbpu.quantization.samples import Pixels

DIGITS = Path(__file__).parents[1] / "models" / "digits"


def evaluator(folder: Path, images: int, marches: int) -> Evaluator:
    """The float model and its binaries for so many marches on so many images."""
    test = np.load(DIGITS / "test.npz")
    times = -(-images // len(test["images"]))
    data = {name: np.concatenate([test[name]] * times)[:images] for name in ("images", "labels")}
    np.savez(folder / "data.npz", **data)
    binaries = [folder / f"{march}.hbm" for march in march_names()[:marches]]
    for binary in binaries:
        write_hbm(build(DIGITS / "digits.q.onnx", march=binary.stem), binary)
    models = [model_file(p) for p in (DIGITS / "digits.onnx", *binaries)]
    setting = Setting(Pixels(1 / 16))
    metrics = make_metrics(["top1", "cosine"])
    return open_evaluator(models, lambda i: read_data(folder / "data.npz", i), metrics, setting)[0]


def timed(work: Evaluator, workers: int) -> tuple[Evaluation, float, float]:
    """The result, all seconds, and those from the first result on."""
    started = time.perf_counter()
    first: list[float] = []

    def told(_done: int, _total: int) -> None:
        if not first:
            first.append(time.perf_counter())

    with Pool(workers=workers) as pool:
        found = work.run(pool, resamples=0, progress=told)
        ended = time.perf_counter()
    return found, ended - started, ended - first[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument(
        "--marches", type=int, default=1, help="binaries beside the float model: work per image"
    )
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = evaluator(Path(folder), given.images, given.marches)
        work.check()
        alone, one, one_later = timed(work, 0)
        together, many, many_later = timed(work, given.workers)
    if alone != together:
        raise SystemExit("workers changed the result")
    n = given.workers
    each = 1e3 * one / given.images
    print(
        f"{given.images} images of {each:.2f} ms: one process {one:.1f} s, {n} workers {many:.1f} s, "
        "the same result"
    )
    print(f"efficiency {one / many / n:.2f}; {one_later / many_later / n:.2f} once the workers are there")


if __name__ == "__main__":
    main()
