"""Options of `openbpu quantize` beside the usual ones, what is done with them, what is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli import arguments
from openbpu.cli.screen import Report
from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from openbpu.arch.given_shapes import Shapes
    from openbpu.evaluation.closing import Closing
    from openbpu.evaluation.search import Search
    from openbpu.quantization.onnx import Choice, Corrections, Finding, Method, QuantConfig, TensorRange
    from openbpu.quantization.samples import Pixels

CLOSING_MARCH = "nash-e"

_SHOWN = 5
"""Findings of a kind that are printed; `--json` has all."""

Config = Annotated[
    Path | None,
    typer.Option(
        "--quant-config",
        metavar="FILE",
        help="Types of operators, nodes, inputs and subgraphs: a quant_config in JSON or YAML.",
    ),
]


def _nodes(option: str, told: str) -> object:
    return typer.Option(
        option, metavar="A,B", help=f"Nodes {told}, by name or pattern (head.*); may be repeated."
    )


Int16Nodes = Annotated[list[str] | None, _nodes("--int16-nodes", "that read int16")]
Int8Nodes = Annotated[list[str] | None, _nodes("--int8-nodes", "that read int8, as with --int16")]
FloatNodes = Annotated[list[str] | None, _nodes("--float-nodes", "that stay float, on the CPU")]
Asymmetric = Annotated[
    bool | None,
    typer.Option(
        "--asymmetric/--symmetric",
        show_default="a zero point, but for inputs, or as --quant-config says",
        help="Zero points for int8 tensors whose values lie to one side of 0 (free): inputs too, or none.",
    ),
]
HoldOut = Annotated[
    bool | None,
    typer.Option(
        "--hold-out/--no-hold-out",
        show_default="held out, but with --auto --data",
        help="Keep every tenth sample from calibration, and say by these how close the result is.",
    ),
]
Equalisation = Annotated[
    bool,
    typer.Option("--equalisation", help="Scale channels between layers so that one scale suits them all."),
]
AdaptiveRounding = Annotated[
    bool,
    typer.Option("--adaptive-rounding", help="Round weights so that products are closest; takes longer."),
]
BiasCorrection = Annotated[
    bool | None,
    typer.Option(
        "--bias-correction/--no-bias-correction",
        show_default="from 4 samples on",
        help="Take off biases what rounding shifts the means by.",
    ),
]


ClosingMarch = Annotated[
    str,
    typer.Option(
        "--march",
        callback=arguments.march,
        autocompletion=arguments.march_names_beginning,
        help="The report says where nodes run on it; what stays on its CPU is left float.",
    ),
]


@dataclass(frozen=True, slots=True)
class Job:
    """All that `openbpu quantize` is asked to do. int16: of activations; int8_tail: of the tail.

    hold_out: whether samples are kept from calibration, to be judged by.
    """

    model: Path
    calib: Path
    output: Path
    pixels: Pixels
    shapes: Shapes | None
    types: QuantConfig
    int16: bool
    int8_tail: bool
    method: Method
    corrections: Corrections
    asymmetric: bool | None
    page: Path | None = None
    hold_out: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """data: the calibration samples · told: sentences about them · floats: nodes left float for the march."""

    model: onnx.ModelProto
    data: dict[str, npt.NDArray[Any]]
    choice: Choice
    told: tuple[str, ...]
    floats: tuple[str, ...] = ()


def quant_config(
    file: Path | None,
    int16: Sequence[str] | None,
    int8: Sequence[str] | None,
    float_: Sequence[str] | None,
) -> QuantConfig:
    """Return the types of all these options; those of nodes win over the file's."""
    from openbpu.arch.dtypes import DType
    from openbpu.quantization.onnx import read_config, with_node_types

    wanted = {
        DType.INT16: _names(int16, "--int16-nodes"),
        DType.INT8: _names(int8, "--int8-nodes"),
        DType.FLOAT32: _names(float_, "--float-nodes"),
    }
    return with_node_types(read_config(file), wanted)


def _names(given: Sequence[str] | None, option: str) -> list[str]:
    """Split at commas; a usage error for one that names nothing."""
    found = [part.strip() for text in given or () for part in text.split(",")]
    if not all(found):
        raise WrongValue("names of nodes", ",".join(given or ()), "`openbpu check` lists them", option=option)
    return found


def corrections(equalisation: bool, adaptive_rounding: bool, bias_correction: bool | None) -> Corrections:
    """Return the corrections that are tried."""
    from openbpu.quantization.onnx import Corrections

    return Corrections(equalisation, adaptive_rounding, bias_correction)


def samples(job: Job) -> tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    """Return the calibration data and what is told about it; raises what reading it raises."""
    from openbpu.compiler.reader import check_readable
    from openbpu.quantization.onnx import load_calibration

    check_readable(job.model, job.shapes)
    told: list[str] = []
    data = load_calibration(
        job.calib,
        job.model,
        scale=job.pixels.scale,
        mean=job.pixels.mean,
        std=job.pixels.std,
        shapes=job.shapes,
        told=told.append,
    )
    return data, tuple(told)


