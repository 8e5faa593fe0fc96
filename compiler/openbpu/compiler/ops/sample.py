"""GridSample: an image of int8 read at the points of a grid of int16, between pixels or at the nearest."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch import numerics
from openbpu.arch.operators.sample import GridSample, rows_read
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.layout import from_nhwc, to_nhwc
from openbpu.compiler.ops.rule import Limit, OpRule, Violation
from openbpu.compiler.ops.site import Leaf, Refused, Site

_POINT_LINES = 4
"""Lines on chip for a point beside the image: its codes, its result, and as many to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a grid is sampled; columns, rows: mult, offset and shift of its codes."""

    linear: bool
    border: bool
    columns: tuple[int, int, int]
    rows: tuple[int, int, int]


def _places(site: Site, grid: Leaf) -> dict[str, tuple[int, int, int]]:
    """How codes of the grid become columns and rows."""
    corners = bool(int(site.node.attrs.get("align_corners", 0)))
    height, width = site.shape()[2:]
    try:
        columns, rows = (
            numerics.position_factors(grid.s, grid.z, n, corners=corners) for n in (width, height)
        )
    except OverflowError as error:
        raise Refused(
            f"a step of its grid must be less than 2048 pixels, not {grid.s * max(width, height) / 2:,.0f}",
            "quantize the grid over its range",
        ) from error
    return {"columns": columns, "rows": rows}


def _lower(site: Site) -> None:
    _refuse_unknown(site)
    x, grid, out = site.leaf(0, ("int8",)), site.leaf(1, ("int16",)), site.out_quant()
    way = _Way(
        linear=site.node.attrs.get("mode", "linear") == "linear",
        border=site.node.attrs.get("padding_mode", "zeros") == "border",
        **_places(site, grid),
    )
    _refuse_large(site, way, grid)
    unit = 2.0**numerics.BETWEEN_BITS if way.linear else 1.0
    if way.linear and x.s / out.s > numerics.MAX_FINER_SAMPLE:
        most = f"1/{numerics.MAX_FINER_SAMPLE:,.0f} of the scale of its input, not 1/{x.s / out.s:,.0f}"
        raise Refused(
            f"the scale of its output must be at least {most}", "quantize its output over its range"
        )
    fixed = numerics.fixed_point_sum((x.s / out.s / unit,), (float(x.reach) * unit,))
    low, high = site.bounds()
    n, channels, height, width = site.out_shape()
    y = site.rw.value(f"{site.target}/nhwc", (n, height, width, channels), out.dtype, site.quant())
    site.rw.set_quant(site.target, site.quant())
    site.rw.bpu(
        "GridSample",
        y,
        site.origins,
        site.node.name,
        x=to_nhwc(site, x.codes),
        grid=grid.codes,
        mode="linear" if way.linear else "nearest",
        border=way.border,
        columns=way.columns,
        rows=way.rows,
        x_zero=x.z,
        mult=fixed.multipliers[0].item(),
        shift=fixed.shift.item(),
        zero=out.z,
        lo=low,
        hi=high,
    )
    from_nhwc(site, y, site.target)


def _refuse_unknown(site: Site) -> None:
    """Volumes, cubic, and grids that are reflected."""
    attrs, rank = site.node.attrs, len(site.shape())
    if rank != 4:
        raise Refused(
            f"its input has {rank} axes, only [N, C, H, W] is sampled on the BPU", "sample slices of images"
        )
    mode, padding = attrs.get("mode", "linear"), attrs.get("padding_mode", "zeros")
    if mode not in ("linear", "nearest"):
        raise Refused(f"mode {mode} is not supported (linear, nearest)", "use linear (bilinear in torch)")
    if padding not in ("zeros", "border"):
        fix = "use border, or reflect the grid in front of it"
        raise Refused(f"padding_mode {padding} is not supported (zeros, border)", fix)


def _refuse_large(site: Site, way: _Way, grid: Leaf) -> None:
    """What a row of points may read must be on chip, at least channel by channel: of a computed grid all."""
    height, width = rows, _ = site.shape()[2:]
    if grid.const is not None:
        first, last = rows_read(grid.const, way.rows, height, border=way.border, linear=way.linear)
        rows = int((last - first).max()) + 1
    if rows * width > site.march.chip_bytes - _POINT_LINES * site.march.alignment:
        what = "H·W of its input" if grid.const is None else "what a row of its constant grid reads"
        raise Refused(
            f"{what} must fit the {site.march.chip_bytes} bytes on chip, not {rows}×{width}",
            "sample a smaller feature map, or parts of it",
        )


def _both(site: Site) -> Violation:
    """Of images: volumes are refused by their rank."""
    size, most = site.shape()[2:], site.limit("gridsample_both_max")
    return "×".join(map(str, size)) if len(size) == 2 and min(size) > most else None


BOTH = Limit(
    "H and W must not both exceed {gridsample_both_max}",
    _both,
    "sample a smaller feature map, or parts of it",
)

RULES = (
    OpRule(
        "GridSample",
        "AAE",
        "int8 × int16 grid → int8, int16",
        _lower,
        (BOTH,),
        note="linear and nearest; zeros and border",
    ),
)


@form(GridSample, "x grid", geometry="x_shape y_shape")
def _grid_sample(b: Builder, node: Node) -> None:
    b.push(node, x_shape=b.shape(operand(node, "x")), y_shape=b.shape(node.outputs[0]))
