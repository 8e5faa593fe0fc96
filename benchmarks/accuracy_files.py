"""Files of known type for `accuracy.py`, written here or Python's own, and magika, which names types."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sysconfig
import tarfile
import wave
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from accuracy_networks import Measure, Network, Samples, Wheels
from accuracy_scores import Array, exact
from accuracy_text import words
from PIL import Image

SIDE = 1024
BLOCK = 4096
PADDING = 256
EACH, TEST_EACH = 1, 4
LIBRARY = Path(sysconfig.get_path("stdlib"))

Rng = np.random.Generator

TEXTS: dict[str, tuple[str, str]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
"""Per type a head and a part that repeats; {a} … {d} are names, {s} is a sentence, {n} a number."""


def word(rng: Rng) -> str:
    """Return an identifier."""
    return str(words()[rng.integers(len(words()))]).lower()


def prose(rng: Rng) -> str:
    """Return a sentence without sense."""
    return " ".join(word(rng) for _ in range(rng.integers(5, 14))).capitalize() + "."


def filled(rng: Rng, template: str) -> str:
    """Return a template with names, a sentence and a number."""
    a, b, c, d = (word(rng) for _ in range(4))
    number = int(rng.integers(1, 999))
    return template.format(a=a, b=b, c=c, d=d, A=a.capitalize(), B=b.capitalize(), s=prose(rng), n=number)


def text(rng: Rng, kind: str) -> bytes:
    """Return a file of a kind of TEXTS."""
    head, part = TEXTS[kind]
    parts = [filled(rng, part) for _ in range(rng.integers(4, 20))]
    return (filled(rng, head) + "".join(parts)).encode()


def document(rng: Rng) -> bytes:
    """Return nested JSON."""
    rows = [
        {"id": int(n), word(rng): word(rng), "tags": [word(rng), None, True]}
        for n in rng.integers(0, 999, 20)
    ]
    return json.dumps({"items": rows, "next": None}, indent=int(rng.integers(1, 4))).encode()


def picture(rng: Rng, form: str) -> bytes:
    """Return an image file of smooth noise."""
    small = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


def sound(rng: Rng) -> bytes:
    """Return a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((rng.normal(0, 2000, 4000)).astype("<i2").tobytes())
    return out.getvalue()


def archive(rng: Rng, form: str) -> bytes:
    """Return a zip or tar archive of two texts."""
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for kind in ("c", "html"):
                packed.writestr(f"{word(rng)}.{kind}", text(rng, kind))
    else:
        with tarfile.open(fileobj=out, mode="w") as packed:
            for kind in ("c", "html"):
                entry = tarfile.TarInfo(f"{word(rng)}.{kind}")
                data = text(rng, kind)
                entry.size = len(data)
                packed.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def array(rng: Rng) -> bytes:
    """Return a .npy file."""
    out = io.BytesIO()
    np.save(out, rng.normal(size=(20, 20)))
    return out.getvalue()


def module(rng: Rng) -> bytes:
    """Return a module of Python's library."""
    found = sorted(LIBRARY.glob("*.py"))
    return found[int(rng.integers(len(found)))].read_bytes()


def packed(rng: Rng, pack: Callable[[bytes], bytes]) -> bytes:
    """Return a compressed text."""
    return pack(text(rng, "html"))


MAKERS: dict[str, Callable[[Rng], bytes]] = {
    **{kind: partial(text, kind=kind) for kind in TEXTS},
    "json": document,
    "python": module,
    **{form: partial(picture, form=form) for form in ("png", "jpeg", "bmp", "gif", "tiff", "webp")},
    "wav": sound,
    "zip": partial(archive, form="zip"),
    "tar": partial(archive, form="tar"),
    "gzip": partial(packed, pack=partial(gzip.compress, mtime=0)),
    "bzip": partial(packed, pack=bz2.compress),
    "xz": partial(packed, pack=lzma.compress),
    "npy": array,
}


def features(content: bytes) -> Array:
    """Return what magika looks at, int32 (1, 2048): 1024 bytes from both ends, without blanks, filled up."""
    begin, end = content[:BLOCK].lstrip()[:SIDE], content[-BLOCK:].rstrip()[-SIDE:]
    codes = [*begin, *[PADDING] * (SIDE - len(begin)), *[PADDING] * (SIDE - len(end)), *end]
    return np.array([codes], np.int32)


def files(wheels: Wheels, test: bool) -> Samples:
    """Return some files of every type; a truth is the number of the type among magika's labels."""
    config = wheels.file("magika", "magika/models/standard_v3_3/config.min.json").read_text(encoding="utf-8")
    labels = json.loads(config)["target_labels_space"]
    rng = np.random.default_rng(32 if test else 31)
    kinds = [k for k in MAKERS for _ in range(TEST_EACH if test else EACH)]
    feeds = [{"bytes": features(MAKERS[k](rng))} for k in kinds]
    return Samples(feeds, [labels.index(k) for k in kinds] if test else None)


def read_label(outputs: list[Array], _model: Path) -> int:
    """Return the class that scores highest."""
    return int(outputs[0].argmax())


LABEL = (Measure("labels right", "truth", exact), Measure("labels as float", "float", exact))

NETWORKS = (
    Network(
        "magika",
        "magika",
        "magika/models/standard_v3_3/model.onnx",
        {"bytes": (1, 2048)},
        files,
        read_label,
        LABEL,
    ),
)
