"""MaxPool and AveragePool, 1-D and 2-D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.program import Pool
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.conv import Window, window
from openbpu.compiler.ops.layout import from_nhwc, to_nhwc
from openbpu.compiler.ops.rule import Limit, OpRule, Violation, all_in_range, in_range
from openbpu.compiler.ops.site import Refused, Site


def _kernel(site: Site) -> tuple[int, ...]:
    return tuple(site.node.attrs["kernel_shape"])


def _emit_pool(site: Site, codes: str, win: Window, fn: str, counts: Array, **attrs: Any) -> None:
    n, *spatial = site.out_shape()[:1] + site.out_shape()[2:]
    oh, ow = (1, spatial[0]) if len(spatial) == 1 else spatial
    x = to_nhwc(site, codes)
    source = site.rw.values[codes]
    channels = (source.shape or (0, 0))[1]
    dtype = source.dtype if site.out is None else site.out_dtype
    quant = source.quant if site.out is None else site.quant()
    y = site.rw.value(f"{site.target}/nhwc", (n, oh, ow, channels), dtype, quant)
    table = site.rw.constant(f"{site.target}/counts", counts.astype(np.int64))
    site.rw.bpu(
        "Pool",
        y,
        site.origins,
        site.node.name,
        x=x,
        counts=table,
        fn=fn,
        kernel=win.kernel,
        strides=win.strides,
        pads=win.pads,
        dilations=win.dilations,
        **attrs,
    )
    if quant is not None:
        site.rw.set_quant(site.target, quant)
    from_nhwc(site, y, site.target)


def _lower_max(site: Site) -> None:
    """A max pool of codes (after DQ sank below it), or of floats with a Quantize behind it."""
    if len([o for o in site.node.outputs if o]) != 1:
        raise Refused("it also returns indices", "use the values only")
    if site.node.attrs.get("storage_order", 0):
        raise Refused("storage_order = 1 is not supported", "use storage_order = 0")
    win = window(site, _kernel(site))
    name = site.node.inputs[0]
    dtype = site.rw.values[name].dtype
    if dtype in ("int8", "int16"):
        info = np.iinfo(dtype)
        unit = numerics.fixed_point(1.0)
        counts = np.array([[int(unit[0][0]), int(unit[1][0])]])
        site.out = None
        _emit_pool(
            site,
            name,
            win,
            "max",
            counts,
            count_pad=False,
            x_zero=0,
            zero=0,
            lo=int(info.min),
            hi=int(info.max),
        )
        return
    x, out = site.leaf(0), site.out_quant()
    mult, shift = numerics.fixed_point(x.s / out.s)
    low, high = site.bounds()
    counts = np.array([[mult.item(), shift.item()]])
    _emit_pool(site, x.codes, win, "max", counts, count_pad=False, x_zero=x.z, zero=out.z, lo=low, hi=high)


def _lower_average(site: Site) -> None:
    win = window(site, _kernel(site))
    x, out = site.leaf(0), site.out_quant()
    taps = win.kernel[0] * win.kernel[1]
    fixed = numerics.fixed_point_sum(
        (x.s / out.s / np.maximum(np.arange(taps + 1), 1),), (float(x.reach * taps),)
    )
    counts = np.stack([fixed.multipliers[0], fixed.shift], axis=1)
    low, high = site.bounds()
    count_pad = bool(site.node.attrs.get("count_include_pad", 0))
    _emit_pool(
        site, x.codes, win, "avg", counts, count_pad=count_pad, x_zero=x.z, zero=out.z, lo=low, hi=high
    )


def _side(key: str) -> Callable[[Site], Violation]:
    def check(site: Site) -> Violation:
        return all_in_range(_kernel(site), 1, site.limit(key))

    return check


def _max_window(site: Site) -> Violation:
    return in_range(int(np.prod(_kernel(site))), 1, site.limit("maxpool_window_max"))


def _average_window(site: Site) -> Violation:
    width = 2 if site.leaf(0).dtype == "int16" else 1
    return in_range(int(np.prod(_kernel(site))) * width, 1, site.limit("avgpool_window_bytes_max"))


_COMMON = (
    Limit(
        "batch must be 1..{batch_max}",
        lambda s: in_range(s.shape()[0], 1, s.limit("batch_max")),
        "run smaller batches",
    ),
    Limit(
        "strides must be 1..{pool_stride_max}",
        lambda s: all_in_range(s.node.attrs.get("strides") or (1,), 1, s.limit("pool_stride_max")),
        "pool in two steps",
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
                "pool in two steps",
            ),
            Limit("KH·KW must be at most {maxpool_window_max}", _max_window, "pool in two steps"),
        ),
    ),
    OpRule(
        "AveragePool",
        "AAE",
        "int8, int16 → int8, int16",
        _lower_average,
        (
            *_COMMON,
            Limit(
                "kernel sides must be 1..{avgpool_kernel_max}",
                _side("avgpool_kernel_max"),
                "pool in two steps",
            ),
            Limit(
                "KH·KW·bytes must be at most {avgpool_window_bytes_max}", _average_window, "pool in two steps"
            ),
        ),
    ),
)


@form(Pool, "x counts", geometry="x_shape y_shape")
def _pool(b: Builder, node: Node) -> None:
    b.push(node, x_shape=b.shape(operand(node, "x")), y_shape=b.shape(node.outputs[0]))
