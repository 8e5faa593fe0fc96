"""What the search chooses between: types of nodes, and what costs nothing on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openbpu.quantization.onnx import Corrections

Kind = Literal["int16", "float"]
Types = tuple[tuple[str, Kind], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How ranges are taken and weights are rounded: time to quantize, none on the chip.

    method: "" as it was asked for, or that · asymmetric: whether inputs have zero points, too, where that was
    not asked for · corrections: beside what was asked for.
    """

    method: str = ""
    asymmetric: bool = False
    corrections: Corrections = field(default_factory=Corrections)

    @property
    def words(self) -> tuple[str, ...]:
        """What it is made of, as options of `openbpu quantize`."""
        c = self.corrections
        flags = {
            "--equalisation": c.equalisation,
            "--adaptive-rounding": c.adaptive_rounding,
            "--bias-correction": c.bias_correction,
        }
        method = (f"--method {self.method}",) if self.method else ()
        inputs = ("--asymmetric",) if self.asymmetric else ()
        return (*method, *inputs, *(name for name, is_on in flags.items() if is_on))


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration to try: types of nodes by name, in the order of the network, and a recipe."""

    types: Types = ()
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def name(self) -> str:
        """What is done to the configuration without search."""
        int16, floats = len(self.named("int16")), len(self.named("float"))
        parts = [*self.recipe.words]
        parts += [f"{int16} int16"] if int16 else []
        parts += [f"{floats} float"] if floats else []
        return ", ".join(parts) or "int8"

    def named(self, kind: Kind) -> tuple[str, ...]:
        """Return the nodes of a type."""
        return tuple(name for name, of in self.types if of == kind)

    def config(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `quant_config` of it, as a mapping: what is asked for, and what the search adds."""
        made = {section: dict(content) for section, content in base.items()}
        model = made.setdefault("model_config", {})
        activation, weight = dict(model.get("activation", {})), dict(model.get("weight", {}))
        if self.recipe.method:
            activation["calibration_type"] = self.recipe.method
        if self.recipe.asymmetric:
            activation["asymmetric"] = True
        corrections = self.recipe.corrections
        if corrections.equalisation:
            weight["equalisation"] = True
        if corrections.adaptive_rounding:
            weight["adaptive_rounding"] = True
        if corrections.bias_correction:
            weight.setdefault("bias_correction", {})
        model |= {k: v for k, v in (("activation", activation), ("weight", weight)) if v}
        nodes = {name: {"qtype": kind} for name, kind in self.types}
        made["node_config"] = {**made.get("node_config", {}), **nodes}
        return {section: content for section, content in made.items() if content}
