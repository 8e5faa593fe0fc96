"""Running a `.hbm`: its outputs and its latency: run, perf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from openbpu.cli import arguments, outputs
from openbpu.cli.app import command
from openbpu.cli.screen import as_json, note, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import folder_option

if TYPE_CHECKING:
    from rich.table import Table

    from openbpu.runtime import Result, Session


@command("run")
def run(
    model: arguments.HbmFile,
    input: arguments.Inputs = None,  # noqa: A002  # the option is called --input
    output: Annotated[
        Path | None,
        folder_option("-o", "--output", metavar="OUTDIR", about="Write every output as NAME.npy there."),
    ] = None,
    mode: arguments.ModeOption = arguments.Mode.FAST,
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Run a .hbm file on arrays.

    Shows outputs, latency and placement; writes the outputs with -o.
    """
    arguments.readable(model)
    from openbpu.report.placement import placement_summary
    from openbpu.runtime import Session

    session = Session(model, mode=mode.value, threads=threads, march=march)
    program = session.program
    names = [program.tensors[i].name for i in program.inputs]
    feed = arguments.inputs(input, names)
    session.check(feed)
    if output is not None:
        outputs.check_folder(output)
    if session.mode == "fast":
        say_if_kernels_compile(program)
    result = session.run(feed)
    paths = outputs.write_arrays(output, result.outputs) if output is not None else {}
    if json:
        show_json(_result_json(result, paths))
        return
    from openbpu.report.latency import latency_table

    show(_output_table(result, paths), latency_table(result.latency), placement_summary(result.placement))


def _result_json(result: Result, paths: dict[str, Path]) -> dict[str, Any]:
    from openbpu.report.latency import latency_json
    from openbpu.report.placement import placement_json, placement_summary

    return {
        "outputs": [
            {
                "name": name,
                "shape": y.shape,
                "dtype": y.dtype.name,
                "file": str(paths[name]) if name in paths else None,
            }
            for name, y in result.outputs.items()
        ],
        "latency": latency_json(result.latency),
        "summary": placement_summary(result.placement),
        "placement": placement_json(result.placement),
    }


def _output_table(result: Result, paths: dict[str, Path]) -> Table:
    from openbpu.report.text import add_row, in_shape, table

    made = table("Output", "Shape", "DType", "Min", "Max", "File", numbers=("Min", "Max"))
    for name, y in result.outputs.items():
        ends = (f"{y.min():.6g}", f"{y.max():.6g}") if y.size else ("", "")
        add_row(made, name, in_shape(y.shape), y.dtype.name, *ends, paths.get(name, "not written (-o DIR)"))
    return made


@command("perf")
def perf(
    model: arguments.HbmFile,
    output: Annotated[
        Path | None,
        folder_option(
            "-o", "--output", metavar="DIR", about="Write NAME.json, NAME.html and NAME.trace.json there."
        ),
    ] = None,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Simulate the latency of a .hbm file.

    Shows what every layer costs; --json and -o give the vendor's performance JSON, -o also an HTML page and
    a trace for ui.perfetto.dev.
    """
    arguments.readable(model)
    from openbpu.report.performance import performance_json, performance_tables
    from openbpu.runtime import Session

    session = Session(model, march=march)
    if output is not None:
        outputs.check_folder(output)
    document = performance_json(session)
    if output is not None:
        for path in _write_report(output, model.stem, document, session):
            note(f"wrote {path}")
    if json:
        show_json(document, compact=True)
        return
    show(*performance_tables(session))


def _write_report(folder: Path, stem: str, document: Any, session: Session) -> list[Path]:
    """Write the performance document, the same as a page, and the run as a trace; returns the paths."""
    from openbpu.arch.files import write_text
    from openbpu.report.page import performance_page
    from openbpu.report.trace import trace_json

    texts = {
        "json": as_json(document, compact=True),
        "html": performance_page(document, stem),
        "trace.json": as_json(trace_json(session), compact=True),
    }
    paths = [folder / f"{stem}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths
