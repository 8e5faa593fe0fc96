"""Pictures, as the arrays that a model takes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.numerics import quantize
from openbpu.quantization.samples.inputs import Input, Shape

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Nothing else is tried, whatever a file is named: Pillow starts Ghostscript for an EPS."""

_EIGHT_BITS = 255
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits: converting to L or RGB would clip them at 255


@dataclass(frozen=True, slots=True)
class Pixels:
    """What becomes of pixels in 0..255: pixel · scale − mean, divided by std.

    mean and std: a number or one per channel, in the scaled range · scale: None is 1/255, and 1 for an input
    that takes integers without a scale.
    """

    scale: float | None = None
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0


@dataclass(slots=True)
class Changes:
    """Which pictures were changed so that they fit; one that is read twice counts once."""

    resized: set[Path] = field(default_factory=set)
    converted: set[Path] = field(default_factory=set)
    to: dict[str, str] = field(default_factory=dict)

    def note(self, path: Path, image: Image, mode: str, size: tuple[int, int]) -> None:
        """Count a picture that is to have this mode and (width, height)."""
        if image.size != size:
            self.resized.add(path)
        if image.mode != mode:
            self.converted.add(path)
        self.to = {"size": f"{size[1]}×{size[0]}", "mode": "grey" if mode == "L" else "RGB"}

    def sentence(self) -> str:
        """Return what was done, "" where nothing was."""
        told = (
            (self.resized, "resized {} to {size}"),
            (self.converted, "converted {} to {mode}"),
        )
        return ", ".join(text.format(_images(len(paths)), **self.to) for paths, text in told if paths)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def check_takes_images(taker: Input, where: str) -> None:
    """Raise InputError unless the input is (B, 1 or 3, H, W) or (B, H, W, 1 or 3), all sizes known."""
    _layout(taker, where)


def _layout(taker: Input, where: str) -> tuple[int, int, int, bool]:
    """Return channels, height, width, and whether the channels come last."""
    shape = taker.shape or ()
    for at, last in ((1, False), (3, True)):
        if len(shape) != 4 or shape[at] not in {1, 3}:
            continue
        channels, (height, width) = shape[at], (shape[1:3] if last else shape[2:])
        if isinstance(channels, int) and isinstance(height, int) and isinstance(width, int):
            return channels, height, width, last
    allowed = "(batch, 1 or 3, H, W) or (batch, H, W, 1 or 3) for images"
    fix = "give the array as a .npy or .npz file"
    if len(shape) == 4 and not all(isinstance(d, int) for d in shape):
        fix = f"give the size that pictures get with --shape {taker.name}={_example(shape)}"
    raise InputError(must(where, f"the shape of input '{taker.name}'", allowed, taker.shown, fix))


def _example(shape: Shape) -> str:
    """The input's own sizes, with the usual ones of a picture where it has none."""
    usual = (1, 224, 224, 3) if shape[3] in {1, 3} else (1, 3, 224, 224)
    return ",".join(str(d if isinstance(d, int) else u) for d, u in zip(shape, usual, strict=True))


def frame(taker: Input, where: str) -> tuple[int, int]:
    """Return height and width that an input takes pictures in; raises as `check_takes_images`."""
    _, height, width, _ = _layout(taker, where)
    return height, width


def read_image(
    path: Path, taker: Input, pixels: Pixels, changes: Changes, content: bytes | None = None
) -> Array:
    """Return one picture as (C, H, W) or (H, W, C) in the input's type.

    It is converted to RGB, or grey where the input has one channel, and resized (bilinear). An input with a
    scale gets its codes. content: the bytes of the file, where it is not at hand. Raises InputError for a
    file that is no picture of 8 bits.
    """
    channels, height, width, last = _layout(taker, str(path))
    planes = _planes(path, "L" if channels == 1 else "RGB", (width, height), changes, content)
    values = _normalised(planes, _used(pixels, taker), str(path))
    return _typed(values.transpose(1, 2, 0) if last else values, taker)


def read_pixels(array: Array, taker: Input, pixels: Pixels, where: str) -> Array:
    """Return pixels in an array, as (C, H, W), (H, W, C) or of any other shape, in the input's type.

    As of pictures, but that nothing is scaled without being asked for. Raises InputError.
    """
    scale = 1.0 if pixels.scale is None else pixels.scale
    if np.size(pixels.mean) == np.size(pixels.std) == 1:
        used = (scale, np.ravel(pixels.mean).tolist(), np.ravel(pixels.std).tolist())
        flat = np.asarray(array, dtype=np.float32).reshape(1, 1, -1)
        return _typed(_normalised(flat, used, where).reshape(array.shape), taker)
    *_, last = _layout(taker, where)
    planes = np.asarray(array, dtype=np.float32)
    planes = planes.transpose(2, 0, 1) if last else planes
    values = _normalised(planes, (scale, pixels.mean, pixels.std), where)
    return _typed(values.transpose(1, 2, 0) if last else values, taker)


def _planes(
    path: Path, mode: str, size: tuple[int, int], changes: Changes, content: bytes | None
) -> npt.NDArray[np.float32]:
    """Return the pixels as (C, H, W)."""
    from PIL import Image  # noqa: PLC0415  (only pictures need it)

    kinds = ", ".join(IMAGES)
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
            if image.mode.startswith(_DEEP):
                fix = "save it with 8 bits, or give the array as a .npy file"
                raise InputError(
                    must(str(path), "the image", "of 8 bits a channel", f"mode {image.mode}", fix)
                )
            changes.note(path, image, mode, size)
            fitted = image.convert(mode).resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        fix = f"give one of {kinds}, or an array as .npy"
        raise InputError(must(str(path), "the file", "an image", f"({why})", fix)) from error
    array = np.asarray(fitted, dtype=np.float32)
    return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)


def _used(pixels: Pixels, taker: Input) -> tuple[float, float | Sequence[float], float | Sequence[float]]:
    raw = taker.scale is None and taker.dtype.kind in "iu"
    scale = pixels.scale if pixels.scale is not None else 1.0 if raw else 1 / _EIGHT_BITS
    return scale, pixels.mean, pixels.std


def _normalised(
    planes: npt.NDArray[np.float32],
    used: tuple[float, float | Sequence[float], float | Sequence[float]],
    where: str,
) -> npt.NDArray[np.float32]:
    scale, mean, std = used
    channels = len(planes)
    for name, given in (("mean", mean), ("std", std)):
        if np.size(given) not in {1, channels}:
            raise InputError(must(where, name, f"a number or {channels} numbers", given))
    for name, given in (("scale", scale), ("std", std)):
        if not np.isfinite(given).all() or not np.asarray(given, dtype=np.float32).all():
            raise InputError(must(where, name, "finite and not 0", given))
    m = np.broadcast_to(np.asarray(mean, dtype=np.float32), (channels,))[:, None, None]
    s = np.broadcast_to(np.asarray(std, dtype=np.float32), (channels,))[:, None, None]
    made: npt.NDArray[np.float32] = ((planes * np.float32(scale) - m) / s).astype(np.float32)
    return made


def _typed(values: npt.NDArray[np.float32], taker: Input) -> Array:
    if taker.scale is not None:
        return quantize(values, taker.scale, taker.zero_point, DType.of(taker.dtype))
    if taker.dtype.kind in "iu":
        ends = np.iinfo(taker.dtype)
        return np.clip(np.rint(values), ends.min, ends.max).astype(taker.dtype)
    return values.astype(taker.dtype)
