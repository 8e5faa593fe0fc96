"""`--node-data DIR`: what is known of every node, as files for Model Explorer and Netron."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli import outputs

if TYPE_CHECKING:
    from openbpu.arch.program import Placement
    from openbpu.evaluation.analysis import Analysis
    from openbpu.evaluation.foresight import Kind

NodeData = Annotated[
    Path | None,
    typer.Option(
        "--node-data",
        metavar="DIR",
        help="Write what is known of every node: JSON for Model Explorer, a model for Netron.",
    ),
]
_ANNOTATED = "annotated.onnx"


def prepare(folder: Path | None) -> None:
    """Make the folder, before anything is computed for it."""
    if folder is not None:
        outputs.check_folder(folder)


def write_placement(
    folder: Path,
    model: Path,
    placement: Sequence[Placement],
    march: str,
    kind: Kind | None,
    shapes: Mapping[str, Sequence[int]] | None,
    wishes: Sequence[str],
) -> list[str]:
    """Write placement and latency of every node, and the model with both; returns what was written.

    Latency is that of the compiled model, of a float one as after quantization; none of a model that does not
    compile.
    """
    from openbpu.evaluation.fixing.times import times_of
    from openbpu.evaluation.foresight import named
    from openbpu.quantization.onnx import read_float, write
    from openbpu.quantization.onnx.load import lies_in_files
    from openbpu.report.node_data import annotated, number_data, placement_data

    loaded = named(read_float(model), placement)
    times = times_of(loaded, march=march, as_=kind or "int8", shapes=shapes, bpu_ops=wishes)
    said = [_write(folder / "placement.json", placement_data(loaded, placement))]
    if times:
        said.append(_write(folder / "latency_us.json", number_data(loaded, times)))
    write(annotated(loaded, placement, times, {}), folder / _ANNOTATED, outside=lies_in_files(model))
    return [*said, f"wrote {folder / _ANNOTATED}"]


def write_errors(folder: Path | None, quantized: Path, found: Analysis) -> list[str]:
    """Write what every node adds to the error, 1 − cosine, and the model with it."""
    if folder is None:
        return []
    from openbpu.quantization.onnx import read_float, write
    from openbpu.quantization.onnx.load import lies_in_files
    from openbpu.report.node_data import annotated, number_data

    model = read_float(quantized)
    errors = {row.node: 1.0 - row.alone.cosine for row in found.rows if row.index >= 0}
    said = [_write(folder / "error.json", number_data(model, errors))]
    write(annotated(model, (), {}, errors), folder / _ANNOTATED, outside=lies_in_files(quantized))
    return [*said, f"wrote {folder / _ANNOTATED}"]


def _write(path: Path, document: object) -> str:
    from openbpu.arch.files import write_text

    write_text(path, json.dumps(document, indent=1) + "\n")
    return f"wrote {path}"
