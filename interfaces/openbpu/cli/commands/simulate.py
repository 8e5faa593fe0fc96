"""Running a `.hbm`: its outputs and its latency: run, perf."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli import arguments, outputs
from openbpu.cli.app import command
from openbpu.cli.feeds import runs, takers
from openbpu.cli.screen import as_json, note, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import WrongValue, folder_option, whole_option

if TYPE_CHECKING:
    from rich.table import Table

    from openbpu.report.analysis_file import Analysed
    from openbpu.runtime import Session


@command("run")
def run(  # noqa: PLR0917  # an argument per option
    model: arguments.HbmFile,
    input: arguments.Inputs = None,  # noqa: A002  # the option is called --input
    output: Annotated[
        Path | None,
        folder_option(
            "-o",
            "--output",
            metavar="OUTDIR",
            about="Write every output as NAME.npy there; of several runs, in a folder per run.",
        ),
    ] = None,
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    mode: arguments.ModeOption = arguments.Mode.FAST,
    threads: arguments.Threads = 1,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Run a .hbm file on arrays, images, or folders of them.

    Shows outputs, latency and placement; writes the outputs with -o.
    """
    pixels = arguments.pixels(scale, mean, std)
    arguments.readable(model)
    from openbpu.quantization.samples import Changes
    from openbpu.runtime import Session

    session, changes = Session(model, mode=mode.value, threads=threads, march=march), Changes()
    todo = runs(input, takers(session), pixels, changes)
    todo[0].read_for(session)  # the first is looked at before anything is computed
    folders = _folders(output, [r.label for r in todo])
    if session.mode == "fast":
        say_if_kernels_compile(session.program)
    done = [
        _run_one(session, one.read_for(session), folder) for one, folder in zip(todo, folders, strict=True)
    ]
    if changes.sentence():
        note(f"images: {changes.sentence()}")
    rows = [
        {"run": one.label} | row if len(todo) > 1 else row
        for one, rows in zip(todo, done, strict=True)
        for row in rows
    ]
    _show_runs(session, rows, json=json)


def _folders(output: Path | None, labels: list[str]) -> list[Path | None]:
    """Return the folder for the outputs of every run, made and found writable; of one run it is `output`."""
    if output is None:
        return [None] * len(labels)
    if len(labels) == 1:
        folders = [output]
    else:
        folders = [output / stem for stem in outputs.file_stems(labels).values()]
    for folder in folders:
        outputs.check_folder(folder)
    return [*folders]


def _run_one(session: Session, feed: dict[str, Any], folder: Path | None) -> list[dict[str, Any]]:
    """Run once, write the outputs, and return what is told about each."""
    result = session.run(feed)
    paths = outputs.write_arrays(folder, result.outputs) if folder is not None else {}
    return [_output(name, y, paths.get(name)) for name, y in result.outputs.items()]


def _output(name: str, y: Any, path: Path | None) -> dict[str, Any]:
    return {
        "name": name,
        "shape": y.shape,
        "dtype": y.dtype.name,
        "file": str(path) if path else None,
        "ends": (f"{y.min():.6g}", f"{y.max():.6g}") if y.size else ("", ""),
    }


def _show_runs(session: Session, rows: list[dict[str, Any]], *, json: bool) -> None:
    from openbpu.report.latency import latency_json, latency_table
    from openbpu.report.placement import placement_json, placement_summary

    summary = placement_summary(session.placement)
    if not json:
        show(_output_table(rows), latency_table(session.latency), summary)
        return
    show_json(
        {
            "outputs": [{k: v for k, v in row.items() if k != "ends"} for row in rows],
            "latency": latency_json(session.latency),
            "summary": summary,
            "placement": placement_json(session.placement),
        }
    )


def _output_table(rows: list[dict[str, Any]]) -> Table:
    from openbpu.report.text import add_row, in_shape, table

    run = ["Run"] if "run" in rows[0] else []
    made = table(*run, "Output", "Shape", "DType", "Min", "Max", "File", numbers=("Min", "Max"))
    for row in rows:
        what = [*([row["run"]] if run else []), row["name"], in_shape(row["shape"]), row["dtype"]]
        add_row(made, *what, *row["ends"], row["file"] or "not written (-o DIR)")
    return made


class Sort(str, Enum):
    """What makes a layer come first; `order` is the network's."""

    COST = "cost"
    COMPUTE = "compute"
    DDR = "ddr"
    EXPOSED = "exposed"
    GAIN = "gain"
    ORDER = "order"


@command("perf")
def perf(
    model: arguments.HbmFile,
    output: Annotated[
        Path | None,
        folder_option(
            "-o", "--output", metavar="DIR", about="Write NAME.json, NAME.html and NAME.trace.json there."
        ),
    ] = None,
    top: Annotated[
        int,
        whole_option(
            "--top", low=1, fix="--all shows every layer", about="So many layers, the first of the order."
        ),
    ] = 10,
    every: Annotated[bool, typer.Option("--all", help="Every layer.")] = False,
    sort: Annotated[
        Sort, typer.Option("--sort", help="Which layers come first: by what they cost, compute, move, …")
    ] = Sort.COST,
    accuracy: Annotated[
        Path | None,
        typer.Option(
            "--accuracy",
            metavar="FILE.json",
            help="What `openbpu analyze --json` printed: a tab of the page of -o.",
        ),
    ] = None,
    march: arguments.OwnMarch = None,
    json: arguments.Json = False,
) -> None:
    """Simulate the latency of a .hbm file.

    Shows latency, what would help, and the layers that cost most; --json and -o give the vendor's performance
    JSON with every layer, -o also an HTML page and a trace for ui.perfetto.dev.
    """
    arguments.readable(*(path for path in (model, accuracy) if path is not None))
    if accuracy is not None and output is None:
        raise WrongValue("given with -o", str(accuracy), "-o DIR says where to", option="--accuracy")
    from openbpu.report.performance import performance_json, performance_tables
    from openbpu.runtime import Session

    session = Session(model, march=march)
    analysed = _analysed(accuracy)
    if output is not None:
        outputs.check_folder(output)
    document = performance_json(session)
    if output is not None:
        for path in _write_report(output, model, document, session, analysed):
            note(f"wrote {path}")
    if json:
        show_json(document, compact=True)
        return
    show(*performance_tables(session, top=None if every else top, sort=sort.value))


def _analysed(path: Path | None) -> Analysed | None:
    if path is None:
        return None
    from openbpu.report.analysis_file import read_analysis

    return read_analysis(path)


def _write_report(
    folder: Path, model: Path, document: Any, session: Session, analysed: Analysed | None
) -> list[Path]:
    """Write the performance document, the same as a page, and the run as a trace; returns the paths."""
    from openbpu.arch.files import write_text
    from openbpu.cli.about import about
    from openbpu.report.page import performance_page
    from openbpu.report.trace import trace_json

    stem, program = model.stem, session.program
    options = ", ".join(f"{k}={v}" for k, v in program.options) or "none"
    told = about({"model": model}, march=f"{program.march} ({session.march.product})", compiled=options)
    texts = {
        "json": as_json(document, compact=True),
        "html": performance_page(document, stem, told, analysed),
        "trace.json": as_json(trace_json(session), compact=True),
    }
    paths = [folder / f"{stem}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths
