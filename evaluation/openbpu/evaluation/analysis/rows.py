"""From what was added up to the rows of an analysis, and the first that goes wrong."""

from __future__ import annotations

from collections.abc import Sequence

from openbpu.evaluation.analysis.advice import Around, cause_of, remedies
from openbpu.evaluation.analysis.around import Surroundings
from openbpu.evaluation.analysis.compared import Compared
from openbpu.evaluation.analysis.result import KEYS, Analysis, First, NodeError
from openbpu.evaluation.analysis.units import Match, Unit
from openbpu.evaluation.analysis.watch import Watch
from openbpu.evaluation.analysis.weights import Weights, ranges
from openbpu.quantization.onnx.samples import Feed


class Rows:
    """Makes an analysis of watches. whole: whether the models were looked at to their ends."""

    def __init__(
        self, of: Compared, found: Match, weights: Weights, min_cosine: float, *, whole: bool
    ) -> None:
        self._of, self._found, self._weights = of, found, weights
        self._min_cosine, self._whole = min_cosine, whole

    def analysis(self, watches: Sequence[Watch], feeds: Sequence[Feed], given: int) -> Analysis:
        """Return what the watches say."""
        tops = {w.unit.tensor: max(-w.least, w.largest) for w in watches}
        around = Surroundings(self._of, self._found, self._weights, tops)
        rows = tuple(self._row(watch, around.of(watch, feeds)) for watch in watches)
        ends = {self._found.aliases.get(name) for name in self._of.quantized.outputs}
        return Analysis(
            float_model=self._of.float.where,
            quantized=self._of.quantized.where,
            hbm=self._of.hbm,
            samples=len(feeds),
            given=given,
            min_cosine=self._min_cosine,
            rows=rows,
            outputs=tuple(row for row in rows if row.tensor in ends),
            weights=tuple(ranges(self._weights.ranges)),
            first=self._first(rows, watches),
            unmatched=self._unmatched() if self._whole else (),
            notes=tuple(self._notes(watches)),
        )

    def _row(self, watch: Watch, around: Around) -> NodeError:
        unit, codes = watch.unit, watch.codes
        pair = unit.rounding
        step = pair.step if pair is not None else None
        limits = codes.pair.limits if codes is not None else None
        cause, part = cause_of(watch, weighted=around.weights is not None)
        return NodeError(
            index=unit.index,
            node=unit.node,
            op=unit.op,
            tensor=unit.tensor,
            through=self._through(unit),
            module=unit.origin.scope if unit.origin else "",
            source=unit.origin.source if unit.origin else "",
            so_far=watch.so_far.closeness(),
            alone=watch.alone.closeness(),
            simulated=watch.simulation(),
            deviating=watch.deviating / watch.compared if watch.compared else None,
            dtype=pair.dtype.name if pair is not None else "",
            step=step,
            range=(limits[0] * step, limits[1] * step) if limits and step else None,
            least=watch.least,
            largest=watch.largest,
            clipped=codes.clipped / codes.values if codes is not None and codes.values else None,
            used=float(codes.seen.mean()) if codes is not None else None,
            vanished=codes.vanished / codes.nonzero if codes is not None and codes.nonzero else None,
            unevenness=watch.unevenness,
            cause=cause,
            part=part,
            remedies=remedies(watch, around),
            values=watch.values.counts() if watch.values else None,
            rounded=watch.rounded.counts() if watch.rounded else None,
        )

    def _through(self, unit: Unit) -> tuple[str, ...]:
        nodes = (self._of.quantized.nodes[i] for i in unit.nodes if i != unit.index)
        kept = (n for n in nodes if not n.op_type.endswith("quantizeLinear") and "Quantize" not in n.op_type)
        return tuple(n.name or n.output[0] for n in kept if n.op_type != "Constant")

    def _first(self, rows: Sequence[NodeError], watches: Sequence[Watch]) -> First | None:
        at = next((k for k, row in enumerate(rows) if row.so_far.cosine < self._min_cosine), None)
        if at is None:
            return None
        before = set(self._of.quantized.needed([watches[at].unit.value]))
        on_the_way = [
            row
            for row, watch in zip(rows, watches, strict=True)
            if row is rows[at] or set(watch.unit.nodes) <= before
        ]
        return First(rows[at], min(on_the_way, key=KEYS["alone"]))

    def _unmatched(self) -> tuple[str, ...]:
        """Return the nodes of the quantized model that belong to no unit."""
        known = {i for unit in self._found.units for i in unit.nodes}
        return tuple(
            node.name or node.output[0]
            for i, node in enumerate(self._of.quantized.nodes)
            if i not in known and "quantizeLinear" not in node.op_type.replace("Q", "q")
            and node.op_type != "Constant"
        )  # fmt: skip

    def _notes(self, watches: Sequence[Watch]) -> list[str]:
        notes = []
        if not any(unit.rounding for unit in self._found.units):
            notes.append("the quantized model rounds nothing: is the order right, first the float model?")
        if any(node.op_type.startswith("QLinear") for node in self._of.quantized.nodes):
            notes.append(
                "operators that compute with codes (QLinearConv, …) show no float tensor: quantize to "
                "Quantize/Dequantize pairs to see them one by one"
            )
        if self._of.binary is not None and not any(watch.shown for watch in watches):
            notes.append("the binary shows no quantized tensor of the model under its name")
        return notes
