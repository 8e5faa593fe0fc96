"""Text for `accuracy.py`: lines and pages drawn with the fonts there are, and the networks that read them.

The words are English ones of the manual that Python ships (`pydoc_data.topics`), with dates, prices and codes
between them. The fonts are DejaVu's where Debian has them, else the one inside Pillow.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import onnx
from accuracy_networks import Measure, Network, Samples, Wheels
from accuracy_scores import Array, Boxes, characters, exact, f1, mean_overlap, read_ctc
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = Path("/usr/share/fonts/truetype/dejavu")
CALIBRATION, TEST = 16, 48
PAGES, TEST_PAGES = 8, 16
LEAST_AREA = 9
CODES = "abcdefghijkmnpqrstuvwxyz23456789"


@cache
def words() -> list[str]:
    """Return the words to write, sorted."""
    return sorted(set(re.findall(r"\b[A-Za-z][a-z]{2,9}\b", " ".join(topics.values()))))


@cache
def fonts() -> list[str | None]:
    """Return font files; None is the font of Pillow."""
    return [None, *map(str, sorted(FONTS.glob("*.ttf")))]


def font(rng: np.random.Generator, size: int) -> Any:
    """Return a font at a size in pixels."""
    name = fonts()[rng.integers(len(fonts()))]
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


def phrase(rng: np.random.Generator, longest: int) -> str:
    """Return words and numbers of at most so many characters."""
    text = ""
    while True:
        kind = rng.random()
        if kind < 0.75:
            word = words()[rng.integers(len(words()))]
        elif kind < 0.9:
            word = f"{rng.integers(1, 999)}.{rng.integers(100):02d}"
        else:
            word = f"{rng.integers(1950, 2030)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        if len(text) + len(word) + 1 > longest:
            return text or word[:longest]
        text = f"{text} {word}".strip()


def colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a background and an ink that can be told apart."""
    paper = rng.integers(170, 256, 3)
    ink = rng.integers(0, 90, 3)
    pair = (ink, paper) if rng.random() < 0.2 else (paper, ink)
    return tuple(map(int, pair[0])), tuple(map(int, pair[1]))


def line(rng: np.random.Generator, text: str, height: int, width: int) -> Image.Image:
    """Return a line of text as a picture of the given height and at most the given width in pixels."""
    paper, ink = colours(rng)
    face = font(rng, 36)
    left, top, right, bottom = face.getbbox(text)
    picture = Image.new("RGB", (int(right - left) + 16, int(bottom - top) + 14), paper)
    ImageDraw.Draw(picture).text((8 - left, 7 - top), text, ink, face)
    picture = picture.resize((min(width, round(picture.width * height / picture.height)), height))
    return degraded(rng, picture)


