"""Xor, IsInf, IsNaN and Mod: no operators of the BPU's own, but products and tables."""

from __future__ import annotations

from witness.builder import GraphBuilder
from witness.emit.elementwise import operand
from witness.emit.registry import emitter
from witness.recipes import RECIPES, Recipe
from witness.variations import VARIATIONS


@emitter("Xor", "IsInf", "IsNaN")
def choose(b: GraphBuilder, x: str, *, op: str, tensors: bool = False) -> tuple[str, ...]:
    """``Where(condition, x, y)`` with the operator in the condition; ``tensors``: an Xor of both."""
    y = operand(b, x, "branch", None)
    if op != "Xor":
        return (b.node("Where", b.node(op, x), y, x),)
    above = b.node("Greater", y if tensors else x, b.constant(-0.2501))
    return (b.node("Where", b.node("Xor", above, b.node("Less", x, b.constant(0.2501))), x, y),)


@emitter("Mod")
def modulo(b: GraphBuilder, x: str, *, divisor: float = 0.37) -> tuple[str, ...]:
    """What is left of a division, with the sign of x."""
    return (b.node("Mod", x, b.constant(divisor), fmod=1),)


RECIPES["Xor"] = Recipe(lambda s: {"tensors": s.one_of(False, True)})
RECIPES["IsInf"] = RECIPES["IsNaN"] = Recipe(lambda _: {})
RECIPES["Mod"] = Recipe(lambda _: {}, lambda *_: False)
VARIATIONS["Xor"] = {"one": {}, "both": {"tensors": True}}
VARIATIONS["Mod"] = {"small": {}, "large": {"divisor": 0.9}}
