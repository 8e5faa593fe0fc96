"""Where a quantized model loses precision: analyze."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli import arguments, outputs
from openbpu.cli.app import command
from openbpu.cli.screen import Report, note, progress, say_if_kernels_compile, show, show_json
from openbpu.cli.usage import WrongValue, folder_option, number_option, whole_option

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Analysis, Analyzer, Sensitivity
    from openbpu.evaluation.analysis.analyzer import Progress
    from openbpu.quantization.onnx.samples import Feed


class Sort(str, Enum):
    """What makes a node come first; `order` is the network's."""

    ALONE = "alone"
    COSINE = "cosine"
    SQNR = "sqnr"
    L1 = "l1"
    MAX = "max"
    CLIPPED = "clipped"
    USED = "used"
    ORDER = "order"


class Mode(str, Enum):
    """What is quantized when a node's sensitivity is measured."""

    ONLY = "only"
    ALL_BUT = "all-but"


Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR|FILE.npz", help="Samples: a folder of .npy files or images, or an .npz."
    ),
]
QuantizedFile = Annotated[Path, typer.Argument(metavar="Q.onnx", show_default=False)]
OptionalHbm = Annotated[Path | None, typer.Argument(metavar="[MODEL.hbm]", show_default=False)]


@command("analyze")
def analyze(  # noqa: PLR0917  # an argument per option
    model: arguments.OnnxFile,
    quantized: QuantizedFile,
    data: Data,
    hbm: OptionalHbm = None,
    samples: Annotated[
        int | None,
        whole_option("--samples", low=1, fix="16 is the default", about="Run so many samples at most: 16."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="NODE", help="Stop behind this node or tensor.")
    ] = None,
    min_cosine: Annotated[
        float,
        number_option(
            "--min-cosine",
            low=-1,
            high=1,
            fix="0.99 is the default",
            about="A node whose cosine so far is below this has gone wrong.",
        ),
    ] = 0.99,
    top: Annotated[
        int,
        whole_option(
            "--top", low=1, fix="--all shows every node", about="So many nodes, first in the order."
        ),
    ] = 10,
    every: Annotated[bool, typer.Option("--all", help="Every node.")] = False,
    sort: Annotated[Sort, typer.Option("--sort", help="Which nodes come first.")] = Sort.ALONE,
    sensitivity: Annotated[
        Mode | None,
        typer.Option(
            "--sensitivity", help="Also run the network with only, or with all but, each node quantized."
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="cosine|mse|sqnr|MODULE:FUNCTION",
            help="What a sensitivity is of: the outputs against the float model's.",
        ),
    ] = "cosine",
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write every node as a line of CSV.")
    ] = None,
    page: arguments.Page = None,
    dump: Annotated[
        Path | None,
        folder_option(
            "--dump",
            metavar="DIR",
            about="Write tensors as DIR/float/NAME.npy, DIR/qdq/NAME.npy and DIR/simulated/NAME.npy; of "
            "several samples (--samples) in a folder each. Without --samples of the first.",
        ),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option("--tensor", metavar="NAME", help="Dump this tensor or node only; may be repeated."),
    ] = None,
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    shape: arguments.Shapes = None,
    workers: arguments.Workers = 0,
    scheduler: arguments.Scheduler = "",
    threads: arguments.Threads = 1,
    json: arguments.Json = False,
) -> None:
    """Find where a quantized model loses precision, node by node.

    Runs the float model, the quantized one and, if given, the binary on the same samples. Shows what each
    node adds alone and what has come together so far, why, and what to do about it.
    """
    pixels, sizes = arguments.pixels(scale, mean, std), arguments.shapes(shape)
    arguments.readable(*(path for path in (model, quantized, hbm) if path is not None))
    _check_outputs(csv, dump)
    if page is not None:
        outputs.check_page(page, *(path for path in (model, quantized, hbm, csv) if path is not None))
    if tensor and dump is None:
        raise WrongValue("given with --dump", tensor[0], "--dump DIR says where to", option="--tensor")
    from openbpu.evaluation.analysis import Analyzer
    from openbpu.evaluation.analysis import metric as named
    from openbpu.evaluation.analysis import sensitivity as measure
    from openbpu.evaluation.distribution import Pool
    from openbpu.quantization.onnx import load_calibration

    arguments.refuse_both(workers, scheduler)
    measured = named(metric)
    told: list[str] = []
    given = load_calibration(
        data,
        quantized,
        scale=pixels.scale,
        mean=pixels.mean,
        std=pixels.std,
        shapes=sizes,
        told=told.append,
    )
    analyzer = Analyzer(model, quantized, hbm, shapes=sizes, threads=threads)
    if analyzer.binary is not None:
        say_if_kernels_compile(analyzer.binary.program)
    with progress() as report:
        found = analyzer.analyze(
            given,
            samples=samples,
            until=until,
            min_cosine=min_cosine,
            pictures=json or page is not None,
            progress=_in_steps(report),
        )
        felt: Sequence[Sensitivity] = ()
        if sensitivity is not None:
            with Pool(workers=workers, scheduler=scheduler) as pool:
                felt = measure(
                    analyzer,
                    given,
                    mode=sensitivity.value,
                    by=measured,
                    samples=samples,
                    until=until,
                    pool=pool,
                    progress=_in_steps(report),
                )
    if csv is not None:
        from openbpu.arch.files import write_text
        from openbpu.report.analysis import analysis_csv

        write_text(csv, analysis_csv(found, sort.value, felt))
        told.append(f"wrote {csv}")
    if page is not None:
        files = {"float": model, "quantized": quantized, "binary": hbm}
        told.append(_write_page(page, found, felt, measured.name, files))
    if dump is not None:
        feeds, _ = analyzer.feeds(given, samples or 1)
        told.append(_dump(analyzer, feeds, dump, tensor or [], until))
    for sentence in told:
        note(sentence)
    _show(found, felt, measured.name, None if every else top, sort, json=json)


