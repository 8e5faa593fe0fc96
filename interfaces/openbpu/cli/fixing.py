"""`openbpu check --fix`: its options, the model it writes, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli import outputs
from openbpu.cli.screen import progress, show, show_json
from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    from openbpu.evaluation.fixing import Cure
    from openbpu.evaluation.foresight import Kind

Fix = Annotated[
    Path | None,
    typer.Option("--fix", metavar="OUT.onnx", help="Write the model with what can be fixed without cost."),
]
Calib = Annotated[
    Path | None,
    typer.Option(
        "--calib", metavar="DIR|FILE.npz", help="With --fix: data for new scales and for the proof."
    ),
]


def refuse_odd(fix: Path | None, calib: Path | None, config: Path | None) -> None:
    """Refuse options that mean nothing together."""
    if calib is not None and fix is None:
        raise WrongValue("given with --fix", "alone", "--fix OUT.onnx says what to write", option="--calib")
    if config is not None and fix is not None:
        what = "`openbpu quantize --quant-config` sets types"
        raise WrongValue("left out with --fix", str(config), what, option="--quant-config")


def fixed(
    model: Path,
    out: Path,
    calib: Path | None,
    march: str,
    kind: Kind | None,
    shapes: Mapping[str, Sequence[int]] | None,
    wishes: Sequence[str],
) -> Cure:
    """Cure the model and write the result: the model as it is where there is nothing to fix."""
    outputs.refuse_overwriting(model, out, "--fix")
    outputs.check_file(out)
    from openbpu.evaluation.fixing import cure
    from openbpu.quantization.onnx import load_calibration, write
    from openbpu.quantization.onnx.load import lies_in_files

    data = None if calib is None else load_calibration(calib, model, shapes=shapes)
    with progress():
        found = cure(model, march=march, as_=kind, shapes=shapes, bpu_ops=wishes, calibration=data)
    write(found.model, out, outside=lies_in_files(model))
    return found


def show_fixed(model: Path, out: Path, march: str, found: Cure, *, json: bool) -> None:
    """Say what was fixed, what that changed, and what is left."""
    from openbpu.report.fixing import fixing_json, fixing_parts

    if json:
        document: dict[str, Any] = {"model": str(model), "march": march, "fixed model": str(out)}
        show_json(document | fixing_json(found))
        return
    show(*fixing_parts(found, str(out)))
