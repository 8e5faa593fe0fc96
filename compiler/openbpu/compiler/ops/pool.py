"""MaxPool and AveragePool, 1-D to 3-D."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.program import Pool
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.layout import from_nhwc, require_images, to_last, to_nhwc
from openbpu.compiler.ops.mechanical import BATCH, MAXIMA, MEAN, ROWS_FIRST, STRIDE
from openbpu.compiler.ops.pieces import bordered, joined, taken, turned, viewed
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, all_in_range, in_range
from openbpu.compiler.ops.site import Refused, Site
from openbpu.compiler.ops.windows import Span, flat, spans

Spans = tuple[Span, ...]


def _kernel(site: Site) -> tuple[int, ...]:
    return tuple(site.node.attrs["kernel_shape"])


@dataclass(frozen=True, slots=True)
class _Emit:
    """What all Pools of a site share: `fn` and the attributes of the one that makes the result."""

    site: Site
    fn: str
    attrs: dict[str, Any]

    def pooled(self, x: str, found: Spans, counts: Array, *, last: bool = True, stem: str = "nhwc") -> str:
        """Emit a Pool over the rows and columns of NHWC codes; only the last one rescales."""
        site, win, source = self.site, flat(found), self.site.rw.values[x]
        n, c = (source.shape or (0,))[0], (source.shape or (0,))[-1]
        keeps = site.out is None or not last
        dtype, quant = (source.dtype, source.quant) if keeps else (site.out_dtype, site.quant())
        require_images(site, n)
        outs = (1, *(span.out for span in found))[-2:]
        y = site.rw.value(f"{site.target}/{stem}", (n, *outs, c), dtype, quant)
        site.rw.bpu(
            "Pool",
            y,
            site.origins,
            site.node.name if last else "",
            x=x,
            counts=site.rw.constant(f"{site.target}/counts", counts.astype(np.int64)),
            fn=self.fn,
            kernel=win.kernel,
            strides=win.strides,
            pads=win.pads,
            dilations=win.dilations,
            **(self.attrs if last else _copying(source.dtype)),
        )
        return y

    def finish(self, y: str) -> None:
        """Bring the result to the site's target."""
        quant = self.site.rw.values[y].quant
        if quant is not None:
            self.site.rw.set_quant(self.site.target, quant)
        from_nhwc(self.site, y, self.site.target)


def _copying(dtype: str) -> dict[str, Any]:
    """The attributes of a max pool that keeps its codes."""
    info = np.iinfo(dtype)
    return {"count_pad": False, "x_zero": 0, "zero": 0, "lo": int(info.min), "hi": int(info.max)}


def _lower_max(site: Site) -> None:
    """A max pool of codes (after DQ sank below it), or of floats with a Quantize behind it."""
    if len([o for o in site.node.outputs if o]) != 1:
        raise Refused("it also returns indices", "use the values only")
    if site.node.attrs.get("storage_order", 0):
        raise Refused("storage_order = 1 is not supported", ROWS_FIRST)
    found, name = spans(site, _kernel(site)), site.node.inputs[0]
    dtype = site.rw.values[name].dtype
    if dtype in ("int8", "int16"):
        site.out = None
        _emit_max(_Emit(site, "max", _copying(dtype)), name, found, _factor(1.0))
        return
    x, out = site.leaf(0), site.out_quant()
    low, high = site.bounds()
    attrs = {"count_pad": False, "x_zero": x.z, "zero": out.z, "lo": low, "hi": high}
    _emit_max(_Emit(site, "max", attrs), x.codes, found, _factor(x.s / out.s))


def _factor(ratio: float) -> Array:
    mult, shift = numerics.fixed_point(ratio)
    return np.array([[mult.item(), shift.item()]])


