"""`hb_analyzer`: where a quantized model loses precision, as `openbpu analyze` finds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import write_text
from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.screen import say, table
from openbpu.evaluation.analysis import analyze
from openbpu.quantization.onnx import load_calibration
from openbpu.report.analysis import analysis_csv, sentences
from openbpu.report.text import DASH


def main(arguments: Sequence[str]) -> int:
    """Print a row per node, the worst first, and what to do about it; returns 0."""
    parser = Parser("hb_analyzer", "Where a quantized model loses precision, node by node.")
    parser.add_argument(
        "-m", "--model", required=True, help="the float and the quantized model, with a comma"
    )
    parser.add_argument("-d", "--data", required=True, help="samples: a folder, or an .npz")
    parser.add_argument("-o", "--output", help="write every node as a line of CSV here")
    given = parser.parsed(arguments)
    files = files_of(given.model, "hb_analyzer")
    if len(files) != 2:
        raise InputError(
            must("hb_analyzer", "-m", "the float and the quantized model", f"{len(files)} files")
        )
    data = load_calibration(given.data, files[1], scale=1.0)
    found = analyze(files[0], files[1], data, pictures=False)
    rows = [
        (row.node, row.op, f"{row.so_far.cosine:.6f}", f"{row.alone.sqnr:.1f}", row.cause or DASH)
        for row in found.worst()
    ]
    say(table(("Node", "Type", "Cosine Similarity", "SQNR alone (dB)", "Cause"), rows))
    for sentence in sentences(found):
        say(sentence)
    if given.output:
        write_text(Path(given.output), analysis_csv(found, "alone", ()))
        say(f"wrote {given.output}")
    return 0
