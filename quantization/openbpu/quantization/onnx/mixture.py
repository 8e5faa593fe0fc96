"""Which method suits which tensor: the error that its readers see when nothing but it is rounded.

    x ──────────────────► Conv ──► y                 the float net
      ├─ Q/DQ by max ───► Conv ──► y'    Σ(y' − y)²  and beside it a copy of the reader per candidate,
      └─ Q/DQ by mse ───► Conv ──► y"    Σ(y" − y)²  so that one run judges all tensors

Of a tensor with several readers the errors add up, each as a share of what the reader makes. What the readers
see is not all that the outputs see, so the outputs have the last word: a mixture starts from the best single
method and takes from the readers' choice, by halves, what brings the outputs closer.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.calibrate import Progress
from openbpu.quantization.onnx.closeness import Closeness
from openbpu.quantization.onnx.engine import net_session, run
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import remake
from openbpu.quantization.onnx.plan import Plan
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.shifts import NO_SHIFTS, Shifts
from openbpu.quantization.ranges import usable_range

Ranges = Mapping[str, float]
"""max|x| by source of the plan"""


TRIALS = 12
"""So many mixtures are tried at most."""


def settle(
    base: Mapping[str, str],
    wanted: Mapping[str, str],
    base_closeness: float,
    closeness: Callable[[Mapping[str, str]], float],
    progress: Progress,
) -> tuple[dict[str, str], float]:
    """Return methods by tensor that start as `base` and take from `wanted` what brings the outputs closer.

    Also their closeness, never below `base_closeness`. All that differs is tried first, then its halves in
    the order of the graph, the larger ones first.
    """
    chosen, best = dict(base), base_closeness
    waiting = deque([[name for name in base if wanted[name] != base[name]]])
    for done in range(TRIALS):
        progress("compare mixtures", done + 1, TRIALS)
        names = waiting.popleft() if waiting else []
        if not names:
            break
        trial = {**chosen, **{name: wanted[name] for name in names}}
        found = closeness(trial)
        if found > best:
            chosen, best = trial, found
        elif len(names) > 1:
            waiting += (names[: len(names) // 2], names[len(names) // 2 :])
    return chosen, best


@dataclass(frozen=True, slots=True)
class _Term:
    """What one reader says of one range of `source`: the names of two scalars, its error and its squares."""

    source: str
    range: float
    error: str
    squares: str


def mix(
    net: Net,
    plan: Plan,
    ranges: Mapping[str, Ranges],
    shifts: Shifts,
    made: Callable[[Mapping[str, str]], ModelProto],
    feeds: Sequence[Feed],
    progress: Progress,
) -> tuple[dict[str, str], dict[str, float]]:
    """Return the method of every source, and the closeness of each single method and of "mix".

    `made` returns the model of methods by source. The mixture's outputs are at least as close to the float
    net's as those of the best single method; where nothing is closer than that one, it is that one.
    """
    judge = Closeness(net, feeds)
    close: dict[str, float] = {}
    for done, method in enumerate(ranges):
        close[method] = judge.of(made(dict.fromkeys(plan.sources, method)))
        progress("compare methods", done + 1, len(ranges))
    best = max(ranges, key=lambda m: close[m])  # of equal ones the first
    wanted = best_methods(net, plan, ranges, feeds, progress, shifts)
    base = dict.fromkeys(plan.sources, best)
    chosen, close["mix"] = settle(base, wanted, close[best], lambda trial: judge.of(made(trial)), progress)
    return chosen, close


def best_methods(
    net: Net,
    plan: Plan,
    ranges: Mapping[str, Ranges],
    feeds: Sequence[Feed],
    progress: Progress,
    shifts: Shifts = NO_SHIFTS,
) -> dict[str, str]:
    """Return by source the method of `ranges` whose error its readers see least; of equal ones the first."""
    judge = _Judge(net, plan, ranges, shifts)
    made = judge.net_of_scalars()
    sums = _sums(made, feeds, progress) if judge.terms else {}
    errors: dict[tuple[str, float], float] = defaultdict(float)
    for term in judge.terms:
        share = sums[term.error] / sums[term.squares] if sums[term.squares] > 0 else 0.0
        errors[term.source, term.range] += share if np.isfinite(share) else 0.0
    return {name: min(ranges, key=lambda m: errors[name, ranges[m][name]]) for name in plan.sources}


def _sums(net: Net, feeds: Sequence[Feed], progress: Progress) -> dict[str, float]:
    """Return the outputs of `net`, scalars, summed over all samples."""
    engine, sums = net_session(net), dict.fromkeys(net.outputs, 0.0)
    for done, feed in enumerate(feeds):
        for name, value in run(engine, feed, net.outputs).items():
            sums[name] += float(value)
        progress("choose methods", done + 1, len(feeds))
    return sums


class _Judge:
    """Builds the float net with a copy of every reader behind every candidate of the tensors it reads."""

    def __init__(self, net: Net, plan: Plan, ranges: Mapping[str, Ranges], shifts: Shifts) -> None:
        self.net, self.plan, self.ranges, self.shifts = net, plan, ranges, shifts
        self.names = Names(net)
        self.nodes: list[NodeProto] = []
        self.consts: dict[str, Array] = {}
        self.squares: dict[str, str] = {}
        self.terms: list[_Term] = []

    def net_of_scalars(self) -> Net:
        """Return it with scalars as its only outputs, and fill `terms`, which say what they are."""
        for index, node in enumerate(self.net.nodes):
            self.nodes.append(node)
            for position, name in enumerate(node.input):
                if name in self.plan.pairs and name not in node.input[:position]:
                    self._judge_reader(index, position)
        for name in self.net.outputs:
            if name in self.plan.pairs:
                for top, rounded in self._candidates(name, self.plan.pairs[name].dtype):
                    self._compare(self.plan.pairs[name].source, top, rounded, name)
        ends = dict.fromkeys(end for term in self.terms for end in (term.error, term.squares))
        header = ModelProto()
        header.CopyFrom(self.net.header)
        del header.graph.output[:]
        header.graph.output.extend(helper.make_tensor_value_info(e, TensorProto.FLOAT, ()) for e in ends)
        return replace(self.net, header=header).with_nodes(self.nodes, self.consts)

    def _judge_reader(self, index: int, position: int) -> None:
        """Judge the candidates of an input by what its node makes of them; movement has nothing to say."""
        node, pairs = self.net.nodes[index], self.plan.pairs
        name, out = node.input[position], node.output[0]
        source = pairs[name].source
        moved = out in pairs and pairs[out].source == source
        if len(node.output) != 1 or not self.net.is_live(out) or moved:
            return
        dtype = self.plan.recast.get((index, position), pairs[name].dtype)
        for top, rounded in self._candidates(name, dtype):
            copy = remake(node, [rounded if read == name else read for read in node.input])
            copy.output[0] = self.names.fresh(f"{out}_copy")
            copy.name = self.names.fresh(f"{node.name}_copy")
            self.nodes.append(copy)
            self._compare(source, top, copy.output[0], out)

    def _candidates(self, name: str, dtype: DType) -> Iterator[tuple[float, str]]:
        """Yield the ranges that methods give tensor `name`, if several, with the tensor rounded so."""
        source = self.plan.pairs[name].source
        tops = dict.fromkeys(found[source] for found in self.ranges.values())
        for top in tops if len(tops) > 1 else ():
            parameters = [self.names.fresh(f"{name}_scale"), self.names.fresh(f"{name}_zero_point")]
            shift = self.shifts.of(source, top, dtype)
            scale = numerics.observed_scale(usable_range(top), dtype) if shift is None else shift.scale
            self.consts[parameters[0]] = scale
            self.consts[parameters[1]] = np.full((), 0 if shift is None else shift.zero, dtype=dtype.numpy)
            codes = self._node("QuantizeLinear", [name, *parameters])
            yield top, self._node("DequantizeLinear", [codes, *parameters])

    def _compare(self, source: str, top: float, made: str, wanted: str) -> None:
        if wanted not in self.squares:
            self.squares[wanted] = self._node("ReduceSumSquare", [wanted], keepdims=0)
        error = self._node("ReduceSumSquare", [self._node("Sub", [made, wanted])], keepdims=0)
        self.terms.append(_Term(source, top, error, self.squares[wanted]))

    def _node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        out = self.names.fresh(f"{inputs[0]}_{op}")
        self.nodes.append(helper.make_node(op, inputs, [out], self.names.fresh(out), **attributes))
        return out
