"""`hb_verifier -m a,b [-i NAME FILE]`: how far two stages of a model are apart on one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.commands.tables import DISTANCES, OUTPUT_COLUMNS, distances
from openbpu.compat.hb_runtime import HBRuntime
from openbpu.compat.samples import folder_samples
from openbpu.compat.screen import say, table
from openbpu.evaluation.ends import Ends
from openbpu.quantization.measures import closeness
from openbpu.quantization.samples import Input
from openbpu.runtime import Session

_COMPILED = frozenset({".hbm", ".bin"})


def main(arguments: Sequence[str]) -> int:
    """Run both on one input, of a file or of noise, and print how far their outputs are apart; returns 0."""
    parser = Parser("hb_verifier", "How far two stages of a model are apart.")
    parser.add_argument("-m", "--model", required=True, help="two of .onnx, .bc, .hbm, .bin, with a comma")
    parser.add_argument("-i", "--input", nargs=2, action="append", metavar=("NAME", "FILE"))
    parser.add_argument("-c", "--compare_digits", type=int, default=5, help="decimals that are compared")
    given = parser.parsed(arguments)
    files = files_of(given.model, "hb_verifier")
    if len(files) != 2:
        raise InputError(must("hb_verifier", "-m", "two files, with a comma between", len(files)))
    files.sort(key=lambda path: path.suffix.lower() in _COMPILED)  # what is compiled comes second
    first = HBRuntime(files[0])
    feed = _feed(first, given.input or [])
    expected = dict(zip(first.output_names, first.run(None, feed), strict=True))
    found = _outputs(files[1], first, feed, expected)
    _told(files, expected, found, given.compare_digits)
    return 0


def _feed(model: HBRuntime, given: Sequence[Sequence[str]]) -> dict[str, Array]:
    """Return an array per input: of a file (.npy, raw, picture), or reproducible noise."""
    files = {name: Path(path) for name, path in given}
    for name, path in files.items():
        if name not in model.input_names:
            raise InputError(
                must("hb_verifier", "the input", f"one of {', '.join(model.input_names)}", f"'{name}'")
            )
        if not path.is_file():
            raise InputError(
                must("hb_verifier", f"the file for '{name}'", "there", f"'{path}'", "check the path")
            )
    rng, feed = np.random.default_rng(0), {}
    for name, shape, kind in zip(model.input_names, model.input_shapes, model.input_types, strict=True):
        sizes, dtype = tuple(_size(size) for size in shape), np.dtype(kind)
        if name in files:
            (sample,) = folder_samples(files[name], Input(name, sizes, dtype), raw=kind)[:1]
            feed[name] = np.asarray(sample, dtype)
        elif dtype.kind == "f":
            feed[name] = rng.standard_normal(sizes).astype(dtype)
        else:
            feed[name] = rng.integers(0, 127, prod(sizes)).astype(dtype).reshape(sizes)
    return feed


def _size(given: Any) -> int:
    """Return a size; 1 for a free axis."""
    return given if isinstance(given, int) else 1


def _outputs(
    path: Path, first: HBRuntime, feed: Mapping[str, Array], expected: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the outputs of the second model under the names of the first, in its layout and in values."""
    if path.suffix.lower() not in _COMPILED:
        second = HBRuntime(path)
        return dict(zip(first.output_names, second.run(None, feed), strict=False))
    session = Session(path)
    ends = Ends(session, first.input_names, first.output_names)
    raw = session.run(ends.given(dict(feed))).outputs
    return ends.made(raw, dict(expected))


def _told(
    files: Sequence[Path], expected: Mapping[str, Array], found: Mapping[str, Array], digits: int
) -> None:
    say(f"{files[0].name} against {files[1].name}")
    rows = []
    for name, first in expected.items():
        second = np.asarray(found[name])
        rows.append((name, *distances(closeness(first, second))))
        if first.shape != second.shape:
            say(f"{name}: shapes differ, {first.shape} and {second.shape}")
            continue
        gap = np.abs(first.astype(np.float64) - second.astype(np.float64))
        off = int((gap > 0.5 * 10.0**-digits).sum())
        relative = gap / np.maximum(np.abs(first.astype(np.float64)), np.finfo(np.float32).tiny)
        say(
            f"{name}: mismatched {off}/{gap.size} ({off / max(gap.size, 1):.2%}), "
            f"max_abs_diff {gap.max(initial=0):.6g}, max_rel_diff {relative.max(initial=0):.6g}"
        )
    say(table(OUTPUT_COLUMNS, rows))
    say(DISTANCES)
