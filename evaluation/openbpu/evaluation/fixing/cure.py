"""`cure`: apply every mechanical fix that helps, and prove each by running the model before and after."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import ModelProto, version_converter

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.march import March, get_march
from openbpu.arch.program import Placement
from openbpu.arch.protos import opset_of
from openbpu.compiler import check
from openbpu.compiler.ops.mechanical import BROADCAST, MASK, PAIR, PIXELS, WORDS, mechanical
from openbpu.evaluation.fixing.draft import Draft
from openbpu.evaluation.fixing.proof import CODES, FLOAT, Proof, Witness
from openbpu.evaluation.fixing.table import FIXES
from openbpu.evaluation.fixing.times import session_of
from openbpu.evaluation.foresight import Kind, foresee, left_float, named
from openbpu.quantization.onnx import NothingLeftError, is_quantized, quantize, read_float
from openbpu.quantization.onnx.samples import Calibration

_MOVES = frozenset({"QuantizeLinear", "DequantizeLinear"})
_OF_CODES = frozenset(name for name, words in WORDS.items() if words in {MASK, PAIR, PIXELS, BROADCAST})
"""Fixes that put pairs into a model: a float one gets its pairs from `openbpu quantize`."""

_ROUNDS, _SINGLY = 8, 32
_OLDEST = 13
"""An older opset has no scales per channel."""

COMPLETED = 0.1
"""What pairs with scales from data may change: each is half a step of its tensor."""


@dataclass(frozen=True, slots=True)
class Change:
    """A fix that was applied: its words, the nodes it was for, and the proof of it and all before it."""

    words: str
    nodes: tuple[str, ...]
    proof: Proof


@dataclass(frozen=True, slots=True)
class Side:
    """The model before or after: placement, and the estimated time of a run in µs (None: no compile)."""

    placement: tuple[Placement, ...]
    latency_us: float | None

    @property
    def on_cpu(self) -> int:
        """Nodes on the CPU, conversions of codes not counted."""
        return len(_computing(self.placement))


@dataclass(frozen=True, slots=True)
class Cure:
    """What came of it. `proof` is that of the whole model; `left`: nodes on the CPU that no fix is for."""

    model: ModelProto
    changes: tuple[Change, ...]
    before: Side
    after: Side
    proof: Proof
    drawn: bool = True

    @property
    def left(self) -> tuple[Placement, ...]:
        """Nodes on the CPU after it: what their fix would cost, or change, is for the user to decide."""
        return tuple(_computing(self.after.placement))


@dataclass(slots=True)
class _Case:
    """A model that is to be cured for a march, and what has been done."""

    march: March
    kind: Kind
    shapes: Mapping[str, Sequence[int]] | None
    bpu_ops: Collection[str]
    is_float: bool
    witness: Witness
    changes: list[Change] = field(default_factory=list)
    bound: float = 0.0

    def rows(self, model: ModelProto) -> tuple[Placement, ...]:
        """The placement: of a float model as after quantization."""
        wishes = [w for w in self.bpu_ops if onnx.defs.has(w) or any(n.name == w for n in model.graph.node)]
        if self.is_float:
            asked = foresee(model, march=self.march, as_=self.kind, shapes=self.shapes, bpu_ops=wishes)
            return asked.placement
        return check(model, march=self.march, shapes=self.shapes, bpu_ops=wishes)

    def accepted(
        self, old: ModelProto, new: ModelProto, words: str, nodes: Sequence[str], bound: float
    ) -> bool:
        """Whether a changed model has less on the CPU and makes the same; then the change is remembered."""
        try:
            onnx.checker.check_model(new)
            if not _is_less(_burden(self.rows(new)), _burden(self.rows(old))):
                return False
        except (OpenbpuError, onnx.checker.ValidationError):
            return False
        return self.proved(new, words, nodes, bound)

    def proved(self, new: ModelProto, words: str, nodes: Sequence[str], bound: float) -> bool:
        """Whether a changed model makes the same but for its bound; then the change is remembered."""
        proof = self.witness.proof(new, self.bound + bound)
        if proof.holds:
            self.bound = proof.bound
            self.changes.append(Change(words, tuple(nodes), proof))
        return proof.holds


def cure(
    model: str | os.PathLike[str] | ModelProto,
    *,
    march: str | March,
    as_: Kind | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    bpu_ops: Collection[str] = (),
    calibration: Calibration | None = None,
) -> Cure:
    """Return the model with every mechanical fix that takes nodes off the CPU and leaves its outputs.

    A fix is kept where fewer nodes, or cheaper ones, are on the CPU and the outputs agree within its bound,
    on up to 4 samples of `calibration`, else on drawn data. A model that is quantized in part is completed
    first where there is calibration data. Other arguments as in `foresee`. Raises what `foresee` and
    `quantize` do, and ModelError for a model that ONNX Runtime does not run.
    """
    loaded, target = read_float(model), march if isinstance(march, March) else get_march(march)
    is_float = not is_quantized(loaded)
    witness, roundings = Witness(loaded, calibration), FLOAT if is_float else CODES
    case = _Case(target, as_ or "int8", shapes, bpu_ops, is_float, witness, bound=roundings)
    rows = case.rows(loaded)
    before = Side(rows, _latency(case, loaded))
    current = _respelled(case, named(loaded, rows))
    if calibration is not None and not is_float:
        current = _completed(case, current, calibration)
    for _ in range(_ROUNDS):
        changed = _round(case, current)
        if changed is current:
            break
        current = changed
    if not case.changes:
        return Cure(loaded, (), before, before, Proof(0.0, case.bound, 0), drawn=calibration is None)
    after = Side(case.rows(current), _latency(case, current))
    return Cure(
        current, tuple(case.changes), before, after, case.changes[-1].proof, drawn=calibration is None
    )


def _computing(rows: Iterable[Placement]) -> list[Placement]:
    return [row for row in rows if row.on == "CPU" and row.op not in _MOVES]


def _burden(rows: Sequence[Placement]) -> tuple[int, float]:
    """What is on the CPU: nodes, and their estimated time with the hand-over of their segments."""
    handovers = {row.segment: row.cost.handover_us for row in rows if row.on == "CPU"}
    return len(_computing(rows)), sum(handovers.values()) + sum(row.cost.cpu_us for row in rows)


def _is_less(new: tuple[int, float], old: tuple[int, float]) -> bool:
    """Whether a burden is lighter: fewer nodes that take no longer, or as many that take less time."""
    return (new[0] < old[0] and new[1] <= old[1]) or (new[0] == old[0] and new[1] < old[1])


def _respelled(case: _Case, model: ModelProto) -> ModelProto:
    """Return the model at an opset with scales per channel, where that changes no output."""
    opset = opset_of(model, unnamed=1)
    if opset >= _OLDEST:
        return model
    try:
        made = version_converter.convert_version(model, _OLDEST)
    except (RuntimeError, ValueError, version_converter.ConvertError, onnx.checker.ValidationError):
        return model
    return made if case.proved(made, f"opset {opset} → {_OLDEST}", (), 0.0) else model


def _completed(case: _Case, model: ModelProto, calibration: Calibration) -> ModelProto:
    try:
        made = quantize(model, calibration, shapes=case.shapes, config=left_float(model))
    except NothingLeftError:
        return model
    words = "quantize what is float, with scales from the data"
    new = [row.node for row in _computing(case.rows(model))]
    return made if case.accepted(model, made, words, new, COMPLETED) else model


def _round(case: _Case, model: ModelProto) -> ModelProto:
    """Apply every fix once: to all nodes that it is for, or, where that is not accepted, to one by one."""
    for name, nodes in _asked(case, model).items():
        for group in (nodes, *([n] for n in nodes[: _SINGLY if len(nodes) > 1 else 0])):
            made, fixed = _applied(case, model, name, group)
            words, bound = WORDS[name].strip(), FIXES[name].bound
            if made is not None and case.accepted(model, made, words, fixed, bound):
                return made
    return model


def _asked(case: _Case, model: ModelProto) -> dict[str, list[str]]:
    """The fixes that the placement advises, and the nodes they are for."""
    found: dict[str, list[str]] = {}
    for row in _computing(case.rows(model)):
        name = mechanical(row.fix)
        if name and not (case.is_float and name in _OF_CODES):
            found.setdefault(name, []).append(row.node)
    return found


def _applied(
    case: _Case, model: ModelProto, name: str, nodes: Sequence[str]
) -> tuple[ModelProto | None, list[str]]:
    draft, done = Draft(model, case.march), list[str]()
    for one in nodes:
        node = draft.node(one)
        if node is None or (FIXES[name].ops and node.op_type not in FIXES[name].ops):
            continue
        if FIXES[name].rewrite(draft, node):
            done.append(one)
    return (draft.done() if done else None), done


def _latency(case: _Case, model: ModelProto) -> float | None:
    """The estimated time of BPU and CPU in µs, of a float model as after quantization."""
    session = session_of(model, case.march, case.kind, case.shapes, case.bpu_ops)
    return None if session is None else session.latency.bpu_us + session.latency.cpu_us
