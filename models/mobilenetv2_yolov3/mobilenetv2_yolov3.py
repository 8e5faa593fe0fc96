"""A detector from float training to the chip: `python models/mobilenetv2_yolov3/mobilenetv2_yolov3.py`.

Trains MobileNetV2 with a YOLOv3 head on shapes drawn on the spot, calibrates it, trains it on with fake
quantization, converts, exports, checks, compiles and simulates it, and prints the mAP after each stage. The
defaults take a few minutes on a CPU; --size, --images, --epochs, --width and --depth make it a real one.
"""

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import YoloLoss, evaluate, train_detector
from network import Detector
from shapes import CLASSES, Shapes, make

from openbpu.arch.hbm import write_hbm
from openbpu.arch.program import Program
from openbpu.cli.screen import show
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.quantization.torch import (
    FakeQuantState,
    March,
    convert,
    export,
    get_default_calib_out_qconfig,
    get_default_calib_qconfig,
    get_default_qat_out_qconfig,
    get_default_qat_qconfig,
    prepare_qat,
    set_fake_quantize,
    set_march,
)
from openbpu.report.latency import latency_table
from openbpu.report.placement import placement_summary, placement_table
from openbpu.report.text import add_row, table
from openbpu.runtime import Session

MARCH = March.NASH_M


@dataclass(frozen=True)
class Settings:
    """How large, how long. `size` is a multiple of 32; `depth` cuts the blocks of a stage (4 is all)."""

    size: int = 64
    images: int = 256
    test_images: int = 100
    epochs: int = 16
    qat_epochs: int = 3
    width: float = 0.25
    depth: int = 2
    batch: int = 16
    rate: float = 6e-3
    qat_rate: float = 5e-4
    seed: int = 0


def data_of(settings: Settings) -> tuple[Shapes, Shapes]:
    """Return the training and the test set."""
    train = make(settings.images, settings.size, settings.seed + 1)
    return train, make(settings.test_images, settings.size, settings.seed + 2)


def train_float(settings: Settings, train: Shapes) -> Detector:
    """Return the trained float detector in eval()."""
    torch.manual_seed(settings.seed)
    model = Detector(len(CLASSES), settings.width, settings.depth)
    model.bbox_head.loss = YoloLoss()
    model.train()
    train_detector(model, train, settings.epochs, settings.rate, settings.batch)
    return model.eval()


def prepared(float_model: Detector, *, calibrating: bool = False) -> Any:
    """Return the detector with fake quantizers: fused, int8, the predictions in high precision, no loss."""
    qconfig, out_qconfig = (
        (get_default_calib_qconfig(), get_default_calib_out_qconfig())
        if calibrating
        else (get_default_qat_qconfig(), get_default_qat_out_qconfig())
    )
    set_march(MARCH)
    model = copy.deepcopy(float_model)
    model.fuse_modules()
    model.qconfig = qconfig
    for conv in model.bbox_head.convs_pred:
        conv.qconfig = out_qconfig
    model.bbox_head.loss.qconfig = None
    return prepare_qat(model)


def calibrated(float_model: Detector, data: Shapes, batch: int = 16) -> Any:
    """Return the prepared detector with scales from data, in VALIDATION."""
    calib_model = prepared(float_model, calibrating=True)
    calib_model.eval()
    set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for start in range(0, len(data.images), batch):
            calib_model(torch.from_numpy(data.images[start : start + batch]))
    calib_model.eval()
    set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
    return calib_model


def train_qat(float_model: Detector, calib_model: Any, settings: Settings, train: Shapes) -> Any:
    """Return a detector that starts from the calibrated one and has learned with the rounding, validated."""
    qat_model = prepared(float_model)
    qat_model.load_state_dict(calib_model.state_dict())
    qat_model.train()
    set_fake_quantize(qat_model, FakeQuantState.QAT)
    train_detector(qat_model, train, settings.qat_epochs, settings.qat_rate, settings.batch)
    qat_model.eval()
    set_fake_quantize(qat_model, FakeQuantState.VALIDATION)
    return qat_model


def simulated(program: Program) -> Any:
    """Return what predicts with the simulator, image by image, as a torch model would for a batch."""
    session = Session(program)
    names = [info.name for info in session.outputs]

    def predict(images: Any) -> tuple[Any, ...]:
        runs = [session.run({session.inputs[0].name: x.numpy()[None]}).outputs for x in images]
        return tuple(torch.from_numpy(np.concatenate([run[name] for run in runs])) for name in names)

    return predict


@dataclass(frozen=True)
class Result:
    """The models, the program, and the mAP of each stage in order."""

    scores: dict[str, float]
    seconds: dict[str, float]
    qat_model: Any
    quantized: Any
    program: Program


def workflow(settings: Settings, march: March = MARCH) -> Result:
    """Go through every stage of the document; raises what the stages raise."""
    train, test = data_of(settings)
    scores, seconds = {}, {}

    def stage(name: str, started: float, predict: Any) -> None:
        seconds[name] = time.perf_counter() - started
        scores[name] = evaluate(predict, test)
        print(f"{name}: mAP {scores[name]:.3f}, {seconds[name]:.0f} s", flush=True)

    started = time.perf_counter()
    float_model = train_float(settings, train)
    stage("float", started, float_model)
    started = time.perf_counter()
    calib_model = calibrated(float_model, train)
    stage("calibrated", started, calib_model)
    started = time.perf_counter()
    qat_model = train_qat(float_model, calib_model, settings, train)
    stage("qat", started, qat_model)
    started = time.perf_counter()
    quantized = convert(qat_model.eval())
    stage("converted", started, quantized)
    started = time.perf_counter()
    example = torch.from_numpy(test.images[:1])
    qdq = export(qat_model, example)
    show(placement_summary(check(qdq, march=march.value)))
    program = compile_model(qdq, march=march.value)
    stage("simulated", started, simulated(program))
    return Result(scores, seconds, qat_model, quantized, program)


def main() -> None:
    """Run the workflow and print its tables."""
    defaults = Settings()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in vars_of(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("-o", "--output", type=Path, help="also write the .hbm there")
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    result = workflow(Settings(**arguments))
    made = table("Stage", "mAP@0.5", "Seconds", numbers=("mAP@0.5", "Seconds"))
    for name, score in result.scores.items():
        add_row(made, name, f"{score:.4f}", f"{result.seconds[name]:.1f}")
    session = Session(result.program)
    show(placement_table(session.placement), placement_summary(session.placement))
    show(latency_table(session.latency), made)
    if output is not None:
        write_hbm(result.program, output)


def vars_of(settings: Settings) -> dict[str, Any]:
    """Return the settings by name."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


if __name__ == "__main__":
    main()
