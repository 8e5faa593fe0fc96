"""Time a training step of mobilenetv2_yolov3 in float, with fake quantization (QAT), and a calibration step.

    python benchmarks/torch_steps.py                  batch 16 of 128 pixels, all channels and blocks
    python benchmarks/torch_steps.py --size 224 --batch 8 --rounds 10

One process, the same images, threads and optimizer. Every round takes one step of each kind in turn, so
that a machine that is busy for a while is busy for all of them. A ratio is taken within a round; printed
are its median over the rounds and where the middle half of the rounds lies, of the time that passed and of
the processor time, which other programs disturb less. A calibration step is what calibrating costs per
batch: a forward pass in eval() that observes, here by mean squared error (the default) and by extremes.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch

from openbpu.quantization.torch import FakeQuantState, set_fake_quantize

sys.path.append(str(Path(__file__).parents[1] / "models" / "mobilenetv2_yolov3"))

from learning import YoloLoss, targets
from mobilenetv2_yolov3 import prepared
from network import Detector
from shapes import CLASSES, make

FLOAT = "float training"
QAT = "QAT"
MSE = "calibration, MSE"
EXTREMES = "calibration, extremes"
LIMIT = 2.5
WARM_UP = 2

Step = Callable[[], object]


class Seconds(NamedTuple):
    """Time that passed, and processor time of all threads."""

    passed: float
    used: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Pixels, images of a batch, share of MobileNetV2's channels, rounds."""

    size: int = 128
    batch: int = 16
    width: float = 1.0
    rounds: int = 15


def training_step(model: Any, images: Any, wanted: list[Any]) -> Step:
    """Return one step as a training loop takes it: forward, loss, backward, optimizer."""
    model.train()
    loss = YoloLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(model(images), wanted).backward()
        optimizer.step()

    return step


def calibration_step(model: Any, images: Any) -> Step:
    """Return what calibrating does with a batch."""
    model.eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)

    def step() -> None:
        with torch.no_grad():
            model(images)

    return step


def steps(settings: Settings) -> dict[str, Step]:
    """Return one step of each kind, ready to be repeated."""
    torch.manual_seed(0)
    data = make(settings.batch, settings.size, seed=0)
    images, wanted = torch.from_numpy(data.images), targets(data.boxes, settings.size)
    model = Detector(len(CLASSES), settings.width)
    model.bbox_head.loss = YoloLoss()
    qat = prepared(model)
    set_fake_quantize(qat, FakeQuantState.QAT)
    return {
        FLOAT: training_step(model, images, wanted),
        QAT: training_step(qat, images, wanted),
        MSE: calibration_step(prepared(model, calibrating=True), images),
        EXTREMES: calibration_step(prepared(model), images),
    }


def measure(settings: Settings) -> dict[str, list[Seconds]]:
    """Return the time of every kind of step, round by round."""
    made = steps(settings)
    taken: dict[str, list[Seconds]] = {name: [] for name in made}
    for round_ in range(settings.rounds + WARM_UP):
        for name, step in made.items():
            passed, used = time.perf_counter(), time.process_time()
            step()
            if round_ >= WARM_UP:
                taken[name].append(Seconds(time.perf_counter() - passed, time.process_time() - used))
    return taken


def ratios(taken: dict[str, list[Seconds]], name: str) -> Seconds:
    """Return how many float steps of the same round a step took: the median over the rounds."""
    pairs = list(zip(taken[name], taken[FLOAT], strict=True))
    return Seconds(median(a.passed / b.passed for a, b in pairs), median(a.used / b.used for a, b in pairs))


def spread(taken: dict[str, list[Seconds]], name: str) -> tuple[float, float]:
    """Return where the middle half of the rounds' ratios lies, of the time that passed."""
    low, _, high = quantiles(
        [a.passed / b.passed for a, b in zip(taken[name], taken[FLOAT], strict=True)], n=4
    )
    return low, high


def main() -> int:
    """Measure and print; 1 if a median ratio is above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in Settings.__slots__:
        default = getattr(Settings(), name)
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = vars(parser.parse_args())
    torch.set_num_threads(asked.pop("threads"))
    settings = Settings(**asked)
    taken = measure(settings)
    print(
        f"mobilenetv2_yolov3, width {settings.width:g}: "
        f"batch {settings.batch} of {settings.size}×{settings.size}, "
        f"{torch.get_num_threads()} threads, {settings.rounds} rounds, torch {torch.__version__}"
    )
    print(f"{'step':22} {'ms':>8} {'ratio':>6}  {'middle half':11} {'CPU ms':>8} {'ratio':>6}")
    for name, times in taken.items():
        own, low, high = ratios(taken, name), *spread(taken, name)
        passed, used = (median(column) * 1e3 for column in zip(*times, strict=True))
        print(
            f"{name:22} {passed:8.1f} {own.passed:6.2f}  {low:.2f} … {high:.2f} {used:8.1f} {own.used:6.2f}"
        )
    worst = max(ratios(taken, name).passed for name in taken)
    print(f"largest ratio {worst:.2f}: {'within' if worst <= LIMIT else 'ABOVE'} the limit of {LIMIT:g}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
