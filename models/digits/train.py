"""Train the small network that ships with openbpu: `python models/digits/train.py [--quantize]`.

A residual CNN on scikit-learn's 8x8 handwritten digits. Seeded, so a second run on the same machine gives the
same files. This script alone needs torch, scikit-learn and onnxscript; using its results needs none of them.

It writes, beside itself:

    digits.onnx       float32, input `image` 1x1x8x8 in 0..1, output `logits` 1x10
    test.npz          200 held-out images the training never saw: `images` uint8 Nx1x8x8 in 0..16, `labels`
    calibration.npz   64 training images as the network takes them: `image` float32 Nx1x8x8 in 0..1
    digits.q.onnx     with --quantize: the QDQ model of `openbpu quantize`
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

FOLDER = Path(__file__).resolve().parent
SEED = 0
EPOCHS = 60
BATCH = 64
TEST_IMAGES = 200
CALIBRATION_IMAGES = 64
FULL_SCALE = 16  # the data set's pixels are 0..16

Pixels = NDArray[np.uint8]


def conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution that keeps the size (or halves it) and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class DigitsNet(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Stem, residual block, max pool, strided convolution, residual block, global average, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(1, 16)
        self.block1 = nn.Sequential(conv_bn(16, 16), nn.ReLU(), conv_bn(16, 16))
        self.down = conv_bn(16, 24, stride=2)
        self.block2 = nn.Sequential(conv_bn(24, 24), nn.ReLU(), conv_bn(24, 24))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(24, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8) in 0..1."""
        x = functional.relu(self.stem(image))
        x = functional.relu(x + self.block1(x))
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.down(x))
        x = functional.relu(x + self.block2(x))
        return self.classify(torch.flatten(self.pool(x), 1))


def load() -> tuple[Pixels, Pixels, NDArray[np.int64], NDArray[np.int64]]:
    """Training images, test images, training labels, test labels, with the same share of each class."""
    images, labels = load_digits(return_X_y=True)
    pixels = images.reshape(-1, 1, 8, 8).astype(np.uint8)
    split = train_test_split(pixels, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels)
    return split[0], split[1], split[2], split[3]


def to_input(pixels: Pixels) -> torch.Tensor:
    """The network's input: pixels scaled to 0..1."""
    return torch.from_numpy(pixels.astype(np.float32) / FULL_SCALE)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Augmentation: the whole batch moved by up to one pixel, background moving in."""
    row, column = torch.randint(0, 3, (2,)).tolist()
    return functional.pad(images, (1, 1, 1, 1))[:, :, row : row + 8, column : column + 8]


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitsNet:
    """Fit the network, with a learning rate that falls to zero; returned ready for inference."""
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(net(shifted(images[batch])), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    net.eval()
    return net


def export(net: DigitsNet, path: Path) -> None:
    """Write the network as ONNX, without the exporter's stack traces (they name this machine's paths)."""
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(
        net,
        (torch.zeros(1, 1, 8, 8),),
        path,
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
        **names,
    )
    model = onnx.load(path)
    for item in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Train, report the held-out accuracy, write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quantize", action="store_true", help="also write digits.q.onnx")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(mode=True)
    train_images, test_images, train_labels, test_labels = load()
    net = train(to_input(train_images), torch.from_numpy(train_labels))
    with torch.no_grad():
        right = (net(to_input(test_images)).argmax(1).numpy() == test_labels).sum()
    print(f"held-out accuracy: {right}/{len(test_labels)} = {right / len(test_labels):.1%}")
    export(net, FOLDER / "digits.onnx")
    np.savez_compressed(FOLDER / "test.npz", images=test_images, labels=test_labels.astype(np.uint8))
    calibration = {"image": to_input(train_images[:CALIBRATION_IMAGES]).numpy()}
    np.savez_compressed(FOLDER / "calibration.npz", **calibration)
    if arguments.quantize:
        from openbpu.quantization.onnx import Corrections, quantize

        plain = Corrections(bias_correction=False)
        quantize(FOLDER / "digits.onnx", calibration, FOLDER / "digits.q.onnx", corrections=plain)


if __name__ == "__main__":
    main()
