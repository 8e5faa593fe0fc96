"""Accuracy of two networks at every stage, on real data: `python models/accuracy/accuracy.py [--quick]`.

The digits network of `models/digits` on scikit-learn's handwritten digits, and a small perceptron on its
breast-cancer records. For each: float, calibrated (PTQ), trained with fake quantization (QAT), converted to
integers, and run in the simulator. Converted and simulated outputs are compared bit for bit.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from openbpu.cli.screen import show
from openbpu.compiler import compile as compile_model
from openbpu.quantization.torch import (
    DeQuantStub,
    FakeQuantState,
    March,
    QuantStub,
    convert,
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
    export,
    prepare,
    set_fake_quantize,
    set_march,
)
from openbpu.report.text import add_row, table
from openbpu.runtime import Session

MARCH = March.NASH_E
STAGES = ("float", "calibrated", "QAT", "converted", "simulated")
TRAIN_SEED = 0


@dataclass(frozen=True)
class Task:
    """A data set, split, and the float network for it."""

    name: str
    network: Callable[[], nn.Module]
    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any
    epochs: int


class Stubbed(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """A float network between a QuantStub and a DeQuantStub."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.quant, self.network, self.dequant = QuantStub(), network, DeQuantStub()

    def forward(self, x: Any) -> Any:
        """Return the logits."""
        return self.dequant(self.network(self.quant(x)))


def _digits_script() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "digits" / "train.py"
    spec = importlib.util.spec_from_file_location("digits_train", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits() -> Task:
    """Return the digits: 1597 images to learn from, 200 to test."""
    script = _digits_script()
    train_x, test_x, train_y, test_y = script.load()
    images = (
        script.to_input(train_x),
        torch.from_numpy(train_y),
        script.to_input(test_x),
        torch.from_numpy(test_y),
    )
    return Task("digits", script.DigitsNet, *images, epochs=12)


def cancer() -> Task:
    """Return the breast-cancer records, standardized: 30 measurements, two classes, 171 to test."""
    x, y = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    mean, spread = train_x.mean(0), train_x.std(0)
    parts = [torch.from_numpy(((part - mean) / spread).astype(np.float32)) for part in (train_x, test_x)]

    def network() -> nn.Module:
        layers = [nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
        return nn.Sequential(*layers)

    return Task(
        "cancer", network, parts[0], torch.from_numpy(train_y), parts[1], torch.from_numpy(test_y), 30
    )


TASKS = {"digits": digits, "cancer": cancer}


def fit(model: Any, task: Task, epochs: int, rate: float) -> None:
    """Train in place with a rate that falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    order = torch.Generator().manual_seed(TRAIN_SEED)
    for _ in range(epochs):
        for batch in torch.randperm(len(task.train_x), generator=order).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(task.train_x[batch]), task.train_y[batch]).backward()
            optimizer.step()
        schedule.step()


def accuracy(logits: Any, task: Task) -> float:
    """Return the share of test records that are classified right."""
    return float((torch.as_tensor(logits).argmax(1) == task.test_y).float().mean())


def quantizable(float_model: nn.Module, task: Task, setter: Any) -> Any:
    """Return the prepared network."""
    set_march(MARCH)
    return prepare(float_model.eval(), task.train_x[:1], qconfig_setter=(setter,))


def calibrate(float_model: nn.Module, task: Task) -> Any:
    """Return the network calibrated with the training data, in VALIDATION."""
    model = quantizable(float_model, task, default_calibration_qconfig_setter)
    model.eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for batch in task.train_x.split(64):
            model(batch)
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    return model


def train_on(float_model: nn.Module, calib_model: Any, task: Task, epochs: int) -> Any:
    """Return the network trained on from the calibrated one with fake quantization, in VALIDATION."""
    model = quantizable(float_model, task, default_qat_qconfig_setter)
    model.load_state_dict(calib_model.state_dict(), strict=False)
    model.train()
    set_fake_quantize(model, FakeQuantState.QAT)
    fit(model, task, epochs, 5e-4)
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    return model


@dataclass(frozen=True)
class Row:
    """One line of the table; `equal` says that converted and simulated logits are the same bits."""

    task: str
    scores: dict[str, float]
    equal: bool


def evaluate(task: Task, quick: bool = False) -> Row:
    """Take one task through every stage."""
    torch.manual_seed(TRAIN_SEED)
    float_model = Stubbed(task.network())
    float_model.train()
    fit(float_model, task, max(2, task.epochs // 4) if quick else task.epochs, 1e-2)
    calib_model = calibrate(float_model, task)
    qat_model = train_on(float_model, calib_model, task, 1 if quick else 3)
    converted = convert(qat_model)
    session = Session(compile_model(export(qat_model, task.test_x[:1]), march=MARCH.value))
    name = session.inputs[0].name
    with torch.no_grad():
        logits = [model(task.test_x) for model in (float_model.eval(), calib_model, qat_model, converted)]
    runs = [next(iter(session.run({name: x.numpy()[None]}).outputs.values())) for x in task.test_x]
    logits.append(torch.from_numpy(np.concatenate(runs)))
    scores = {stage: accuracy(found, task) for stage, found in zip(STAGES, logits, strict=True)}
    return Row(task.name, scores, bool(torch.equal(logits[3], logits[4])))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train for a few seconds only")
    arguments = parser.parse_args()
    columns = ("Network", *(stage[:1].upper() + stage[1:] for stage in STAGES), "Converted = simulated")
    made = table(*columns, numbers=columns[1:-1])
    for load in TASKS.values():
        row = evaluate(load(), arguments.quick)
        add_row(made, row.task, *(f"{row.scores[s]:.1%}" for s in STAGES), "yes" if row.equal else "NO")
    show(made)


if __name__ == "__main__":
    main()
