"""Options of `openbpu compile`, and what is said at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli.screen import note, show, show_json
from openbpu.cli.usage import whole_option

if TYPE_CHECKING:
    import onnx

    from openbpu.arch.program import Program

Output = Annotated[Path, typer.Option("-o", "--output", metavar="Q.hbm", help="The file to write.")]
Opt = Annotated[
    int,
    whole_option(
        "-O",
        "--opt",
        low=0,
        high=2,
        fix="2 gives the lowest latency, 0 the quickest compilation",
        about="How hard the schedule is optimised.",
    ),
]
Balance = Annotated[
    int,
    whole_option(
        "--balance",
        low=0,
        high=100,
        fix="0 is for the fewest DDR bytes, 100 for the lowest latency",
        about="What the schedule aims at: 0 fewest DDR bytes … 100 latency.",
    ),
]
MaxL2mSize = Annotated[
    int,
    whole_option(
        "--max-l2m-size",
        low=0,
        fix="it is in bytes; `openbpu march NAME` tells how many a march has",
        about="L2M that tensors may take, not DDR.",
        metavar="BYTES",
    ),
]
CoreNum = Annotated[
    int,
    whole_option(
        "--core-num",
        low=1,
        fix="`openbpu march` tells how many cores a march has",
        about="Cores that share the work of every layer.",
    ),
]
RemoveIo = Annotated[
    str,
    typer.Option(
        "--remove-io",
        metavar="KIND,KIND",
        help="Strip these nodes at the ends: quantize, dequantize, transpose (images channels last).",
    ),
]
FastPerf = Annotated[
    bool,
    typer.Option(
        "--fast-perf", help="For a float model: quantize at random and strip the ends; for latency only."
    ),
]
Batch = Annotated[
    int,
    whole_option(
        "--batch",
        low=0,
        high=4096,
        fix="0 leaves the batch as the model has it",
        about="Images of a run, for a model of one: as many runs in one, where no operator mixes images.",
        metavar="N",
    ),
]


def random_quantized(model: Path, sizes: Mapping[str, Sequence[int]] | None) -> onnx.ModelProto:
    """Return a float model quantized with ranges from noise."""
    from openbpu.compiler.reader import read_model
    from openbpu.quantization.onnx import quantize_random

    read_model(model, sizes)  # what is wrong with the float model is said before it is quantized
    return quantize_random(model, shapes=sizes)


def report(program: Program, output: Path, seconds: float, *, json: bool) -> None:
    """Say what was compiled, and where its nodes run."""
    from openbpu.report.placement import placement_json, placement_summary
    from openbpu.report.text import in_bytes

    size, summary = output.stat().st_size, placement_summary(program.placement)
    if json:
        show_json(
            {
                "hbm": str(output),
                "bytes": size,
                "march": program.march,
                "options": dict(program.options),
                "working_cores": program.working_cores,
                "seconds": round(seconds, 3),
                "summary": summary,
                "placement": placement_json(program.placement),
            }
        )
        return
    of_them = f", {program.working_cores} of {program.cores} cores work" if program.cores > 1 else ""
    show(f"{output}: {in_bytes(size)}, {program.march}{of_them}, compiled in {seconds:.1f} s", summary)
    if program.placement and all(p.on == "CPU" for p in program.placement):
        note(
            "nothing runs on the BPU: a float model is quantized first, by `openbpu quantize`; "
            "`openbpu check` says of every node why"
        )