def quantized(
    job: Job, data: dict[str, npt.NDArray[Any]], told: tuple[str, ...], report: Report | None
) -> Made:
    """Quantize with this data and write the model; raises what this raises."""
    from openbpu.arch.dtypes import DType
    from openbpu.quantization.onnx import quantize

    chosen: list[Choice] = []
    model = quantize(
        job.model,
        data,
        job.output,
        activation=DType.INT16 if job.int16 else DType.INT8,
        tail=DType.INT8 if job.int8_tail else DType.INT16,
        method=job.method,
        config=job.types,
        corrections=job.corrections,
        asymmetric=job.asymmetric,
        shapes=job.shapes,
        judge=True,
        hold_out=job.hold_out,
        progress=in_steps(report),
        told=chosen.append,
    )
    return Made(model, data, chosen[0], told)


def quantized_for(
    job: Job,
    march: str,
    data: dict[str, npt.NDArray[Any]],
    told: tuple[str, ...],
    report: Report | None,
) -> tuple[Made, Closing | None]:
    """Return the quantized model with its closing report; what stays on the CPU of `march` is left float."""
    from openbpu.evaluation.for_march import quantized_for as for_march

    def make(types: QuantConfig) -> tuple[onnx.ModelProto, Choice]:
        made = quantized(replace(job, types=types), data, told, report)
        return made.model, made.choice

    found = for_march(make, job.model, job.types, march, shapes=job.shapes)
    return Made(found.model, data, found.choice, told, found.floats), found.closing


def sentences(job: Job, made: Made) -> Iterator[str]:
    """Yield what is told about the data, the choice and the files."""
    from openbpu.quantization.save import data_files

    yield from made.told
    if made.floats:
        yield f"{_listed(made.floats)} on the CPU of this march, so without pairs around"
    if made.choice.cosines:
        yield _mixed(made.choice)
    yield from _first(made.choice.findings)
    yield from (correction.sentence for correction in made.choice.corrections)
    pages = () if job.page is None else (job.page,)
    yield f"wrote {' and '.join(map(str, (job.output, *data_files(job.output), *pages)))}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'stays' if len(names) == 1 else 'stay'}"


def _first(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the texts of the first findings of every kind, and how many more there are."""
    for kind in dict.fromkeys(found.kind for found in findings):
        texts = [found.text for found in findings if found.kind == kind]
        yield from texts[:_SHOWN]
        if len(texts) > _SHOWN:
            yield f"{len(texts) - _SHOWN} more findings of the kind '{kind}': `--json` lists them"


def write_page(page: Path, job: Job, made: Made, found: Closing, search: Search | None) -> None:
    """Write the closing report as a page, with the search that came before, if there was one."""
    from openbpu.arch.files import write_text
    from openbpu.cli.about import about
    from openbpu.report.page import closing_page

    choice = made.choice
    notes = [_mixed(choice)] if choice.cosines else [f"ranges by {job.method}"]
    notes += [correction.sentence for correction in choice.corrections]
    told = about({"float": job.model, "quantized": job.output}, march=found.march)
    write_text(page, closing_page(found, job.model.stem, notes, told, search))


def document(job: Job, made: Made, found: Closing | None) -> dict[str, Any]:
    """Return what `--json` prints."""
    from openbpu.quantization.save import data_files
    from openbpu.report.closing import closing_json

    choice = made.choice
    return {
        "model": str(job.model),
        "output": str(job.output),
        "bytes": job.output.stat().st_size,
        "data": [str(path) for path in data_files(job.output)],
        "calibration": {"path": str(job.calib), "shapes": {k: _sizes(x) for k, x in made.data.items()}},
        "activation": "int16" if job.int16 else "int8",
        "tail": "int8" if job.int8_tail else "int16",
        "method": job.method,
        "chosen": {"method": choice.method, "cosines": dict(choice.cosines)},
        "ranges": {name: _range(found) for name, found in choice.ranges.items()},
        "findings": [
            {"kind": f.kind, "tensor": f.tensor, "node": f.node, "text": f.text} for f in choice.findings
        ],
        "corrections": [asdict(c) for c in choice.corrections],
        "report": None if found is None else closing_json(found),
        "notes": list(sentences(job, made))[:-1],
    }


def _range(found: TensorRange) -> dict[str, Any]:
    told = {"range": found.range, "largest": found.largest, "type": found.dtype.value, "method": found.method}
    return told | ({"zero_point": found.zero_point} if found.zero_point else {})


def _sizes(samples: npt.NDArray[Any]) -> list[Any]:
    """Return the shape of stacked samples, or that of every one where they have several."""
    return [list(x.shape) for x in samples] if samples.dtype == object else list(samples.shape)


def _mixed(choice: Choice) -> str:
    others = ", ".join(f"{m} {c:.6f}" for m, c in choice.cosines.items() if m != "mix")
    best = choice.cosines["mix"]
    each = ", ".join(f"{count} by {method}" for method, count in choice.counts.items())
    how = (
        f"of each tensor by what suits it ({each})"
        if choice.method == "mix"
        else f"of all tensors by {choice.method}"
    )
    return f"ranges {how}: mean cosine of the outputs {best:.6f} ({others})"


def in_steps(report: Report | None) -> Callable[[str, int, int], None] | None:
    """Return what takes steps done and steps in all, for what takes the share done."""
    if report is None:
        return None
    return lambda stage, done, total: report(stage, done / max(total, 1))
