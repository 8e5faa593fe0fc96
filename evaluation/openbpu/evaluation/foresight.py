"""Where the nodes of a float model will run once it is quantized; no calibration data is needed for that."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.march import March
from openbpu.arch.program import Placement
from openbpu.compiler import check
from openbpu.quantization.onnx import (
    ConfigLike,
    Finding,
    NothingLeftError,
    QuantConfig,
    is_quantized,
    quantize_unseen,
    read_float,
    with_node_types,
)
from openbpu.quantization.onnx.marked import is_marked

Kind = Literal["int8", "int16"]

_ABSORBED = "folded: `openbpu quantize` makes it part of the nodes around it"
_NO_CHOICE = "it is quantized already, so that {} changes nothing; quantize the float model to another type"


@dataclass(frozen=True, slots=True)
class Foresight:
    """A placement.

    quantized_as: "" where it is that of the model as it is · told: one sentence about it · findings: what of
    a `quant_config` changes nothing, or something else than it says.
    """

    placement: tuple[Placement, ...]
    quantized_as: Kind | Literal[""]
    told: str
    findings: tuple[Finding, ...] = ()


def foresee(
    model: str | os.PathLike[str] | ModelProto,
    *,
    march: str | March,
    as_: Kind | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    bpu_ops: Collection[str] = (),
    config: ConfigLike | None = None,
) -> Foresight:
    """Return where every node of the model will run: of a float model, after quantization to `as_` (int8).

    The scales are made up, and nodes keep the user's names. Of a model that is quantized in part, the rest is
    foreseen where that brings nodes onto the BPU; one without such a rest is taken as it is, which is told
    where another type was asked for. Raises what `openbpu.compiler.check` raises; with a `config`, a
    `quant_config` that the types are taken from, what `openbpu.quantization.onnx.quantize` raises, too.
    """
    as_it_is = check(model, march=march, shapes=shapes, bpu_ops=bpu_ops)
    loaded = read_float(model)
    kind, told_of = as_ or "int8", list[Finding]()
    try:
        quantized = quantize_unseen(
            named(loaded, as_it_is),
            activation=DType(kind),
            shapes=shapes,
            config=config if config is not None else left_float(loaded),
            told=told_of.extend if config is not None else None,
        )
        rows = check(quantized, march=march, shapes=shapes, bpu_ops=_kept(bpu_ops, quantized, as_it_is))
    except NothingLeftError:
        return Foresight(as_it_is, "", f"the model as it is: {_NO_CHOICE.format(as_)}" if as_ else "")
    except OpenbpuError as error:
        if config is not None:
            raise
        return Foresight(as_it_is, "", f"the model as it is, since it cannot be quantized: {error}")
    merged = _merged(as_it_is, rows)
    if not is_quantized(loaded):
        told = f"as after `openbpu quantize` to {kind}, which this model still needs"
        return Foresight(merged, kind, told, tuple(told_of))
    if config is None and _on_cpu(merged) >= _on_cpu(as_it_is):
        return Foresight(as_it_is, "", f"the model as it is: {_NO_CHOICE.format(as_)}" if as_ else "")
    told = (
        f"as after `openbpu quantize`, which makes {kind} of what is float in this model and keeps the rest"
    )
    return Foresight(merged, kind, told, tuple(told_of))


def left_float(model: ModelProto) -> QuantConfig:
    """Return the config that leaves float what an earlier `quantize` was asked to leave so."""
    names = [node.name for node in model.graph.node if node.name and is_marked(node)]
    return with_node_types(QuantConfig(), {DType.FLOAT32: names} if names else {})


def _on_cpu(rows: Sequence[Placement]) -> int:
    return sum(row.on == "CPU" for row in rows)


def named(model: ModelProto, rows: Sequence[Placement]) -> ModelProto:
    """Return a copy of the model whose nodes have names of their own: those that its placement shows.

    The compiler numbers nodes without a name as it reads them, which the quantized model no longer has.
    """
    named = ModelProto()
    named.CopyFrom(model)
    taken = {node.name for node in named.graph.node}
    unnamed = [row for row in rows if row.node not in taken]
    for node in named.graph.node:
        if not node.name:
            found = next((row for row in unnamed if row.op == node.op_type), None)
            if found is not None:
                node.name = found.node
                unnamed.remove(found)
    return named


def _kept(wishes: Collection[str], model: ModelProto, rows: Sequence[Placement]) -> list[str]:
    """Return the wishes without nodes that the quantized model no longer has."""
    gone = {row.node for row in rows} - {node.name for node in model.graph.node}
    return [wish for wish in wishes if wish not in gone]


def _merged(before: Sequence[Placement], after: Sequence[Placement]) -> tuple[Placement, ...]:
    """Return the rows after quantization under the user's types, with those of nodes that it absorbs."""
    by_name = {row.node: row for row in before}
    found = {row.node for row in after}
    rows = [replace(row, op=by_name[row.node].op) if row.node in by_name else row for row in after]
    at = 0
    for row in before:
        if row.node in found:
            at = next(n for n, other in enumerate(rows) if other.node == row.node) + 1
            continue
        rows.insert(at, replace(row, on="BPU", segment=-1, layer=-1, reason=_ABSORBED, fix=""))
        at += 1
    return tuple(rows)
