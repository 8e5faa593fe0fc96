"""Write the models that the compiler is tested on: `python benchmarks/fixtures.py OUTDIR [--only NAME]`.

Float models come from timm (seeded, no download), from the `onnx` package (`light_*`) and, where it exists,
from `../shared/models/ultraface`. The weights of `light_*` are constants, so their outputs are too: they show
structure, not accuracy. ONNX Runtime quantizes each model three ways, as users do:

    NAME.u8.onnx    its defaults: QDQ, uint8 asymmetric activations, int8 weights per tensor
    NAME.s8.onnx    symmetric int8 activations and weights, per tensor
    NAME.s8pc.onnx  the same with weights per output channel

Needs torch, timm, onnx, onnxruntime, onnxscript and pillow. A model that fails is reported; the others go on.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torchvision_stub
from numpy.typing import NDArray
from onnx import version_converter
from PIL import Image

from openbpu.engine import onnxruntime

# isort: split
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

log = logging.getLogger("fixtures")

Images = NDArray[np.float32]

SHARED = Path(__file__).resolve().parents[2] / "shared"
ULTRAFACE = SHARED / "models" / "ultraface"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
PACKAGES = ("torch", "timm", "onnx", "onnxruntime", "onnxscript", "numpy")
CALIBRATION_IMAGES = 4
MIN_OPSET = 13  # the first with per-channel QuantizeLinear
MIN_IR = 7  # the one of opset 13; until 3 a weight had to be listed as an input

SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
INT8 = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "extra_options": SYMMETRIC}
VARIANTS: dict[str, dict[str, Any]] = {"u8": {}, "s8": INT8, "s8pc": {**INT8, "per_channel": True}}


@dataclass(frozen=True, slots=True)
class Fixture:
    """A float model: `write(path)` makes the file, `calibration(shape)` images of its NCHW input shape."""

    name: str
    write: Callable[[Path], None]
    calibration: Callable[[tuple[int, ...]], Images]


class Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Feed N images to ONNX Runtime's calibration, one at a time."""

    def __init__(self, name: str, images: Images) -> None:
        """Keep the input's name and an iterator over images of N,C,H,W."""
        self._feeds: Iterator[dict[str, Images]] = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, Images] | None:
        """Return the next feed, None after the last."""
        return next(self._feeds, None)


def smooth_images(count: int, shape: tuple[int, ...], seed: int) -> Images:
    """`count` images of C,H,W, spatially correlated, unit variance: enlarged coarse noise plus some grain."""
    channels, height, width = shape
    rng = np.random.default_rng(seed)

    def plane(cells: int) -> Images:
        noise = rng.standard_normal((cells, cells)).astype(np.float32)
        enlarged = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(enlarged, np.float32)

    def channel() -> Images:
        grain = rng.standard_normal((height, width)).astype(np.float32)
        mixed = plane(7) + 0.4 * plane(28) + 0.1 * grain
        return np.asarray((mixed - mixed.mean()) / mixed.std() + 0.3 * rng.standard_normal(), np.float32)

    return np.stack([np.stack([channel() for _ in range(channels)]) for _ in range(count)])


def smooth_calibration(shape: tuple[int, ...]) -> Images:
    """Calibration images for models without photographs of their own."""
    return smooth_images(CALIBRATION_IMAGES, shape[1:], seed=1)


def photo_calibration(shape: tuple[int, ...]) -> Images:
    """Ultraface's photographs as it was trained on them: RGB, resized, (x - 127) / 128."""
    size = (shape[3], shape[2])
    photos = [Image.open(path).convert("RGB").resize(size) for path in sorted(ULTRAFACE.glob("*.jpg"))]
    pixels = np.stack([np.asarray(photo, np.float32) for photo in photos])
    return np.ascontiguousarray((pixels.transpose(0, 3, 1, 2) - 127) / 128)


def write_timm(path: Path, architecture: str, *, dynamo: bool) -> None:
    """Export a seeded timm model whose batch norms have seen data, for realistic activation ranges."""
    import torch

    torchvision_stub.install()
    import timm

    torch.manual_seed(0)
    options: dict[str, Any] = {"zero_init_last": False} if architecture.startswith("resnet") else {}
    model = timm.create_model(architecture, pretrained=False, **options).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        for batch in range(4):
            model(torch.from_numpy(smooth_images(8, (3, 224, 224), seed=100 + batch)))
    example = (torch.zeros(1, 3, 224, 224),)
    export: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"], "dynamo": dynamo}
    export |= {"opset_version": 20, "external_data": False} if dynamo else {"opset_version": MIN_OPSET}
    torch.onnx.export(model.eval(), example, path, verbose=False, **export)