def _emit_max(emit: _Emit, codes: str, found: Spans, counts: Array) -> None:
    """The largest of rows and columns, and of a volume then the largest along its depth."""
    x = to_nhwc(emit.site, codes)
    if len(found) < 3:
        emit.finish(emit.pooled(x, found, counts))
        return
    d, h, w = found
    if not (h.is_plain and w.is_plain):
        last = d.is_plain
        stem = "nhwc" if last else "frames"
        x = emit.pooled(x, (h, w), counts if last else _factor(1.0), last=last, stem=stem)
    if not d.is_plain or (h.is_plain and w.is_plain):
        n, c, size = emit.site.shape()[0], emit.site.shape()[1], h.out * w.out
        deep = viewed(emit.site, x, (n, d.size, size, c), "deep")
        x = emit.pooled(deep, (d, Span(size, size)), counts)
    emit.finish(x)


def _lower_average(site: Site) -> None:
    found, x, out = spans(site, _kernel(site)), site.leaf(0), site.out_quant()
    low, high = site.bounds()
    counts_pad = bool(site.node.attrs.get("count_include_pad", 0))
    attrs = {"count_pad": counts_pad, "x_zero": x.z, "zero": out.z, "lo": low, "hi": high}
    emit = _Emit(site, "avg", attrs)

    def counts(taps: int) -> Array:
        """The factor for every number of elements."""
        ratio = x.s / out.s / np.maximum(np.arange(taps + 1), 1)
        fixed = numerics.fixed_point_sum((ratio,), (float(x.reach * taps),))
        return np.stack([fixed.multipliers[0], fixed.shift], axis=1)

    if len(found) < 3:
        emit.finish(emit.pooled(to_nhwc(site, x.codes), found, counts(prod(_kernel(site)))))
    else:
        emit.finish(_average_volume(emit, to_last(site, x.codes), found, x.z, counts))


def _average_volume(emit: _Emit, last: str, found: Spans, zero: int, counts: Callable[[int], Array]) -> str:
    """Average a volume [N, D, H, W, C] in one rounding; returns the result, channels last.

    A Pool has two axes. Where a third one is spanned, the rows of all slices under a window are laid one
    below the other; outputs over as many of them, inside the input, are one Pool.
    """
    site, (d, h, w) = emit.site, found
    n, _, _, _, c = site.rw.values[last].shape or ()
    taps = d.kernel * h.kernel * w.kernel
    if d.is_plain:
        return emit.pooled(viewed(site, last, (n * d.size, h.size, w.size, c)), (h, w), counts(taps))
    if w.is_plain:
        return emit.pooled(viewed(site, last, (n, d.size, h.size, w.size * c)), (d, h), counts(taps))
    if emit.attrs["count_pad"]:
        last, d = _with_border(site, last, 1, d, zero)
        last, h = _with_border(site, last, 2, h, zero)
    deep, high = _runs(d), _runs(h)
    whole = "nhwc" if len(deep) == 1 else "slab"
    stem = whole if len(high) == 1 else "part"
    slabs = [
        joined(site, [_averaged(emit, last, (under, beside), w, counts, stem) for beside in high], 2, whole)
        for under in deep
    ]
    return joined(site, slabs, 1, "nhwc")


def _with_border(site: Site, x: str, axis: int, span: Span, zero: int) -> tuple[str, Span]:
    """Padding that counts, as elements."""
    size = span.before + span.size + span.after
    bigger = bordered(site, x, axis, (span.before, span.after), zero)
    return bigger, replace(span, size=size, before=0, after=0)


def _runs(span: Span) -> list[list[list[int]]]:
    """The positions inside the input under every output, in runs of as many."""
    under = [
        [
            p
            for t in range(span.kernel)
            if 0 <= (p := o * span.stride + t * span.dilation - span.before) < span.size
        ]
        for o in range(span.out)
    ]
    if not all(under):
        raise Refused("a window must hold an element of its input, not padding alone", "pad less")
    return [list(run) for _, run in groupby(under, len)]


