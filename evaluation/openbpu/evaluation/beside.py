"""ONNX Runtime beside the judge: the model as it runs it, and where it first leaves float64."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError
from openbpu.evaluation.judge import place
from openbpu.evaluation.reference import TensorReport, layerwise
from openbpu.evaluation.reference.float64 import Fallback, prepared
from openbpu.runtime.reference import Feed, Reference

ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear", "QGemm")


@dataclass(frozen=True, slots=True)
class Parting:
    """The first quantized tensor in which ONNX Runtime differs from float64, on its own tensors before it.

    tensor: it and the node that made it, in words · differing, elements: its codes · ties: how many of the
    differing ones lie within 1e-5 of a step of a tie · error: the largest distance of a code from the real
    number, in steps.
    """

    tensor: str
    differing: int
    elements: int
    ties: int
    error: float


def stand_beside(
    model: str | os.PathLike[str] | onnx.ModelProto, threads: int
) -> tuple[Reference | None, str]:
    """Return ONNX Runtime on the model, or why it cannot run it."""
    try:
        return Reference(model, threads=threads), ""
    except ModelError as error:
        return None, str(error)


def parting(model: onnx.ModelProto, feed: Feed, threads: int, fallback: Fallback) -> Parting | None:
    """Return where ONNX Runtime first leaves float64 on this feed; None where nothing shows that it does."""
    shown = _quantized(model, feed, threads)
    if not shown:
        return None

    def see(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        found = shown.get(name)
        return found if found is not None and (found.shape, found.dtype) == (shape, dtype) else None

    return _first(layerwise(model, see, feed, fallback=fallback).reports.values())


def _first(reports: Iterable[TensorReport]) -> Parting | None:
    found = next((r for r in reports if r.mismatches), None)
    if found is None:
        return None
    ties = found.mismatches - found.mismatches_off_tie
    return Parting(place(found), found.mismatches, found.elements, ties, found.max_error)


def _quantized(model: onnx.ModelProto, feed: Feed, threads: int) -> dict[str, Array]:
    """Return every quantized tensor of the main graph as ONNX Runtime computes it; none where it cannot."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(prepared(model))
    taken = {o.name for o in exposed.graph.output}
    made = [n.output[0] for n in exposed.graph.node if n.op_type.startswith(ROUNDING)]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in made if n not in taken)
    try:
        found = Reference(exposed, threads=threads).run(feed)
    except (ModelError, ValueError):  # ValueError: of more than 2 GiB, which protobuf does not write
        return {}
    return {n: found[n] for n in made}
