"""Where a quantized model loses precision: analyze."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openbpu.cli import analyzing, arguments, noting
from openbpu.cli.analyzing import Sort
from openbpu.cli.app import command
from openbpu.cli.screen import Report, note, progress, say_if_kernels_compile, show, show_json

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Analysis, Sensitivity
    from openbpu.evaluation.analysis.analyzer import Progress


@command("analyze")
def analyze(  # noqa: PLR0917  # an argument per option
    model: arguments.OnnxFile,
    quantized: analyzing.QuantizedFile,
    data: analyzing.Data,
    hbm: analyzing.OptionalHbm = None,
    samples: analyzing.Samples = None,
    until: analyzing.Until = None,
    min_cosine: analyzing.MinCosine = 0.99,
    top: analyzing.Top = 10,
    every: analyzing.Every = False,
    sort: analyzing.Sorted = Sort.ALONE,
    sensitivity: analyzing.Felt = None,
    metric: analyzing.Metric = "cosine",
    csv: analyzing.Csv = None,
    page: arguments.Page = None,
    dump: analyzing.Dump = None,
    tensor: analyzing.Tensors = None,
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    shape: arguments.Shapes = None,
    workers: arguments.Workers = 0,
    scheduler: arguments.Scheduler = "",
    threads: arguments.Threads = 1,
    node_data: noting.NodeData = None,
    json: arguments.Json = False,
) -> None:
    """Find where a quantized model loses precision, node by node.

    Runs the float model, the quantized one and, if given, the binary on the same samples. Shows what each
    node adds alone and what has come together so far, why, and what to do about it.
    """
    pixels, sizes = arguments.pixels(scale, mean, std), arguments.shapes(shape)
    read = [path for path in (model, quantized, hbm) if path is not None]
    files = analyzing.Files(csv, page, dump, tuple(tensor or ()))
    arguments.readable(*read)
    files.check(*read)
    arguments.refuse_both(workers, scheduler)
    noting.prepare(node_data)
    from openbpu.evaluation.analysis import Analyzer
    from openbpu.evaluation.analysis import metric as named
    from openbpu.evaluation.analysis import sensitivity as measure
    from openbpu.evaluation.distribution import Pool
    from openbpu.quantization.onnx import load_calibration

    measured, told = named(metric), list[str]()
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
    of = {"float": model, "quantized": quantized, "binary": hbm}
    told += files.write_csv(found, sort, felt)
    told += files.write_page(found, felt, measured.name, of)
    told += files.write_tensors(analyzer, given, samples or 1, until)
    told += noting.write_errors(node_data, quantized, found)
    for sentence in told:
        note(sentence)
    _show(found, felt, measured.name, None if every else top, sort, json=json)


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
