"""The yardstick: an ONNX graph evaluated with numpy in float64, every rounding honoured.

Integer tensors stay integer. Nothing here knows openbpu, so an error shared by compiler and
simulator still shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

import openbpu.evaluation.reference.ops  # noqa: F401  importing it registers the kernels
from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Quantized, Result, as_float64
from openbpu.evaluation.reference.singles import Singles

MOVES = frozenset(
    """
    QuantizeLinear com.microsoft.QuantizeLinear Identity Dropout Reshape Flatten Squeeze Unsqueeze
    Transpose Concat Split Slice DepthToSpace SpaceToDepth Gather GatherElements Expand Tile
    """.split()  # noqa: SIM905 - a word per line hides the list
)
"""What takes values in the type the graph has them in."""


@dataclass(slots=True)
class Evaluation:
    """Every tensor of one evaluation, and every rounding with what it was before.

    ``fell_back`` names the operators that something else than a kernel in float64 ran.
    """

    output_names: tuple[str, ...] = ()
    values: dict[str, Array] = field(default_factory=dict)
    roundings: dict[str, Quantized] = field(default_factory=dict)
    fell_back: tuple[str, ...] = ()

    @property
    def near_tie(self) -> dict[str, Array]:
        """For each quantized tensor, where its real value lies within 1e-5 step of a tie."""
        return {name: rounding.near_tie for name, rounding in self.roundings.items()}

    @property
    def outputs(self) -> dict[str, Array]:
        """The graph's outputs."""
        return {name: self.values[name] for name in self.output_names}


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def opset_of(model: onnx.ModelProto | onnx.FunctionProto) -> int:
    """The version of the default domain."""
    return next((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), 1)


Fallback: TypeAlias = Callable[[onnx.NodeProto, Mapping[str, Array], int], tuple[Array, ...]]
"""What runs a node that has no kernel here: the node, what it reads by name, the opset -> its outputs."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called as progress(nodes done, nodes in all)."""

_OWN = ("", "ai.onnx")
_SLOW = frozenset(
    {"CenterCropPad", "Col2Im", "DeformConv", "LpPool", "MaxRoiPool", "MaxUnpool"}
    | {"NonMaxSuppression", "RoiAlign", "StringNormalizer"}
)
"""Loops over elements in onnx.reference: a fallback comes first."""


def _through_reference(call: Call, node: onnx.NodeProto) -> Result:
    """Operators without a kernel of their own run on onnx.reference, in float64 where it can."""
    given = [n for n in node.input if n]
    present = [v for v in call.inputs if v is not None]
    return _floats(_on_reference(node, dict(zip(given, present, strict=True)), call.opset))


