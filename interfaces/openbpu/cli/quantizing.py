"""Options of `openbpu quantize` beside the usual ones, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    from openbpu.quantization.onnx import QuantConfig

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
AdaptiveRounding = Annotated[
    bool,
    typer.Option("--adaptive-rounding", help="Round weights so that products are closest; takes longer."),
]
BiasCorrection = Annotated[
    bool, typer.Option("--bias-correction", help="Take off biases what rounding shifts the means by.")
]


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
