"""From what was observed of a planned net to ranges, by one method or several, and the quantized model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.apply import apply_plan
from openbpu.quantization.onnx.calibrate import Progress, clipped_ranges, histograms, observe
from openbpu.quantization.onnx.choice import Choice
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.judge import JUDGED_SAMPLES
from openbpu.quantization.onnx.limits import Seen, Useful, ranges_of, useful
from openbpu.quantization.onnx.masks import Masks
from openbpu.quantization.onnx.mixture import mix
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan
from openbpu.quantization.onnx.relief import Relief, findings_of, types_of
from openbpu.quantization.onnx.samples import Feed
from openbpu.quantization.onnx.shifts import NO_SHIFTS, shifts_of
from openbpu.quantization.onnx.swallowed import find_swallowed, watched
from openbpu.quantization.onnx.tensor_range import TensorRange


@dataclass(frozen=True, slots=True)
class Ground:
    """A float net with its plan, and what the samples `feeds` showed of it."""

    net: Net
    plan: Plan
    feeds: Sequence[Feed]
    masks: Masks
    relief: Relief
    observed: Seen

    @property
    def within(self) -> Useful:
        """How far values matter that lead into a Softmax."""
        return useful(self.net, self.masks, types_of(self.plan), self.observed)

    def of(self, net: Net, report: Progress) -> Ground:
        """Return the ground of a net with the same nodes and other constants: observed again."""
        if net is self.net:
            return self
        names = [*self.plan.sources, *watched(net, self.plan)]
        return replace(self, net=net, observed=observe(net, names, self.masks, self.feeds, report))


def quantized(
    ground: Ground,
    methods: tuple[str, ...],
    weight: DType,
    findings: tuple[Finding, ...],
    report: Progress,
    *,
    asymmetric: bool | None = False,
) -> tuple[ModelProto, Choice]:
    """Return the net of `ground` quantized, with ranges by one method or by several mixed."""
    net, plan, masks, observed = ground.net, ground.plan, ground.masks, ground.observed
    dtypes = types_of(plan)
    within = ground.within
    tops, least = ranges_of(within, observed, masks, dtypes)
    shifts = NO_SHIFTS
    if asymmetric is not False:
        shifts = shifts_of(net, plan, masks, observed.extents, inputs=bool(asymmetric))
    lost = find_swallowed(net, plan, tops, observed.extents, masks, within, shifts)
    seen = {} if methods == ("max",) else histograms(net, tops, ground.feeds, report, within.limits)
    ranges = {m: clipped_ranges(m, tops, seen, dtypes, least, shifts) for m in methods}

    def made(by_tensor: Mapping[str, str]) -> ModelProto:
        chosen = {name: ranges[m][name] for name, m in by_tensor.items()}
        return apply_plan(net, plan, chosen, weight, within.limits, shifts)

    by_tensor: Mapping[str, str] = dict.fromkeys(plan.sources, methods[0])
    close: Mapping[str, float] = {}
    if len(methods) > 1:
        by_tensor, close = mix(net, plan, ranges, shifts, made, ground.feeds[:JUDGED_SAMPLES], report)

    def chosen(name: str, method: str) -> TensorRange:
        top, dtype = ranges[method][name], dtypes[name]
        shift = shifts.of(name, top, dtype)
        return TensorRange(top, tops[name], dtype, method, 0 if shift is None else shift.zero)

    used = set(by_tensor.values()) or {methods[0]}
    name = used.pop() if len(used) == 1 else "mix"
    return made(by_tensor), Choice(
        name,
        {n: chosen(n, m) for n, m in by_tensor.items()},
        close,
        findings + findings_of(net, ground.plan, lost, ground.relief),
    )