def _on_reference(node: onnx.NodeProto, values: Mapping[str, Array], opset: int) -> tuple[Array, ...]:
    """Run one node on onnx.reference; what its bodies capture is an input of the model around it."""
    node, values = _with_condition(node, values)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in values.items()
    ]
    results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    graph = helper.make_graph([node], "one", infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return tuple(ReferenceEvaluator(model).run(None, dict(values)))


def _with_condition(
    node: onnx.NodeProto, values: Mapping[str, Array]
) -> tuple[onnx.NodeProto, Mapping[str, Array]]:
    """Give a Loop without a condition the one that ONNX means, true; onnx.reference takes it for false."""
    if node.op_type != "Loop" or (len(node.input) > 1 and node.input[1]):
        return node, values
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    name = "/".join(("condition", *values))  # nobody's name
    del copy.input[:]
    copy.input.extend([*node.input[:1], name, *node.input[2:]])
    return copy, {**values, name: np.asarray(True)}


def _key(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in _OWN else f"{node.domain}.{node.op_type}"


def run_node(node: onnx.NodeProto, inputs: tuple[Array | None, ...], opset: int) -> Result:
    """One node on these inputs.

    >>> relu = helper.make_node("Relu", ["x"], ["y"])
    >>> run_node(relu, (np.array([-1.0, 2.0]),), 13)
    array([0., 2.])
    """
    key = _key(node)
    attrs = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
    wide = inputs if key in MOVES else tuple(v if v is None else as_float64(v) for v in inputs)
    call = Call(key, attrs, wide, opset, len(node.output))
    if key in KERNELS:
        return KERNELS[key](call)
    if node.domain in _OWN:
        return _through_reference(call, node)
    raise NotImplementedError(f"witness: no kernel for {key} (node {node.name!r})")


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """The initializers."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


_OPSET = "openbpu.opset"
"""The key under which a node from a function says the opset that this has, where it is not the model's."""


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions inlined, their nodes of the opset that each function has."""
    if not model.functions:
        return model
    if all(opset_of(function) == opset_of(model) for function in model.functions):
        return inliner.inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for function in copy.functions:
        for node in function.node:
            node.metadata_props.add(key=_OPSET, value=str(opset_of(function)))
        for used in function.opset_import:  # onnx leaves the calls of others
            used.version = opset_of(model) if used.domain in _OWN else used.version
    return inliner.inline_local_functions(copy)


def _opset_at(node: onnx.NodeProto, opset: int) -> int:
    """The opset of a node: what it says, or that of the model."""
    return next((int(p.value) for p in node.metadata_props if p.key == _OPSET), opset)


def results_of(result: Result) -> tuple[Array | Quantized, ...]:
    """A kernel's result as a tuple, one element per output."""
    return result if isinstance(result, tuple) else (result,)


def reads_of(node: onnx.NodeProto) -> tuple[str, ...]:
    """Everything a node reads: its inputs, and what its bodies capture from around them."""
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return tuple(dict.fromkeys([*(n for n in node.input if n), *(n for g in bodies for n in _captures(g))]))


def _captures(graph: onnx.GraphProto) -> Iterator[str]:
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    own |= {n for node in graph.node for n in node.output}
    read = [n for node in graph.node for n in reads_of(node)] + [o.name for o in graph.output]
    yield from (n for n in read if n not in own)


class Walk:
    """The nodes of a model in order, each run in float64 as far as kernels go.

    ``fallback`` takes what has no kernel: bodies of control flow, other domains, slow loops; ``fell_back``
    names the operators it took. ``spent(k)`` are the tensors that nothing reads after node ``k``.
    """

    def __init__(self, model: onnx.ModelProto, fallback: Fallback | None = None, keep: Iterable[str] = ()):
        self.model = prepared(model)
        self.opset = opset_of(self.model)
        self.nodes = tuple(self.model.graph.node)
        self.fell_back: dict[str, None] = {}
        self._fallback = fallback
        self._singles = Singles(self.nodes)
        kept = {*keep, *(o.name for o in self.model.graph.output)}
        last = {n: k for k, node in enumerate(self.nodes) for n in (*node.output, *self._wanted(node)) if n}
        self._spent: dict[int, list[str]] = {}
        for name, k in last.items():
            if name not in kept:
                self._spent.setdefault(k, []).append(name)

    def _wanted(self, node: onnx.NodeProto) -> tuple[str, ...]:
        return (*reads_of(node), *self._singles.reads(node))

    def spent(self, k: int) -> Collection[str]:
        """What may be forgotten after node ``k``."""
        return self._spent.get(k, ())

    def apply(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> tuple[Array | Quantized, ...]:
        """The outputs of a node. Raises NotImplementedError, naming it, when nobody can run it."""
        key, fallback = _key(node), self._fallback
        has_body = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
        elsewhere = has_body or (key not in KERNELS and (node.domain not in _OWN or key in _SLOW))
        if elsewhere and fallback is not None:
            return self._fall_back(fallback, node, values)
        if has_body:
            return _floats(_on_reference(node, _read(node, values), _opset_at(node, self.opset)))
        try:
            decided = self._singles.applied(node, values, self._run)
            return results_of(self._run(node, values)) if decided is None else (decided,)
        except Exception as error:
            if fallback is None or (key in KERNELS and not isinstance(error, NotImplementedError)):
                raise
            return self._fall_back(fallback, node, values)

    def _run(self, node: onnx.NodeProto, values: Mapping[str, Array]) -> Result:
        inputs = tuple(values[n] if n else None for n in node.input)
        return run_node(node, inputs, _opset_at(node, self.opset))

    def _fall_back(
        self, fallback: Fallback, node: onnx.NodeProto, values: Mapping[str, Array]
    ) -> tuple[Array, ...]:
        self.fell_back[node.op_type] = None
        return _floats(fallback(node, _read(node, values), _opset_at(node, self.opset)))


def _floats(found: Iterable[Any]) -> tuple[Array, ...]:
    return tuple(as_float64(np.asarray(v)) for v in found)


def _read(node: onnx.NodeProto, values: Mapping[str, Array]) -> dict[str, Array]:
    return {n: values[n] for n in reads_of(node)}


def evaluate(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    *,
    keep: Collection[str] | None = None,
    fallback: Fallback | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate the graph; ``inputs`` are by name.

    A float32 input stays float32 as long as it is only moved, so that a QuantizeLinear divides what
    it was given; everything computed is float64.

    With ``keep``, only those tensors and the outputs are kept: the others are forgotten when nothing reads
    them any more. Raises ValueError for a missing input, NotImplementedError for an operator nobody knows.
    """
    walk = Walk(model, fallback, keep or ())
    evaluation = Evaluation(tuple(o.name for o in walk.model.graph.output), constants(walk.model))
    evaluation.values.update({n: np.asarray(v) for n, v in inputs.items()})
    with np.errstate(all="ignore"):
        for k, node in enumerate(walk.nodes):
            _run(walk, node, evaluation)
            for name in walk.spent(k) if keep is not None else ():
                evaluation.values.pop(name, None)
                evaluation.roundings.pop(name, None)
            if progress is not None:
                progress(k + 1, len(walk.nodes))
    evaluation.fell_back = tuple(walk.fell_back)
    return evaluation


def _run(walk: Walk, node: onnx.NodeProto, evaluation: Evaluation) -> None:
    missing = [n for n in reads_of(node) if n not in evaluation.values]
    if missing:
        raise ValueError(f"{node.op_type} {node.name!r}: inputs must be known, not {missing}")
    for name, result in zip(node.output, walk.apply(node, evaluation.values), strict=False):
        if isinstance(result, Quantized):
            evaluation.roundings[name] = result
            evaluation.values[name] = result.values
        elif name:
            evaluation.values[name] = result
