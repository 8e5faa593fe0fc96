"""Concat: every input is rescaled to the output's scale on the way, or copied when it has it already."""

from __future__ import annotations

from math import prod

from openbpu.arch import numerics
from openbpu.arch.program import Concat
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form
from openbpu.compiler.ops.elementwise import CHANNELS
from openbpu.compiler.ops.mechanical import GROUPS
from openbpu.compiler.ops.rule import Limit, OpRule, in_range
from openbpu.compiler.ops.site import Leaf, Site


def _lower(site: Site) -> None:
    """Concat of dequantized tensors with a Quantize behind it, or of codes that mean the same already."""
    rank = len(site.out_shape())
    axis = int(site.node.attrs["axis"]) % max(rank, 1)
    if site.rw.values[site.node.inputs[0]].dtype in ("int8", "int16", "int32"):
        count = len(site.node.inputs)
        quant = site.rw.values[site.node.inputs[0]].quant
        if quant is not None:
            site.rw.set_quant(site.target, quant)
        zeros = (0,) * count
        site.emit(
            "Concat",
            site.target,
            xs=site.node.inputs,
            axis=axis,
            x_zeros=zeros,
            mults=zeros,
            shifts=zeros,
            zero=0,
            lo=0,
            hi=0,
        )
        return
    out = site.out_quant()
    leaves = [site.leaf(i) for i in range(len(site.node.inputs))]
    mults, shifts = zip(*(_factor(site, leaf) for leaf in leaves), strict=True)
    low, high = site.bounds()
    site.finish(
        "Concat",
        xs=[leaf.codes for leaf in leaves],
        axis=axis,
        x_zeros=tuple(leaf.z for leaf in leaves),
        mults=mults,
        shifts=shifts,
        zero=out.z,
        lo=low,
        hi=high,
    )


def _factor(site: Site, leaf: Leaf) -> tuple[int, int]:
    """Multiplier and shift of one input; (0, 0) copies the bits."""
    if (
        leaf.scaling.same(site.out_quant())
        and site.clamp[0] == -float("inf")
        and site.clamp[1] == float("inf")
    ):
        return 0, 0
    fixed = numerics.fixed_point_sum((leaf.s / site.out_quant().s,), (float(leaf.reach),))
    return fixed.multipliers[0].item(), fixed.shift.item()


RULES = (
    OpRule(
        "Concat",
        "VAE",
        "int8, int16 → int8, int16",
        _lower,
        (
            CHANNELS,
            Limit(
                "there must be at most {concat_inputs_max} inputs",
                lambda s: in_range(len(s.node.inputs), 1, s.limit("concat_inputs_max")),
                GROUPS,
            ),
        ),
        note="inputs of another scale are rescaled on the way",
    ),
)


@form(Concat, "xs*", geometry="outer sizes", extra="axis")
def _concat(b: Builder, node: Node) -> None:
    axis, shapes = node.attrs["axis"], [b.shape(name) for name in node.inputs]
    b.push(node, outer=prod(shapes[0][:axis]), sizes=tuple(prod(s[axis:]) for s in shapes))
