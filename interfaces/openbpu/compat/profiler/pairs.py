"""Two stages of one model side by side, whatever they are: PyTorch models, QDQ models, binaries."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from openbpu.arch.arrays import Array
from openbpu.arch.errors import QuantizationError, must
from openbpu.compat.hbdk.hbm import Hbm
from openbpu.compat.hbdk.module import Module
from openbpu.compiler.reader.origin import origin_of
from openbpu.evaluation.analysis.binary import Binary
from openbpu.evaluation.analysis.cut import Graph
from openbpu.evaluation.analysis.rounding import Rounding, roundings
from openbpu.evaluation.analysis.units import match
from openbpu.quantization.layers import LayerPair, LayerRow, compared
from openbpu.quantization.onnx.samples import feeds_of
from openbpu.runtime import Session

_OTHER = "it computes something else here: make it again from the baseline"
_FOLLOWS = "follows from the layers before it"


class Pair(Protocol):
    """A baseline and the model that is analysed."""

    def rows(self, inputs: Any, prefixes: Sequence[str], types: Sequence[type]) -> list[LayerRow]:
        """Return a row per layer that both have, in the order of the network."""

    def outputs(self, inputs: Any) -> tuple[list[Array], list[Array]]:
        """Return the float outputs of both."""


def pair_of(baseline: Any, model: Any) -> Pair:
    """Return what compares two models; raises QuantizationError for what is no model."""
    for what, given in (("baseline_model", baseline), ("analysis_model", model)):
        if not (_is_torch(given) or _is_graph(given) or _is_binary(given)):
            allowed = "a PyTorch model, what hbdk4.compiler loads, an ONNX model, or a .hbm"
            raise QuantizationError(must("QuantAnalysis", what, allowed, type(given).__name__))
    if _is_torch(baseline) and _is_torch(model):
        return TorchPair(baseline, model)
    if _is_binary(baseline):
        fix = "give the model that it was compiled from as the baseline"
        raise QuantizationError(must("QuantAnalysis", "baseline_model", "a model", "a binary", fix))
    if _is_torch(model):
        fix = "give the PyTorch model as the baseline"
        raise QuantizationError(
            must("QuantAnalysis", "analysis_model", "the later of two stages", "a PyTorch model", fix)
        )
    return GraphPair(baseline, model)


def _is_torch(model: Any) -> bool:
    return hasattr(model, "named_modules") and hasattr(model, "state_dict")


def _is_binary(model: Any) -> bool:
    if isinstance(model, (str, os.PathLike)):
        return Path(model).suffix != ".onnx"
    return isinstance(model, (Hbm, Session))


def _is_graph(model: Any) -> bool:
    if isinstance(model, (str, os.PathLike)):
        return Path(model).suffix == ".onnx"
    return isinstance(model, (Module, onnx.ModelProto))


class TorchPair:
    """Two PyTorch models: float, prepared, calibrated, trained or converted."""

    def __init__(self, baseline: Any, model: Any) -> None:
        self._engine = importlib.import_module("openbpu.quantization.torch.profiler")
        self._given = (baseline, model)
        self._ready: tuple[Any, Any] | None = None

    def ready(self, inputs: Any) -> tuple[Any, Any]:
        """Return both as `Comparable`s; a float model is prepared once, on the first inputs."""
        if self._ready is None:
            a, b = self._given
            comparable = self._engine.comparable
            self._ready = comparable(a, inputs, beside=b), comparable(b, inputs, beside=a)
        return self._ready

    def rows(self, inputs: Any, prefixes: Sequence[str], types: Sequence[type]) -> list[LayerRow]:
        """Return a row per layer that both have, in the order of the forward."""
        found: list[LayerRow] = self._engine.layer_rows(*self.ready(inputs), inputs, prefixes, types)
        return found

    def outputs(self, inputs: Any) -> tuple[list[Array], list[Array]]:
        """Return the float outputs of both."""
        return self.processed(inputs, None)

    def processed(
        self, inputs: Any, post_process: Callable[[Any], Any] | None
    ) -> tuple[list[Array], list[Array]]:
        """Return the float outputs of both behind a function of the user's."""
        made = []
        for one in self.ready(inputs):
            with one.settled() as model:
                found = self._engine.outputs(model, inputs, "QuantAnalysis", post_process)
                made.append([t.numpy() for t in found])
        return made[0], made[1]