def write_copy(path: Path, source: Path) -> None:
    """Copy a model, raised to an opset with per-channel quantization, weights not listed as inputs."""
    model = onnx.load(source)
    if model.opset_import[0].version < MIN_OPSET:
        model = version_converter.convert_version(model, MIN_OPSET)
    model.ir_version = max(model.ir_version, MIN_IR)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


def fixtures() -> list[Fixture]:
    """Every fixture this machine can make, cheap ones first."""
    found = []
    source = ULTRAFACE / "version-RFB-320.onnx"
    if source.exists():
        found.append(Fixture("ultraface", partial(write_copy, source=source), photo_calibration))
    else:
        log.info("ultraface: skipped, there is no shared/models/ultraface beside the repository")
    for name in ("resnet18", "mobilenetv2_100"):
        for suffix, dynamo in (("", True), ("_ts", False)):
            write = partial(write_timm, architecture=name, dynamo=dynamo)
            found.append(Fixture(name + suffix, write, smooth_calibration))
    found += [
        Fixture(light.stem, partial(write_copy, source=light), smooth_calibration)
        for light in sorted(LIGHT.glob("light_*.onnx"))
    ]
    return found


def only_input(path: Path) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the model's one input that is not a weight."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    (value,) = (value for value in graph.input if value.name not in weights)
    return value.name, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def prepared(path: Path, scratch: Path) -> Path:
    """Run ONNX Runtime's own preparation (shape inference, folding); `path` itself where that fails."""
    output = scratch / path.name
    try:
        quant_pre_process(path, output)
    except Exception as error:  # ONNX Runtime raises bare Exception here
        log.warning("%s: quantized without quant_pre_process: %s", path.stem, error)
        return path
    return output


def make(fixture: Fixture, folder: Path) -> list[str]:
    """Write the float model and its quantized variants; return a line per failure."""
    path = folder / f"{fixture.name}.onnx"
    try:
        fixture.write(path)
        name, shape = only_input(path)
        images = fixture.calibration(shape)
    except Exception as error:  # one broken exporter must not cost the other models
        return [f"{path.name}: {type(error).__name__}: {error}"]
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        source = prepared(path, Path(scratch))
        for variant, options in VARIANTS.items():
            output = folder / f"{fixture.name}.{variant}.onnx"
            try:
                quantize_static(source, output, Samples(name, images), **options)
            except Exception as error:
                output.unlink(missing_ok=True)
                failures.append(f"{output.name}: {type(error).__name__}: {error}")
    return failures


def write_readme(folder: Path, failures: list[str]) -> None:
    """List what the folder holds, how it was made and what could not be."""
    files = sorted(folder.glob("*.onnx"))
    listing = "\n".join(f"{path.stat().st_size:>12,}  {path.name}" for path in files)
    packages = " ".join(f"{package}=={version(package)}" for package in PACKAGES)
    parts = [
        __doc__ or "",
        f"Made with {packages}\n",
        listing,
        "",
        "Failed in the last run:",
        *(failures or ["nothing"]),
    ]
    (folder / "README.txt").write_text("\n".join(parts) + "\n")


def main() -> int:
    """Make the fixtures; 1 if any failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="OUTDIR")
    parser.add_argument("--only", action="append", metavar="NAME", help="this fixture only; may be repeated")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    onnxruntime.set_default_logger_severity(3)  # errors; its warnings are about the models' own untidiness
    available = fixtures()
    wanted = set(arguments.only or [fixture.name for fixture in available])
    unknown = wanted - {fixture.name for fixture in available}
    if unknown:
        allowed = ", ".join(fixture.name for fixture in available)
        parser.error(f"--only: NAME must be one of {allowed}, not {', '.join(sorted(unknown))}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for fixture in available:
        if fixture.name in wanted:
            log.info("%s", fixture.name)
            failures += make(fixture, arguments.folder)
    write_readme(arguments.folder, failures)
    for failure in failures:
        log.error("failed: %s", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
