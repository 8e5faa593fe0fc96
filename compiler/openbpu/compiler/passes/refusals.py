"""Why nodes stay on the CPU, and what would bring them onto the BPU: remembered by original node name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from openbpu.compiler.ir import Node, Origin
from openbpu.compiler.ir.qdq import Scaling
from openbpu.compiler.ops import Refused
from openbpu.compiler.ops.mechanical import PAIR
from openbpu.compiler.passes.forms import CODES


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node stays on the CPU and what the user can do about it."""

    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Refusals:
    """What has been refused so far; several walks over a graph share one."""

    by_name: dict[str, Refusal] = field(default_factory=dict)

    def add(self, node: Node, refused: Refused) -> None:
        """Remember why a node stays on the CPU; its first reason counts."""
        for origin in node.origins:
            self.by_name.setdefault(origin.name, Refusal(refused.reason, refused.fix))

    def add_behind(self, node: Node, others: Sequence[Node]) -> None:
        """Tell the operators that would have been fused with a refused one why they were not."""
        why = next((self.by_name[o.name] for o in node.origins if o.name in self.by_name), None)
        if why is None:
            return
        for other in others:
            reason = f"it cannot be fused with {node.op} '{node.name}': {why.reason}"
            self.add(other, Refused(reason, why.fix or f"{PAIR}in front of it"))

    def forget(self, origins: Iterable[Origin]) -> None:
        """Forget what was refused and is on the BPU now."""
        for origin in origins:
            self.by_name.pop(origin.name, None)


def refusal_of(lower: Callable[[], None]) -> Refused | None:
    """Lower; returns why it cannot be."""
    try:
        lower()
    except Refused as refused:
        return refused
    except OverflowError as error:
        return Refused(f"its scales do not fit the integer arithmetic: {error}", "calibrate again")
    return None


def strange_result(quantize: Node, out: Scaling | None) -> Refused:
    """Say why the operator in front of a Quantize has no result that the BPU can hold."""
    name = quantize.inputs[0]
    if out is None:
        return Refused(
            f"the scale of its output '{name}' is computed, negative or given in blocks",
            "quantize with one constant scale",
        )
    if not out.per_tensor:
        return Refused(f"its output '{name}' is quantized per channel", "quantize activations per tensor")
    return Refused(
        f"its output '{name}' is quantized to {out.dtype} (allowed {', '.join(CODES)})",
        "quantize that tensor to int8 or int16",
    )
