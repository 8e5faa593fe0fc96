"""What calibration alone loses and QAT wins back: `python models/mobilenetv2_yolov3/recovery.py [SEED …]`.

In a network trained for minutes the channels of a tensor have similar ranges, and 8 bits cost it less
than one training run differs from the next. MobileNets trained for days are known for channels whose
ranges lie far apart, which one scale per tensor serves badly. So the channels of a trained detector are
spread: a channel that leaves a stage is multiplied by a factor of 2**-4 … 2**4, and the weights that
read it are divided by it. In float nothing changes. The result is calibrated, and trained on with fake
quantization.

The yardstick is mAP averaged over the IoU thresholds 0.50 … 0.95 on 600 images. As a control, the float
detector with the same channels is trained on as long.
"""

import argparse
import copy
import dataclasses
import time
from typing import Any

import numpy as np
import torch
from learning import detections, train_detector
from mobilenetv2_yolov3 import Settings, calibrated, data_of, train_float, train_qat
from network import OUT_STAGES, Detector
from shapes import Shapes, mean_average_precision

from openbpu.cli.screen import show
from openbpu.report.text import add_row, table

SETTINGS = Settings(images=4096, test_images=600, epochs=8, batch=64, rate=1e-2, qat_epochs=4, qat_rate=4e-3)
QAT_BATCH = 32
OCTAVES = 4.0
CALIBRATION_IMAGES = 128
STAGES = ("float", "calibrated", "QAT", "float, trained on")
THRESHOLDS = np.arange(0.5, 1.0, 0.05)


def uneven(model: Detector, octaves: float, seed: int) -> Detector:
    """Return a copy with the channels behind every stage times 2**±octaves at most, their readers divided.

    What leaves a stage is linear, and only added or convolved: the float outputs stay the same.
    """
    model = copy.deepcopy(model)
    random = torch.Generator().manual_seed(seed)
    stages = model.backbone.layers
    with torch.no_grad():
        for i, stage in enumerate(stages):
            if stage[0].skip is not None:
                continue  # its channels are those of the stage in front
            channels = stage[-1].project.conv.out_channels
            factor = 2 ** ((torch.rand(channels, generator=random) * 2 - 1) * octaves)
            for block in stage:
                block.project.bn.weight *= factor
                block.project.bn.bias *= factor
            behind = [*stage[1:], *(following[0] for following in stages[i + 1 : i + 2])]
            readers = [block.expand.conv for block in behind]
            if i in OUT_STAGES:  # the neck begins with the last; a level above comes first in what it reads
                readers.append(model.neck.blocks[-1 - OUT_STAGES.index(i)].conv)
            for conv in readers:
                conv.weight[:, -channels:] /= factor[:, None, None]
    return model


def score(model: Any, test: Shapes) -> float:
    """Return mAP averaged over the IoU thresholds."""
    found = detections(model, test)
    return float(np.mean([mean_average_precision(found, test.boxes, iou) for iou in THRESHOLDS]))


def scores(settings: Settings, octaves: float = OCTAVES) -> dict[str, float]:
    """Return the score of every stage for one seed."""
    train, test = data_of(settings)
    model = uneven(train_float(settings, train), octaves, settings.seed)
    few = Shapes(train.images[:CALIBRATION_IMAGES], train.boxes[:CALIBRATION_IMAGES])
    calib_model = calibrated(model, few)
    qat_model = train_qat(model, calib_model, dataclasses.replace(settings, batch=QAT_BATCH), train)
    control = copy.deepcopy(model).train()
    train_detector(control, train, settings.qat_epochs, settings.qat_rate, QAT_BATCH)
    models = (model, calib_model, qat_model, control.eval())
    return {name: score(found, test) for name, found in zip(STAGES, models, strict=True)}


def recovered(rows: list[dict[str, float]]) -> float:
    """Return which part of what calibration lost, summed over the seeds, QAT won back."""
    lost = sum(row["float"] - row["calibrated"] for row in rows)
    return sum(row["QAT"] - row["calibrated"] for row in rows) / lost


def main() -> None:
    """Print a row per seed, and the part that was won back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--octaves", type=float, default=OCTAVES, help="how far apart the ranges are")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made = table("Seed", *STAGES, "Won back", "CPU s", numbers=("Seed", *STAGES, "Won back", "CPU s"))
    rows = []
    for seed in arguments.seeds:
        started = time.process_time()
        row = scores(
            dataclasses.replace(SETTINGS, seed=10 * seed), arguments.octaves
        )  # data take seeds + 1, + 2
        rows.append(row)
        cells = [f"{row[name]:.3f}" for name in STAGES]
        add_row(made, str(seed), *cells, f"{recovered([row]):.0%}", f"{time.process_time() - started:.0f}")
    show(made)
    print(f"QAT won back {recovered(rows):.0%} of what calibration lost")


if __name__ == "__main__":
    main()