def degraded(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Return a picture a bit out of focus and with grain."""
    blurred = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))
    grain = rng.normal(0, rng.uniform(0, 8), (*np.asarray(blurred).shape[:2], 1))
    return Image.fromarray(np.clip(np.asarray(blurred) + grain, 0, 255).astype(np.uint8))


def normalized(picture: Image.Image, width: int) -> Array:
    """Return BGR pixels in −1 … 1, (1, 3, H, W), with zeros to the right."""
    pixels = np.asarray(picture, np.float32)[:, :, ::-1].transpose(2, 0, 1) / 127.5 - 1
    return np.pad(pixels, ((0, 0), (0, 0), (0, width - picture.width)))[None]


def lines(_wheels: Wheels, test: bool) -> Samples:
    """Return lines of up to 26 characters for a recognizer of 48 × 320 pixels."""
    rng = np.random.default_rng(2 if test else 1)
    texts = [phrase(rng, int(rng.integers(8, 27))) for _ in range(TEST if test else CALIBRATION)]
    return Samples([{"x": normalized(line(rng, t, 48, 320), 320)} for t in texts], texts if test else None)


def turned(_wheels: Wheels, test: bool) -> Samples:
    """Return lines of which every second stands on its head, for a classifier of 48 × 192 pixels."""
    rng = np.random.default_rng(4 if test else 3)
    feeds, truths = [], []
    for number in range(TEST if test else CALIBRATION):
        picture = line(rng, phrase(rng, int(rng.integers(6, 15))), 48, 192)
        turned = picture.rotate(180 * (number % 2))
        feeds.append({"x": normalized(turned, 192)})
        truths.append(number % 2)
    return Samples(feeds, truths if test else None)


def page(rng: np.random.Generator, side: int) -> Image.Image:
    """Return a square picture with some lines of text on a background that is not plain."""
    paper, ink = colours(rng)
    shade = rng.normal(0, 12, (6, 6, 3)) + paper
    picture = Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).resize((side, side))
    draw, at = ImageDraw.Draw(picture), 10
    while at < side - 40:
        face = font(rng, int(rng.integers(14, 34)))
        text = phrase(rng, int(rng.integers(5, 20)))
        _, _, right, bottom = face.getbbox(text)
        draw.text((int(rng.integers(5, max(6, side - right - 5))), at), text, ink, face)
        at += int(bottom) + int(rng.integers(8, 40))
    return degraded(rng, picture)


def pages(_wheels: Wheels, test: bool) -> Samples:
    """Return pages of 320 × 320 pixels for a detector of text."""
    rng = np.random.default_rng(6 if test else 5)
    return Samples([{"x": normalized(page(rng, 320), 320)} for _ in range(TEST_PAGES if test else PAGES)])


def codes(_wheels: Wheels, test: bool) -> Samples:
    """Return 4 to 6 letters and digits, each turned and moved: grey, 64 × 160 pixels, 0 … 1."""
    rng = np.random.default_rng(8 if test else 7)
    feeds = []
    for _ in range(TEST if test else CALIBRATION):
        text = "".join(rng.choice(list(CODES), rng.integers(4, 7)))
        feeds.append({"input1": np.asarray(captcha(rng, text), np.float32)[None, None] / 255})
    return Samples(feeds)


def captcha(rng: np.random.Generator, text: str) -> Image.Image:
    """Return a text as it is written against machines."""
    picture = Image.new("L", (160, 64), int(rng.integers(200, 256)))
    for at, letter in enumerate(text):
        glyph = Image.new("L", (48, 48))
        ImageDraw.Draw(glyph).text((8, 0), letter, 255, font(rng, int(rng.integers(30, 40))))
        glyph = glyph.rotate(float(rng.uniform(-20, 20)))
        place = (4 + at * 152 // len(text) - 6, int(rng.integers(4, 14)))
        picture.paste(int(rng.integers(0, 110)), place, glyph)
    draw = ImageDraw.Draw(picture)
    for _ in range(2):
        ends = [int(rng.integers(0, n)) for n in (160, 64, 160, 64)]
        draw.line(ends, int(rng.integers(60, 180)))
    return picture.filter(ImageFilter.GaussianBlur(0.5))


def glyphs(_wheels: Wheels, test: bool) -> Samples:
    """Return some turned glyphs on a page of 416 × 416 pixels, BGR 0 … 255."""
    rng = np.random.default_rng(10 if test else 9)
    return Samples([{"images": scattered(rng)} for _ in range(TEST_PAGES if test else PAGES)])


def scattered(rng: np.random.Generator) -> Array:
    """Return glyphs on a page that is not plain, (1, 3, 416, 416)."""
    shade = rng.integers(60, 230, (5, 5, 3)).astype(np.uint8)
    picture = Image.fromarray(shade).resize((416, 416), Image.Resampling.BICUBIC)
    for cell in rng.permutation(9)[: rng.integers(3, 7)]:
        size = int(rng.integers(50, 90))
        glyph = Image.new("L", (120, 120))
        ImageDraw.Draw(glyph).text((30, 10), str(rng.choice(list(CODES))), 255, font(rng, size))
        glyph = glyph.rotate(float(rng.uniform(-40, 40)))
        ink = tuple(int(v) for v in rng.integers(0, 256, 3))
        picture.paste(ink, (int(cell) % 3 * 138, int(cell) // 3 * 138), glyph)
    return np.asarray(degraded(rng, picture), np.float32)[:, :, ::-1].transpose(2, 0, 1)[None].copy()


@cache
def alphabet(model: Path) -> list[str]:
    """Return what the classes of a PaddleOCR recognizer mean, from the model's metadata."""
    found = {p.key: p.value for p in onnx.load(model, load_external_data=False).metadata_props}
    return ["", *found["character"].split("\n"), " "]


def read_line(outputs: list[Array], model: Path) -> str:
    """Return the text of class scores (1, steps, classes)."""
    known = alphabet(model)
    return "".join(known[c] if c < len(known) else "?" for c in read_ctc(outputs[0][0].argmax(-1))).strip()


def read_codes(outputs: list[Array], _model: Path) -> list[int]:
    """Return the classes of class scores (steps, 1, classes)."""
    scores = outputs[0].reshape(-1, outputs[0].shape[-1])
    return read_ctc(scores.argmax(-1))


def read_turn(outputs: list[Array], _model: Path) -> int:
    """Return 1 for a line on its head."""
    return int(outputs[0].argmax())


def read_regions(outputs: list[Array], _model: Path) -> Boxes:
    """Return the boxes around connected pixels that are text with a probability of 0.3."""
    from scipy import ndimage

    labels, _ = ndimage.label(outputs[0][0, 0] > 0.3)
    found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    large = [b for b in found if (b[2] - b[0]) * (b[3] - b[1]) >= LEAST_AREA]
    return Boxes(np.array(large, np.float64).reshape(-1, 4), np.zeros(len(large), int))


LINE = (
    Measure("lines read", "truth", exact),
    Measure("characters", "truth", characters),
    Measure("lines as float", "float", exact),
)
REGION = (Measure("F1 of text boxes", "float", f1), Measure("mean IoU", "float", mean_overlap))
CODE = (Measure("codes as float", "float", exact), Measure("characters", "float", characters))
TURN = (Measure("way up", "truth", exact), Measure("as float", "float", exact))
V4, V6 = "rapidocr_onnxruntime/models", "rapidocr/models"

NETWORKS = (
    Network(
        "PP-OCRv6 recognition",
        "rapidocr",
        f"{V6}/PP-OCRv6_rec_small.onnx",
        {"x": (1, 3, 48, 320)},
        lines,
        read_line,
        LINE,
    ),
    Network(
        "PP-OCRv6 detection",
        "rapidocr",
        f"{V6}/PP-OCRv6_det_small.onnx",
        {"x": (1, 3, 320, 320)},
        pages,
        read_regions,
        REGION,
    ),
    Network(
        "PP-OCRv4 recognition",
        "rapidocr-onnxruntime",
        f"{V4}/ch_PP-OCRv4_rec_infer.onnx",
        {"x": (1, 3, 48, 320)},
        lines,
        read_line,
        LINE,
    ),
    Network(
        "PP-OCRv4 detection",
        "rapidocr-onnxruntime",
        f"{V4}/ch_PP-OCRv4_det_infer.onnx",
        {"x": (1, 3, 320, 320)},
        pages,
        read_regions,
        REGION,
    ),
    Network(
        "PP-OCR way up",
        "rapidocr-onnxruntime",
        f"{V4}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": (1, 3, 48, 192)},
        turned,
        read_turn,
        TURN,
    ),
    Network(
        "ddddocr codes",
        "ddddocr",
        "ddddocr/common.onnx",
        {"input1": (1, 1, 64, 160)},
        codes,
        read_codes,
        CODE,
    ),
)
