"""Comparisons and logic: a bool on the BPU is a tensor of the codes 0 and 1.

Greater(a, b)   →   clamp(a·p − b·q, 0, 1)           p and q keep the order of the numbers of two scales
Greater(a, c)   →   clamp(a − (code of c), 0, 1)     the place of c among the numbers of a
Equal(a, b)     →   |clamp(a·p − b·q, −1, 1)| = 0
And, Or, Xor    →   a·b, max(a, b), |a − b|
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.arrays import Float64, Int64
from openbpu.arch.dtypes import DType
from openbpu.compiler.ir import Array
from openbpu.compiler.ops.elementwise import CHANNELS
from openbpu.compiler.ops.rule import Limit, OpRule
from openbpu.compiler.ops.site import Leaf, Refused, Site

_MIRRORED = {
    "Equal": "Equal",
    "Greater": "Less",
    "GreaterOrEqual": "LessOrEqual",
    "Less": "Greater",
    "LessOrEqual": "GreaterOrEqual",
}


def _compare(site: Site) -> None:
    for index in (0, 1):
        constant = site.constant(index)
        if constant is not None:
            _with_constant(site, site.leaf(1 - index), constant, mirrored=index == 0)
            return
    a, b = site.leaf(0), site.leaf(1)
    found = numerics.order(_ruler(a), _ruler(b))
    if found.wrong and "int8" in (a.dtype, b.dtype):
        _by_table(site, a, b)
        return
    _emit(site, site.node.op, (a.codes, a.z, found.mult_a), (b.codes, b.z, found.mult_b))


def _ruler(leaf: Leaf) -> numerics.Ruler:
    return numerics.Ruler(leaf.s, leaf.z, DType(leaf.dtype))


def _with_constant(site: Site, x: Leaf, constant: Float64, *, mirrored: bool) -> None:
    """Compare a tensor with constants, a number for each element or row of elements."""
    if np.isnan(constant).any():
        raise Refused("its constant is NaN, which nothing compares with", "check the export of the model")
    op = _MIRRORED[site.node.op] if mirrored else site.node.op
    op, places = _placed(op, _ruler(x), constant)
    name = site.rw.constant(f"{site.target}/places", _narrow(places))
    _emit(site, op, (x.codes, 0, 1), (name, 0, 1))


def _by_table(site: Site, a: Leaf, b: Leaf) -> None:
    """Compare through a table of the places that the 256 numbers of one have among those of the other."""
    op = site.node.op
    if a.dtype == "int8":
        a, b, op = b, a, _MIRRORED[op]
    op, places = _placed(op, _ruler(a), _ruler(b).numbers.astype(np.float64))
    table = _narrow(places)
    mid = site.declare(f"{site.target}/places", b.shape, str(table.dtype))
    site.emit("Lut", mid, x=b.codes, table=site.rw.constant(f"{mid}/table", table))
    _emit(site, op, (a.codes, 0, 1), (mid, 0, 1))


def _placed(op: str, ruler: numerics.Ruler, numbers: Float64) -> tuple[str, Int64]:
    """Return the comparison of codes, and with which codes, that x `op` numbers is."""
    first, behind = ruler.places(numbers)
    if op == "Equal":
        return op, np.where(behind > first, first, ruler.dtype.qmax + 1)  # a code that no element has
    if op in ("Greater", "GreaterOrEqual"):
        return "GreaterOrEqual", behind if op == "Greater" else first
    return "Less", first if op == "Less" else behind


def _narrow(places: Int64) -> Array:
    """The same in the smallest type that holds them."""
    for dtype in (DType.INT8, DType.INT16):
        if dtype.qmin <= places.min() and places.max() <= dtype.qmax:
            return places.astype(dtype.numpy)
    return places.astype(np.int32)


_Term = tuple[str, int, int]
"""Codes, what is subtracted from them, and their factor."""


def _emit(site: Site, op: str, a: _Term, b: _Term) -> None:
    """Emit the comparison of whole numbers: what is not below 1 is true."""
    sign = -1 if op in ("Less", "LessOrEqual") else 1
    parts = {
        "a": a[0], "a_zero": a[1], "mult_a": sign * a[2],
        "b": b[0], "b_zero": b[1], "mult_b": -sign * b[2],
        "fn": "add", "shift": 0,
    }  # fmt: skip
    if op != "Equal":
        site.finish("Binary", **parts, offset=int(op.endswith("OrEqual")), lo=0, hi=1)
        return
    _looked_up(site, lambda signs: site.emit("Binary", signs, **parts, lo=-1, hi=1), lambda v: v == 0)


def _looked_up(site: Site, make: Callable[[str], None], truth: Callable[[Int64], object]) -> None:
    """Emit what `make` makes, codes of int8, and the table of what is true of them."""
    made = site.declare(f"{site.target}/sign", site.out_shape(), "int8")
    make(made)
    _table(site, made, truth)


def _table(site: Site, codes: str, truth: Callable[[Int64], object]) -> None:
    entries = np.asarray(truth(numerics.codes(DType.INT8)))
    site.finish("Lut", x=codes, table=site.rw.constant(f"{site.target}/table", entries.astype(np.int8)))


# --- logic --------------------------------------------------------------------------------------------------


def _not(site: Site) -> None:
    _table(site, site.leaf(0).codes, lambda v: v == 0)


def _and(site: Site) -> None:
    site.finish("Binary", **_both(site), fn="mul", mult_a=1, mult_b=0, shift=0, lo=0, hi=1)


def _or(site: Site) -> None:
    site.finish("Binary", **_both(site), fn="max", mult_a=1, mult_b=1, shift=0, lo=0, hi=1)


def _xor(site: Site) -> None:
    parts = {**_both(site), "fn": "add", "mult_a": 1, "mult_b": -1, "shift": 0, "lo": -1, "hi": 1}
    _looked_up(site, lambda signs: site.emit("Binary", signs, **parts), lambda v: v != 0)


def _both(site: Site) -> dict[str, str]:
    return {"a": site.leaf(0).codes, "b": site.leaf(1).codes}


_COMPARED = "int8, int16 (two tensors, or one and constants) → bool"


def _rule(op: str, dtypes: str, lower: Callable[[Site], None], *limits: Limit, note: str = "") -> OpRule:
    return OpRule(op, "VAE", dtypes, lower, limits, clamps=False, note=note)


RULES = (
    *(_rule(op, _COMPARED, _compare, CHANNELS, note="exact; broadcasts") for op in _MIRRORED),
    _rule("And", "bool → bool", _and, note="broadcasts"),
    _rule("Or", "bool → bool", _or, note="broadcasts"),
    _rule("Xor", "bool → bool", _xor, note="broadcasts"),
    _rule("Not", "bool → bool", _not),
)