def _check_outputs(csv: Path | None, dump: Path | None) -> None:
    if csv is not None:
        outputs.check_file(csv)
    if dump is not None:
        outputs.check_folder(dump)


def _write_page(
    page: Path,
    found: Analysis,
    felt: Sequence[Sensitivity],
    metric: str,
    files: dict[str, Path | None],
) -> str:
    """Write the page; returns what was written, in a sentence."""
    from openbpu.arch.files import write_text
    from openbpu.cli.about import about
    from openbpu.report.page import analysis_page

    write_text(page, analysis_page(found, felt, metric, about(files)))
    return f"wrote {page}"


def _in_steps(report: Report | None) -> Progress | None:
    if report is None:
        return None
    return lambda stage, done, total: report(stage, done / max(total, 1))


def _show(
    found: Analysis,
    felt: Sequence[Sensitivity],
    metric: str,
    top: int | None,
    sort: Sort,
    *,
    json: bool,
) -> None:
    from openbpu.report import analysis as report

    if json:
        sensitivity = report.sensitivity_json(felt, metric) if felt else None
        show_json(report.analysis_json(found) | {"sensitivity": sensitivity})
        return
    tables = [report.analysis_table(found, top=top, sort=sort.value)]
    if felt:
        tables.append(report.sensitivity_table(felt, metric, top=top))
    if found.weights:
        tables.append(report.weights_table(found.weights[:top]))
    show(*tables, report.LEGEND, *report.sentences(found))


def _dump(analyzer: Analyzer, feeds: list[Feed], folder: Path, names: list[str], until: str | None) -> str:
    """Write the tensors; returns what was written, in a sentence."""
    from openbpu.evaluation.analysis import dump

    known: dict[str, list[str]] = {}
    written = 0
    for sample, run, arrays in dump(analyzer, feeds, names, until):
        place = (folder / str(sample) if len(feeds) > 1 else folder) / run
        place.mkdir(parents=True, exist_ok=True)
        seen = known.setdefault(str(place), [])
        seen += arrays
        stems = outputs.file_stems(seen)  # of all so far: none takes the name of an earlier one
        for name, array in arrays.items():
            outputs.write_array(place / f"{stems[name]}.npy", array)
        written += len(arrays)
    return f"wrote {written} tensors to {folder}"
