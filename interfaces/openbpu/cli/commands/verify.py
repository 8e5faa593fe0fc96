"""The compiled binary against the ONNX model: verify."""

from __future__ import annotations

from typing import Annotated

import typer

from openbpu.cli import arguments
from openbpu.cli.app import command
from openbpu.cli.screen import say_if_kernels_compile, show, show_json


@command("verify")
def verify(  # noqa: PLR0917  # an argument per option
    onnx_model: arguments.OnnxFile,
    model: arguments.HbmFile,
    input: arguments.Inputs = None,  # noqa: A002  # the option is called --input
    samples: Annotated[int, typer.Option("--samples", min=1, help="Random inputs, when none are given.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random inputs.")] = 0,
    min_cosine: Annotated[
        float | None, typer.Option("--min-cosine", help="Exit with 1 when an output's cosine is below this.")
    ] = None,
    max_steps: Annotated[
        float | None, typer.Option("--max-steps", help="Exit with 1 when an output differs by more steps.")
    ] = None,
    mode: arguments.ModeOption = arguments.Mode.FAST,
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Compare a .hbm file with its ONNX model.

    Both run on the same inputs, the model on ONNX Runtime; each output is compared.
    """
    from openbpu.report.verify import verify_json, verify_table
    from openbpu.runtime import Session
    from openbpu.runtime.verify import Reference, compare, random_inputs

    session, reference = (
        Session(model, mode=mode.value, threads=threads, march=march),
        Reference(onnx_model, threads=threads),
    )
    if input:
        feeds = [arguments.inputs(input, reference.input_names)]
    else:
        feeds = [random_inputs(session, seed + n) for n in range(samples)]
    if session.mode == "fast":
        say_if_kernels_compile(session.program)
    found = compare(session, reference, feeds)
    if json:
        show_json(
            {"onnx": str(onnx_model), "hbm": str(model), "samples": len(feeds), "outputs": verify_json(found)}
        )
    else:
        show(verify_table(found))
    for line in found:
        below = min_cosine is not None and line.cosine < min_cosine
        beyond = max_steps is not None and (line.max_steps or 0) > max_steps
        if below or beyond:
            raise typer.Exit(1)