def _averaged(
    emit: _Emit,
    last: str,
    runs: tuple[list[list[int]], list[list[int]]],
    w: Span,
    counts: Callable[[int], Array],
    stem: str,
) -> str:
    """One Pool over windows of as many slices and rows each; returns [N, OD, OH, OW, C]."""
    site, (deep, high) = emit.site, runs
    slices, rows, outs, lines = len(deep[0]), len(high[0]), len(deep), len(high)
    x = taken(site, last, 1, [p for under in deep for p in under])
    x = taken(site, x, 2, [p for under in high for p in under])
    n, _, _, width, c = site.rw.values[x].shape or ()
    if slices > 1:
        x = viewed(site, x, (n * outs, slices, lines, rows * width * c), "slices")
        x = turned(site, x, (0, 2, 1, 3))
    x = viewed(site, x, (n * outs, lines * slices * rows, width, c))
    window = Span(lines * slices * rows, lines, slices * rows, slices * rows)
    y = emit.pooled(x, (window, w), counts(slices * rows * w.kernel), stem=stem)
    return viewed(site, y, (n, outs, lines, w.out, c), "ndhwc")


def _sides(site: Site) -> tuple[int, ...]:
    """The sides of the windows that run: slices and rows of an averaged volume are one side."""
    kernel = _kernel(site)
    if len(kernel) < 3 or site.node.op == "MaxPool":
        return kernel
    d, h, w = spans(site, kernel)
    return kernel if d.is_plain or w.is_plain else (d.kernel * h.kernel, w.kernel)


def _side(key: str) -> Callable[[Site], Violation]:
    return lambda site: all_in_range(_sides(site), 1, site.limit(key))


def _max_window(site: Site) -> Violation:
    return in_range(prod(_kernel(site)[-2:]), 1, site.limit("maxpool_window_max"))


def _average_window(site: Site) -> Violation:
    width = 2 if site.leaf(0).dtype == "int16" else 1
    return in_range(prod(_kernel(site)) * width, 1, site.limit("avgpool_window_bytes_max"))


_COMMON = (
    Limit("batch must be 1..{batch_max}", lambda s: in_range(s.shape()[0], 1, s.limit("batch_max")), BATCH),
    Limit(
        "strides must be 1..{pool_stride_max}",
        lambda s: all_in_range(s.node.attrs.get("strides") or (1,), 1, s.limit("pool_stride_max")),
        STRIDE,
    ),
    Limit(
        "pads must be {pool_pad_min}..{pool_pad_max}",
        lambda s: all_in_range(
            s.node.attrs.get("pads") or (0,), s.limit("pool_pad_min"), s.limit("pool_pad_max")
        ),
        "pad in a Pad of its own",
    ),
)

RULES = (
    OpRule(
        "MaxPool",
        "AAE",
        "int8, int16 → int8, int16",
        _lower_max,
        (
            *_COMMON,
            Limit(
                "kernel sides must be 1..{maxpool_kernel_max}",
                _side("maxpool_kernel_max"),
                MAXIMA,
            ),
            Limit("KH·KW must be at most {maxpool_window_max}", _max_window, MAXIMA),
        ),
        note="1-D, 2-D and 3-D: rows and columns, then the depth",
    ),
    OpRule(
        "AveragePool",
        "AAE",
        "int8, int16 → int8, int16",
        _lower_average,
        (
            *_COMMON,
            Limit(
                "kernel sides (KD·KH of a volume is one) must be 1..{avgpool_kernel_max}",
                _side("avgpool_kernel_max"),
                MEAN,
            ),
            Limit(
                "KD·KH·KW·bytes must be at most {avgpool_window_bytes_max}",
                _average_window,
                MEAN,
            ),
        ),
        note="1-D, 2-D and 3-D, always with one rounding",
    ),
)


@form(Pool, "x counts", geometry="x_shape y_shape")
def _pool(b: Builder, node: Node) -> None:
    b.push(node, x_shape=b.shape(operand(node, "x")), y_shape=b.shape(node.outputs[0]))
