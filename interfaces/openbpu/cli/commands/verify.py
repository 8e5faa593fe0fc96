"""The compiled binary against the ONNX model: verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli import arguments
from openbpu.cli.app import command
from openbpu.cli.feeds import runs, takers
from openbpu.cli.screen import note, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import number_option, whole_option

if TYPE_CHECKING:
    from openbpu.runtime.verify import Comparison


@command("verify")
def verify(  # noqa: PLR0917  # an argument per option
    onnx_model: arguments.OnnxFile,
    model: arguments.HbmFile,
    input: arguments.Inputs = None,  # noqa: A002  # the option is called --input
    samples: Annotated[
        int,
        whole_option("--samples", low=1, fix="1 is the default", about="Random inputs, when none are given."),
    ] = 1,
    seed: Annotated[
        int, whole_option("--seed", low=0, fix="0 is the default", about="Seed of the random inputs.")
    ] = 0,
    min_cosine: Annotated[
        float | None,
        number_option(
            "--min-cosine",
            low=-1,
            high=1,
            fix="1 asks for equal directions",
            about="Exit with 1 when an output's cosine is below this. Without it: below 0.99, "
            "unless the output is within one step everywhere.",
        ),
    ] = None,
    max_steps: Annotated[
        float | None,
        number_option(
            "--max-steps",
            low=0,
            fix="1 allows what rounding once more can do",
            about="Exit with 1 when an output differs by more steps. Without it there is no such limit.",
        ),
    ] = None,
    mode: arguments.ModeOption = arguments.Mode.FAST,
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Compare a .hbm file with its ONNX model.

    Both run on the same inputs, the model on ONNX Runtime; each output is compared. Exits with 1 when the
    binary evidently does not belong to the model.
    """
    arguments.readable(onnx_model, model)
    from openbpu.quantization.samples import Changes, Pixels
    from openbpu.report.verify import float_remark
    from openbpu.runtime import Session
    from openbpu.runtime.reference import Reference
    from openbpu.runtime.verify import check_feeds, compare, failure, random_inputs

    session, reference = (
        Session(model, mode=mode.value, threads=threads, march=march),
        Reference(onnx_model, threads=threads),
    )
    if input:
        feeds = [r.read() for r in runs(input, takers(session), Pixels(), Changes())]
    else:
        feeds = [random_inputs(session, seed + n) for n in range(samples)]
    check_feeds(session, reference, feeds)
    if session.mode == "fast":
        say_if_kernels_compile(session.program)
    found = compare(session, reference, feeds)
    failures = [text for c in found if (text := failure(c, min_cosine, max_steps))]
    remark = (
        float_remark(str(onnx_model))
        if reference.is_float and any(p.on == "BPU" for p in session.placement)
        else ""
    )
    if json:
        head = {"onnx": str(onnx_model), "hbm": str(model), "samples": len(feeds)}
        show_json(head | _document(found, failures, remark))
    else:
        _show(found, failures, remark)
    for text in failures:
        note(f"openbpu: {text}")
    if failures:
        raise typer.Exit(1)


def _document(found: list[Comparison], failures: list[str], remark: str) -> dict[str, Any]:
    from openbpu.report.verify import verify_json

    return {"outputs": verify_json(found), "passed": not failures, "failures": failures, "remark": remark}


def _show(found: list[Comparison], failures: list[str], remark: str) -> None:
    from openbpu.report.verify import LEGEND, verdict, verify_table

    show(verify_table(found), LEGEND, *([remark] if remark else []), verdict(len(found), len(failures)))
