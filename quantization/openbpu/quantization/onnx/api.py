"""Post-training quantization: float ONNX in, QDQ ONNX out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError, must
from openbpu.arch.given_shapes import Shapes
from openbpu.arch.onnx_ops import PRODUCTS
from openbpu.quantization.onnx import ranged
from openbpu.quantization.onnx.apply import apply_plan
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.axes import at_shapes, common_shapes, largest_shapes
from openbpu.quantization.onnx.balance import Balance, balanced
from openbpu.quantization.onnx.calibrate import (
    Progress,
    observe,
    random_ranges,
)
from openbpu.quantization.onnx.choice import Choice
from openbpu.quantization.onnx.clock import Clock
from openbpu.quantization.onnx.config import (
    ConfigLike,
    Wanted,
    base_types,
    corrections_of,
    methods_of,
    read_config,
)
from openbpu.quantization.onnx.contrib import contrib_findings
from openbpu.quantization.onnx.corrected import corrected
from openbpu.quantization.onnx.corrections import Corrections
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.given import read_given_pairs
from openbpu.quantization.onnx.judging import judged, timed
from openbpu.quantization.onnx.limits import nominal
from openbpu.quantization.onnx.load import ModelLike, lies_in_files, load, nothing_left, valid
from openbpu.quantization.onnx.marked import marked_findings
from openbpu.quantization.onnx.masks import find_masks, finite_feeds
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.opset import OPSET_INT16, OPSET_PER_CHANNEL
from openbpu.quantization.onnx.plan import NOTHING_ASKED, Plan, make_plan
from openbpu.quantization.onnx.prepare import prepare, read
from openbpu.quantization.onnx.ranged import Ground
from openbpu.quantization.onnx.relief import Relief, balance_of, settle
from openbpu.quantization.onnx.report import hold_out as held_out
from openbpu.quantization.onnx.samples import Calibration, Feed, feeds_of
from openbpu.quantization.onnx.static import dynamic_findings
from openbpu.quantization.onnx.swallowed import watched
from openbpu.quantization.save import write_model

Method = Literal["max", "percentile", "mse", "kl", "mix"]
METHODS: tuple[Method, ...] = get_args(Method)

USUAL_CORRECTIONS = Corrections()


def quantize(  # noqa: PLR0913  # an argument per choice
    model: ModelLike,
    calibration: Calibration,
    out: str | os.PathLike[str] | None = None,
    *,
    activation: DType = DType.INT8,
    weight: DType = DType.INT8,
    tail: DType = DType.INT16,
    method: Method = "max",
    config: ConfigLike | None = None,
    shapes: Shapes | None = None,
    corrections: Corrections = USUAL_CORRECTIONS,
    asymmetric: bool | None = None,
    judge: bool = False,
    hold_out: bool = True,
    progress: Progress | None = None,
    told: Callable[[Choice], None] | None = None,
) -> ModelProto:
    """Return the float `model` quantized for the BPU as a QDQ model, and write it to `out` if given.

    `calibration` maps every input to an array with samples on its first axis, or is an iterable of one feed
    per sample. `shapes` fixes free axes of inputs, by name: what depends on nothing else becomes constant.
    Axes that stay free take samples of any size, and stay free in the result. Activations are int8 or
    int16, one scale per tensor; int8 ones whose values lie to one side of 0 have a zero point, which costs
    no time (`asymmetric` True: inputs too, False: none; None: as `config` says, else all but inputs).
    Weights are int8 or int16, symmetric, one scale per output channel; not both are int16. Biases become
    int32 in steps of the accumulator, and stay
    float where they do not fit. `tail` is the type of the activations behind the last product on the way to
    an output: what is computed there is the result, and a step of int8 would be its error. `config` is a
    `quant_config` (a JSON or YAML file, or a mapping): types of operators, nodes, inputs and subgraphs, float
    among them. `corrections` are tried in turn; each is kept where samples that it was made without agree;
    that of biases is tried from 4 samples on where nothing is said of it. Same input, same bytes.
    Weights in other files are read where they lie; then, and where the
    result would take 2 GiB, its own go to a file beside `out` (see `write_model`). `progress` is called as
    progress(stage, done, total), `told` once with the method and the ranges that were chosen. `judge` says
    in `Choice.report` how close the result is, by every tenth of 10 samples or more, which it holds out of
    calibration; without `hold_out` by those that calibrate.

    Raises ModelError (no float32 ONNX model, or it does not run), QuantizationError (nothing to quantize,
    NaN or infinite values, illegal types), InputError (calibration data or a config that does not fit).
    """
    _check_types(activation, weight, tail, method)
    asked = read_config(config)
    activation, tail = base_types(asked, activation, tail)
    _check_types(activation, weight, tail, method)
    methods = methods_of(asked, method, METHODS)
    corrections = corrections_of(asked, corrections)
    report = Clock(progress or (lambda _stage, _done, _total: None))
    with valid(model):
        loaded = load(model)
        wanted = Wanted(asked, loaded.nodes, read(loaded, shapes))
        every = activation, weight, tail
        quantized, choice = _quantized(
            wanted,
            calibration,
            every,
            methods,
            corrections,
            report,
            asymmetric=asked.asymmetric if asymmetric is None else asymmetric,
            judge=judge,
            hold_out=hold_out,
        )
    if out is not None:
        write_model(quantized, out, outside=lies_in_files(model))
        report("write", 1, 1)
    if told is not None:
        told(timed(choice, report.seconds))
    return quantized


def _quantized(  # noqa: PLR0913  # an argument per choice of `quantize`
    wanted: Wanted,
    calibration: Calibration,
    types: tuple[DType, DType, DType],
    methods: tuple[str, ...],
    corrections: Corrections,
    report: Progress,
    *,
    asymmetric: bool | None,
    judge: bool,
    hold_out: bool,
) -> tuple[ModelProto, Choice]:
    weight, given = types[1], wanted.model
    feeds = feeds_of(calibration, given.header.graph.input, find_masks(given).reach)
    feeds, held = held_out(feeds) if judge and hold_out else (feeds, [])
    ground = _grounded(wanted, feeds, types, report)
    left = [ground.net.nodes[index] for index in ground.plan.floats]
    findings = (
        *dynamic_findings(given),
        *contrib_findings(given),
        *marked_findings(given.nodes, left),
        *wanted.findings(ground.net, ground.plan),
    )

    def calibrated(net: Net) -> tuple[ModelProto, Choice]:
        seen = ground.of(net, report)
        return ranged.quantized(seen, methods, weight, findings, report, asymmetric=asymmetric)

    few = ground.feeds[: wanted.config.model.samples]
    net, quantized, choice = corrected(ground.net, calibrated, corrections, few, report)
    report("insert pairs", 1, 1)
    if judge:
        seen = ground.of(net, report)
        data = seen.feeds, finite_feeds(held, seen.masks)
        choice = judged(given, net, quantized, choice, data, seen.within.limits, report)
    return quantized, choice


def _grounded(
    wanted: Wanted, feeds: list[Feed], types: tuple[DType, DType, DType], report: Progress
) -> Ground:
    """Return the net with the plan that spares or widens what would swallow a tensor, and what was seen.

    A Concat that would swallow an operand is balanced first, where it can be; the net is observed again then.
    Tensors may be int16 where the user takes int16 for activations; a net that has none yet is then prepared
    and observed again, at the opset of int16.
    """
    activation, weight, tail = types
    int16 = weight is DType.INT8 and DType.INT16 in {activation, tail}
    opset, balance = 0, Balance()
    while True:
        net, plan = _planned(
            wanted.model, activation, weight, tail, common_shapes(feeds), opset, wanted, balance
        )
        asked = wanted.types(net)
        report("prepare", 1, 1)
        planned, net = at_shapes(net, common_shapes(feeds)), at_shapes(net, largest_shapes(feeds))
        masks = find_masks(net)
        feeds = finite_feeds(feeds, masks)
        observed = observe(net, [*plan.sources, *watched(net, plan)], masks, feeds, report)

        if balance.is_empty:
            balance = balance_of(net, plan, masks, observed)
            if not balance.is_empty:
                continue

        def again(relief: Relief, planned: Net = planned, asked: Types = asked) -> Plan:
            return make_plan(planned, activation, tail, relief.spared, relief.widened, asked)

        plan, relief = settle(net, plan, masks, observed, again, int16=int16, asked=asked)
        if not relief.widened or net.opset >= OPSET_INT16:
            relief = replace(relief, findings=(*balance.findings, *relief.findings))
            return Ground(net, plan, feeds, masks, relief, observed)
        opset = OPSET_INT16


def quantize_random(
    model: ModelLike,
    out: str | os.PathLike[str] | None = None,
    *,
    activation: DType = DType.INT8,
    weight: DType = DType.INT8,
    config: ConfigLike | None = None,
    shapes: Shapes | None = None,
) -> ModelProto:
    """Return `model` quantized with ranges from one run on random data: right for latency, not for accuracy.

    Needs no data and costs about one unoptimized run. The tail has the type of all activations; `config` is
    as in `quantize`, for the types it names. A tensor that
    random data drives to infinity gets range 1, and so does every tensor of a model that does not run on
    random data. An axis that `shapes` leaves free has length 1 there. Raises as `quantize` does.
    """
    asked = read_config(config)
    activation, _ = base_types(asked, activation, activation)
    _check_types(activation, weight, activation, "max")
    with valid(model):
        loaded = load(model)
        wanted = Wanted(asked, loaded.nodes, read(loaded, shapes))
        net, plan = _planned(wanted.model, activation, weight, tail=activation, wanted=wanted)
        quantized = apply_plan(net, plan, random_ranges(net, plan.sources), weight, nominal(net))
    if out is not None:
        write_model(quantized, out, outside=lies_in_files(model))
    return quantized


def quantize_unseen(
    model: ModelLike,
    *,
    activation: DType = DType.INT8,
    tail: DType = DType.INT16,
    shapes: Shapes | None = None,
    config: ConfigLike | None = None,
    told: Callable[[tuple[Finding, ...]], None] | None = None,
) -> ModelProto:
    """Return `model` quantized as `quantize` does, with ranges of 1 everywhere: right for placement only.

    Needs no data and runs nothing. `told` hears what of `config` changes nothing, or something else than it
    says. Raises as `quantize` does.
    """
    asked = read_config(config)
    activation, tail = base_types(asked, activation, tail)
    _check_types(activation, DType.INT8, tail, "max")
    with valid(model):
        loaded = load(model)
        wanted = Wanted(asked, loaded.nodes, read(loaded, shapes))
        net, plan = _planned(wanted.model, activation, DType.INT8, tail, wanted=wanted)
        if told is not None:
            told(wanted.findings(net, plan))
        return apply_plan(net, plan, dict.fromkeys(plan.sources, 1.0), DType.INT8, nominal(net))


def _check_types(activation: DType, weight: DType, tail: DType, method: str) -> None:
    allowed = (DType.INT8, DType.INT16)
    for what, dtype in (("activation", activation), ("weight", weight), ("tail", tail)):
        if dtype not in allowed:
            raise QuantizationError(must("quantize", what, "int8 or int16", dtype.value))
    if activation is weight is DType.INT16:
        fix = "keep the weights int8"
        raise QuantizationError(
            must("quantize", "activation and weight", "not both int16", "int16 × int16", fix)
        )
    if method not in METHODS:
        raise QuantizationError(must("quantize", "method", ", ".join(METHODS), f"'{method}'"))


def _planned(
    given: Net,
    activation: DType,
    weight: DType,
    tail: DType,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    least: int = 0,
    wanted: Wanted | None = None,
    balance: Balance | None = None,
) -> tuple[Net, Plan]:
    """Return the net to quantize, at opset `least` or newer, and its plan for these `shapes` of inputs."""

    def attempt(opset: int) -> tuple[Net, Plan]:
        net = balanced(prepare(given, opset), balance or Balance())
        types = wanted.types(net) if wanted else NOTHING_ASKED
        return net, make_plan(at_shapes(net, shapes) if shapes else net, activation, tail, types=types)

    wide = DType.INT16 in {activation, weight}
    behind = tail is DType.INT16 and any(
        node.op_type in PRODUCTS for node in given.nodes
    )  # so there is a tail
    net, plan = attempt(max(least, OPSET_INT16 if wide or behind else OPSET_PER_CHANNEL))
    if behind and not (wide or plan.has_int16) and given.opset < OPSET_INT16:
        net, plan = attempt(max(least, OPSET_PER_CHANNEL))
    if plan.has_int16 and net.opset < OPSET_INT16:
        net, plan = attempt(OPSET_INT16)
    if plan.is_empty and wanted is not None:
        wanted.refuse_all_float()
    if plan.is_empty and read_given_pairs(given) is given:
        refusal = nothing_left(net)
        if refusal is not None:
            raise refusal
        found = ", ".join(sorted({node.op_type for node in net.nodes})) or "no operators"
        what = "operators that the BPU runs on float32 tensors"
        raise QuantizationError(
            must(f"model '{net.header.graph.name}'", "the model", f"made of {what}", found)
        )
    return net, plan