class GraphPair:
    """A QDQ model, or the PyTorch model that it is exported from, and a later one: QDQ or a binary."""

    def __init__(self, baseline: Any, model: Any) -> None:
        self._baseline, self._model = baseline, model
        self._base: Graph | None = None
        self._binary: Binary | None = None
        self._other: Graph | None = None

    def _open(self, inputs: Any) -> Graph:
        if self._base is not None:
            return self._base
        baseline = self._baseline
        if _is_torch(baseline):
            baseline = _exported(baseline, inputs)
        self._base = Graph(_proto(baseline), "the baseline")
        if _is_binary(self._model):
            self._binary = Binary(_session(self._model), self._base)
        else:
            self._other = Graph(_proto(self._model), "the analysed model")
        return self._base

    def _feed(self, inputs: Any) -> dict[str, Array]:
        base = self._open(inputs)
        arrays = [np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for v in _flat(inputs)]
        named = inputs if isinstance(inputs, Mapping) else dict(zip(base.fed, arrays, strict=False))
        feed: Mapping[str, Any] = {name: np.asarray(value) for name, value in named.items()}
        return feeds_of([feed], base.inputs)[0]

    def rows(self, inputs: Any, prefixes: Sequence[str], types: Sequence[type]) -> list[LayerRow]:
        """Return a row per quantized tensor, named by the module that makes it."""
        del types  # classes are PyTorch's
        feed = self._feed(inputs)
        made = self._in_binary(feed) if self._binary is not None else self._in_graph(feed)
        rows = [compared(pair) for pair in made]
        first = next((k for k, row in enumerate(rows) if row.abnormal), len(rows))
        rows = [
            replace(row, advice=_OTHER if k == first else _FOLLOWS) if row.abnormal else row
            for k, row in enumerate(rows)
        ]
        return [row for row in rows if not prefixes or row.name.startswith(tuple(prefixes))]

    def outputs(self, inputs: Any) -> tuple[list[Array], list[Array]]:
        """Return the float outputs of both."""
        feed = self._feed(inputs)
        base = self._open(inputs)
        expected = base.cut(base.outputs).run(feed)
        if self._binary is not None:
            found: Mapping[str, Array] = self._binary.run(feed).outputs
        elif self._other is not None:
            found = self._other.cut(self._other.outputs).run(feed)
        return [expected[n] for n in base.outputs], list(found.values())

    def _in_binary(self, feed: dict[str, Array]) -> Iterator[LayerPair]:
        base, binary = self._base, self._binary
        if base is None or binary is None:
            return
        pairs = _in_order(base)
        expected = base.cut([*(p.result for _, _, p in pairs), *base.outputs]).run(feed)
        simulated, names = binary.run(feed), _Numbered()
        for name, op, pair in pairs:
            codes = simulated.codes(pair, expected[pair.result])
            if codes is None:
                continue
            fused = "" if op == "Input" else binary.layer_of(pair)  # the first of what is one operator there
            layer = fused or name
            value = simulated.value(pair, codes)
            yield LayerPair(
                names.of(layer),
                op,
                op,
                pair.dtype.name,
                pair.scale,
                expected[pair.result],
                value,
                same=True,
            )
        for name in base.outputs:
            if name in simulated.outputs:
                found = simulated.outputs[name]
                yield LayerPair(name, "output", "output", "", None, expected[name], found, same=True)

    def _in_graph(self, feed: dict[str, Array]) -> Iterator[LayerPair]:
        base, other = self._base, self._other
        if base is None or other is None:
            return
        kinds, theirs = base.kinds(feed), other.kinds(feed)
        units = [unit for unit in match(base, other, kinds, theirs).units if unit.index >= 0]
        expected = base.cut([unit.tensor for unit in units]).run(feed)
        found = other.cut([unit.raw for unit in units]).run(feed)
        names = _Numbered()
        for unit in units:
            name = names.of((unit.origin.scope if unit.origin else "") or unit.node)
            a, b = expected[unit.tensor], found[unit.raw]
            yield LayerPair(name, unit.op, unit.op, "", None, a, b, same=True)


def _exported(model: Any, inputs: Any) -> onnx.ModelProto:
    args = tuple(inputs) if isinstance(inputs, (list, tuple)) else inputs
    made: onnx.ModelProto = importlib.import_module("openbpu.quantization.torch").export(model, args)
    return made


def _flat(inputs: Any) -> list[Any]:
    if isinstance(inputs, (list, tuple)):
        return [v for part in inputs for v in _flat(part)]
    return [inputs]


def _proto(model: Any) -> Any:
    return model.model if isinstance(model, Module) else model


def _session(model: Any) -> Session:
    if isinstance(model, Session):
        return model
    return Session(model.path if isinstance(model, Hbm) else model)


class _Numbered:
    """Names, with (1), (2), … behind those that come again."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, name: str) -> str:
        count = self._seen.get(name, 0)
        self._seen[name] = count + 1
        return f"{name}({count})" if count else name


def _in_order(graph: Graph) -> list[tuple[str, str, Rounding]]:
    """Return (module or node, operator, pair) of every rounding, in the order of the graph."""
    found = []
    pairs = roundings(graph)
    for source in (*graph.fed, *(n for node in graph.nodes for n in node.output)):
        pair = pairs.get(source)
        if pair is None:
            continue
        k = graph.made.get(source)
        if k is None:
            found.append((source, "Input", pair))
        else:
            node = graph.nodes[k]
            found.append((origin_of(node, node.name).scope or node.name, node.op_type, pair))
    return found
