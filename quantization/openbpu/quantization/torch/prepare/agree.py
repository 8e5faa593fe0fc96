"""What setters say of every module, and what holds where several of them share one rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from openbpu.quantization.torch.errors import FusedQconfigWarning
from openbpu.quantization.torch.foreign import as_qconfig
from openbpu.quantization.torch.qat import Weighted
from openbpu.quantization.torch.qconfig import QConfig, dtype_of, is_fixed
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import warn_about
from openbpu.quantization.torch.setters import Place, Setter, first_answer


@dataclass(frozen=True, slots=True)
class Asked:
    """The setters; `outputs`: ids of modules whose results only DeQuantStubs read; `kinds`: id → operator."""

    setters: tuple[Setter, ...]
    outputs: frozenset[int]
    kinds: Mapping[int, str]

    def of(self, path: str, module: Any) -> QConfig | None:
        """The QConfig of a module: its own, or the first answer; raises PrepareError for what is none."""
        if "qconfig" in module.__dict__:
            return as_qconfig(module.qconfig, path)
        kind = "weighted" if isinstance(module, Weighted) else self.kinds.get(id(module), _kind(module))
        return as_qconfig(first_answer(self.setters, self.place(path, module, kind)), path)

    def place(self, path: str, module: Any, kind: str) -> Place:
        """What a setter is asked."""
        return Place(path, module, kind, id(module) in self.outputs)

    def named(self, path: str, module: Any = None) -> bool:
        """Whether somebody speaks of this very module."""
        parts = [part for setter in self.setters for part in (setter, *getattr(setter, "templates", ()))]
        own = module is not None and "qconfig" in module.__dict__
        return own or any(path in getattr(part, "names", ()) for part in parts)


def _kind(module: nn.Module) -> str:
    return str(getattr(module, "function", "") or type(module).__name__.lower())


def agree(
    model: nn.Module,
    found: Sequence[tuple[str, Quantized]],
    configs: dict[int, QConfig | None],
    asked: Asked,
) -> None:
    """Let the module that rounds for others take what was asked of them; changes `configs`.

    The wider dtype holds for all, and a scale that is given. What does not, and was asked for by name, is
    named in a FusedQconfigWarning.
    """
    for path, module in found:
        end = _end(module)
        if id(end) not in configs:
            continue
        parts: list[Part] = [] if end is module else [(path, module, configs[id(module)])]
        parts += [
            (p, None, as_qconfig(first_answer(asked.setters, Place(p, module, "")), p))
            for p in module.absorbed
        ]
        for name, own, config in parts:
            if not asked.named(name, own):
                continue
            lost = _merged(configs, end, config)
            if lost:
                why = "it is fused with others that share one rounding"
                text = f"the qconfig of '{name}' ({lost}) has no effect: {why}"
                warn_about(model, text, FusedQconfigWarning)


Part = tuple[str, Quantized | None, QConfig | None]
"""Path, module (None: it was fused away), and what is asked of it."""


def _end(module: Quantized) -> Quantized:
    """The module that rounds a result."""
    while module.rounded_by:
        module = module.rounded_by[0]
    return module


def _merged(configs: dict[int, QConfig | None], end: Quantized, config: QConfig | None) -> str:
    """Give the end's result what is asked of a part; returns what of it is lost."""
    whole = configs[id(end)]
    if config is None or whole is None or config.activation is None:
        return ""
    ours, theirs = config.activation, whole.activation
    wanted = dtype_of(ours)
    if theirs is None or wanted.bits > dtype_of(theirs).bits or (is_fixed(ours) and not is_fixed(theirs)):
        configs[id(end)] = replace(whole, activation=ours)
        return ""
    return "" if wanted is dtype_of(theirs) else str(wanted)
