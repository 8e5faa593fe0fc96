"""From a model to a `.hbm`: check, quantize, compile."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli import arguments, compiling, fixing, judging, noting, outputs, quantizing, searching
from openbpu.cli.app import command
from openbpu.cli.screen import note, progress, show, show_json
from openbpu.cli.usage import own_names

if TYPE_CHECKING:
    from openbpu.evaluation.closing import Closing
    from openbpu.evaluation.foresight import Kind
    from openbpu.evaluation.search import Search


class Method(str, Enum):
    """How ranges are chosen from calibration data."""

    MAX = "max"
    PERCENTILE = "percentile"
    MSE = "mse"
    KL = "kl"
    MIX = "mix"


class Activation(str, Enum):
    """The type of activations after quantization."""

    INT8 = "int8"
    INT16 = "int16"


@command("check")
def check(  # noqa: PLR0917  # an argument per option
    model: arguments.OnnxFile,
    march: arguments.March,
    shape: arguments.Shapes = None,
    as_: Annotated[
        Activation | None,
        typer.Option("--as", help="Of a float model: as after `openbpu quantize` to this type (int8)."),
    ] = None,
    bpu: arguments.BpuOps = None,
    config: quantizing.Config = None,
    fix: fixing.Fix = None,
    calib: fixing.Calib = None,
    node_data: noting.NodeData = None,
    json: arguments.Json = False,
) -> None:
    """Show where every node would run, and why.

    Every reason for the CPU comes with what would bring the node onto the BPU. A float model is judged as it
    will be when it is quantized, with the types of --quant-config; no data is needed for that. --fix writes
    the model with all that can be done without cost, proved by running both.
    """
    sizes, wishes = arguments.shapes(shape), arguments.wishes(bpu)
    arguments.readable(model)
    fixing.refuse_odd(fix, calib, config)
    if fix is not None:
        cured = fixing.fixed(model, fix, calib, march, None if as_ is None else as_.value, sizes, wishes)
        fixing.show_fixed(model, fix, march, cured, json=json)
        return
    from openbpu.evaluation.foresight import foresee
    from openbpu.report.placement import placement_json, placement_summary, placement_table

    kind: Kind | None = None if as_ is None else as_.value
    noting.prepare(node_data)
    types = None if config is None else quantizing.quant_config(config, None, None, None)
    found = foresee(model, march=march, as_=kind, shapes=sizes, bpu_ops=wishes, config=types)
    for finding in found.findings:
        note(finding.text)
    if node_data is not None:
        asked = (march, kind, sizes, wishes)
        for sentence in noting.write_placement(node_data, model, found.placement, *asked):
            note(sentence)
    summary = placement_summary(found.placement)
    if json:
        show_json(
            {
                "model": str(model),
                "march": march,
                "quantized as": found.quantized_as or None,
                "note": found.told,
                "findings": [f.text for f in found.findings],
                "placement": placement_json(found.placement),
                "summary": summary,
            }
        )
        return
    show(*([found.told] if found.told else []), placement_table(found.placement), summary)


@command("quantize")
def quantize(  # noqa: PLR0917  # an argument per option
    model: arguments.OnnxFile,
    calib: Annotated[
        Path,
        typer.Option("--calib", metavar="DIR|FILE.npz", help="A folder of .npy files or images, or an .npz."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="Q.onnx", help="The QDQ model to write.")],
    int16: Annotated[bool, typer.Option("--int16", help="Activations in int16 instead of int8.")] = False,
    int8_tail: Annotated[
        bool, typer.Option("--int8-tail", help="Int8, not int16, behind the last Conv, Gemm or MatMul too.")
    ] = False,
    scale: arguments.Scale = None,
    mean: arguments.Mean = "0",
    std: arguments.Std = "1",
    method: Annotated[Method, typer.Option("--method", help="How ranges are chosen.")] = Method.MAX,
    config: quantizing.Config = None,
    int16_nodes: quantizing.Int16Nodes = None,
    int8_nodes: quantizing.Int8Nodes = None,
    float_nodes: quantizing.FloatNodes = None,
    asymmetric: quantizing.Asymmetric = None,
    equalisation: quantizing.Equalisation = False,
    adaptive_rounding: quantizing.AdaptiveRounding = False,
    bias_correction: quantizing.BiasCorrection = None,
    hold_out: quantizing.HoldOut = None,
    auto: searching.Auto = False,
    budget: searching.Budget = None,
    latency: searching.Latency = None,
    data: searching.JudgedBy = None,
    metric: searching.JudgedAs = "",
    labels: judging.Labels = "",
    classes: judging.Classes = None,
    images: judging.Images = None,
    preprocess: judging.Preprocess = "",
    postprocess: judging.Postprocess = "",
    scores: judging.Scores = "",
    boxes: judging.Boxes = judging.Unit.PIXELS,
    first_class: judging.FirstClass = 0,
    class_ids: judging.ClassIds = False,
    limit: judging.Limit = None,
    trials: searching.Trials = searching.MOST,
    workers: arguments.Workers = 0,
    scheduler: arguments.Scheduler = "",
    threads: arguments.Threads = 1,
    march: quantizing.ClosingMarch = quantizing.CLOSING_MARCH,
    page: arguments.Page = None,
    shape: arguments.Shapes = None,
    json: arguments.Json = False,
) -> None:
    """Quantize a float model with calibration data.

    Post-training quantization: the result is a QDQ model that `openbpu compile` takes. --auto also searches
    which nodes need more than int8, by your metric, and writes a quant_config of them beside the model.
    """
    pixels, sizes = arguments.pixels(scale, mean, std), arguments.shapes(shape)
    arguments.readable(model)
    outputs.refuse_overwriting(model, output)
    outputs.check_file(output)
    if page is not None:
        outputs.check_page(page, model, output)
    types = quantizing.quant_config(config, int16_nodes, int8_nodes, float_nodes)
    corrections = quantizing.corrections(equalisation, adaptive_rounding, bias_correction)
    job = quantizing.Job(
        model,
        calib,
        output,
        pixels,
        sizes,
        types,
        int16,
        int8_tail,
        method.value,
        corrections,
        asymmetric,
        page,
        hold_out=data is None if hold_out is None else hold_out,
    )
    asked = searching.Asked(
        auto, budget, latency, data, metric, labels, classes, images, preprocess, postprocess, scores, boxes,
        first_class, class_ids, limit, trials, workers, scheduler, threads,
    )  # fmt: skip
    searching.check(asked, job, config)
    found = None
    with progress() as report:
        given, told = quantizing.samples(job)
        if auto:
            found = searching.searched(asked, job, given, march, quantizing.in_steps(report))
            job = searching.as_chosen(job, found)
        made, closed = quantizing.quantized_for(job, march, given, told, report)
    if page is not None and closed is not None:
        quantizing.write_page(page, job, made, closed, found)
    said = [
        *quantizing.sentences(job, made),
        *(searching.told(job, found, march) if found is not None else ()),
    ]
    for sentence in said:
        note(sentence)
    if json:
        searched = {} if found is None else {"search": searching.document(job, found)}
        show_json(quantizing.document(job, made, closed) | searched)
    else:
        _show_quantized(closed, found)
    if found is not None and not found.reached:
        note(f"openbpu: {found.why}")
        raise typer.Exit(1)


def _show_quantized(closed: Closing | None, found: Search | None) -> None:
    if closed is not None:
        from openbpu.report.closing import closing_text

        show(closing_text(closed))
    if found is not None:
        from openbpu.report import search

        plot = search.front_plot(found)
        show(search.search_table(found), *([plot] if plot else []), *search.sentences(found))


@command("compile")
def compile_(  # noqa: PLR0917  # an argument per option
    model: arguments.OnnxFile,
    output: compiling.Output,
    march: arguments.March,
    opt: compiling.Opt = 2,
    balance: compiling.Balance = 100,
    max_l2m_size: compiling.MaxL2mSize = 0,
    core_num: compiling.CoreNum = 1,
    remove_io: compiling.RemoveIo = "",
    fast_perf: compiling.FastPerf = False,
    batch: compiling.Batch = 0,
    shape: arguments.Shapes = None,
    bpu: arguments.BpuOps = None,
    json: arguments.Json = False,
) -> None:
    """Compile a quantized model to a .hbm file.

    The model is QDQ or QOperator ONNX; what is not quantized runs on the CPU.
    """
    sizes, wishes = arguments.shapes(shape), arguments.wishes(bpu)
    removed = arguments.removed(remove_io)
    arguments.readable(model)
    outputs.refuse_overwriting(model, output)
    outputs.check_file(output)
    from openbpu.arch.hbm import write_hbm
    from openbpu.compiler import compile as build

    started = time.perf_counter()
    if fast_perf:
        removed = list(dict.fromkeys([*removed, "quantize", "dequantize", "transpose"]))
    source = compiling.random_quantized(model, sizes) if fast_perf else model
    with own_names(), progress() as report:
        program = build(
            source,
            march=march,
            opt=opt,
            balance=balance,
            max_l2m_size=max_l2m_size,
            core_num=core_num,
            shapes=sizes,
            batch=batch,
            remove_io=tuple(removed),
            bpu_ops=wishes,
            progress=report,
        )
        write_hbm(program, output)
    compiling.report(program, output, time.perf_counter() - started, json=json)
