"""The compiled binary against the ONNX model: verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli import arguments, outputs
from openbpu.cli.app import command
from openbpu.cli.feeds import runs
from openbpu.cli.screen import note, progress, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import number_option, whole_option

if TYPE_CHECKING:
    from openbpu.evaluation import Verification


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
            about="Exit with 1 when an output's cosine is below this. Without it: when ties and stated "
            "bounds do not explain a difference.",
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
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    mode: arguments.ModeOption = arguments.Mode.FAST,
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    page: arguments.Page = None,
    json: arguments.Json = False,
) -> None:
    """Is a .hbm file right? Compare it with its ONNX model.

    Both run on the same inputs, the model in float64, with every rounding that it has; ONNX Runtime stands
    beside it. Ties and stated bounds explain a difference; exits with 1 where they do not.
    """
    pixels = arguments.pixels(scale, mean, std)
    arguments.readable(onnx_model, model)
    if page is not None:
        outputs.check_page(page, onnx_model, model)
    from openbpu.evaluation.ends import noise
    from openbpu.evaluation.verification import Verifier
    from openbpu.quantization.samples import Changes

    verifier = Verifier(onnx_model, model, mode=mode.value, threads=threads, march=march)
    session, changes = verifier.session, Changes()
    feeds = noise(session, samples, seed)
    if input:
        todo = runs(input, verifier.inputs, pixels, changes)
        feeds = (one.read_for(verifier) for one in todo)
        todo[0].read_for(verifier)  # the first is looked at before anything is computed
    if session.mode == "fast":
        say_if_kernels_compile(session.program)
    with progress() as report:
        found = verifier.run(
            feeds, noise=not input, min_cosine=min_cosine, max_steps=max_steps, progress=report
        )
    if changes.sentence():
        note(f"images: {changes.sentence()}")
    if page is not None:
        _write_page(page, found, onnx_model, model)
    _show(found, onnx_model, model, json=json)
    for text in found.failures:
        note(f"openbpu: {text}")
    if found.failures:
        raise typer.Exit(1)


def _write_page(page: Path, found: Verification, onnx_model: Path, model: Path) -> None:
    from openbpu.arch.files import write_text
    from openbpu.cli.about import about
    from openbpu.report.page import verification_page

    write_text(page, verification_page(found, model.name, about({"model": onnx_model, "binary": model})))
    note(f"wrote {page}")


def _show(found: Verification, onnx_model: Path, model: Path, *, json: bool) -> None:
    from openbpu.report.verify import LEGEND, sentences, verdict, verify_json, verify_table

    if json:
        show_json({"onnx": str(onnx_model), "hbm": str(model)} | verify_json(found))
    else:
        show(verify_table(found), LEGEND, *sentences(found), verdict(found))
