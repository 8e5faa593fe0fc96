"""Channels-last and back: spatial operators of the BPU see NHWC, the graph's values stay in ONNX order."""

from __future__ import annotations

from openbpu.compiler.ops.site import Refused, Site


def to_nhwc(site: Site, codes: str) -> str:
    """Emit the Transpose that turns NCHW (or NCL, as N1LC) into NHWC; returns the new value."""
    value = site.rw.values[codes]
    shape = value.shape or ()
    if len(shape) == 3:
        n, c, length = shape
        moved = site.rw.value(f"{codes}/nlc", (n, length, c), value.dtype, value.quant)
        site.rw.bpu("Transpose", moved, site.origins, x=codes, perm=(0, 2, 1))
        out = site.rw.value(f"{codes}/nhwc", (n, 1, length, c), value.dtype, value.quant)
        site.rw.bpu("Reshape", out, site.origins, x=moved)
        return out
    if len(shape) != 4:
        raise Refused(
            f"its input has {len(shape)} axes, only [N, C, L] and [N, C, H, W] run on the BPU",
            "reshape to one of the two",
        )
    n, c, h, w = shape
    out = site.rw.value(f"{codes}/nhwc", (n, h, w, c), value.dtype, value.quant)
    site.rw.bpu("Transpose", out, site.origins, x=codes, perm=(0, 2, 3, 1))
    return out


def from_nhwc(site: Site, nhwc: str, target: str) -> int:
    """Emit the Transpose that turns NHWC into the layout of `target`; returns its channel axis."""
    source = site.rw.values[nhwc]
    if len(site.rw.values[target].shape or ()) == 3:
        n, _, w, c = source.shape or (0, 0, 0, 0)
        flat = site.rw.value(f"{nhwc}/nlc", (n, w, c), source.dtype, source.quant)
        site.rw.bpu("Reshape", flat, site.origins, x=nhwc)
        site.rw.bpu("Transpose", target, site.origins, x=flat, perm=(0, 2, 1))
    else:
        site.rw.bpu("Transpose", target, site.origins, x=nhwc, perm=(0, 3, 1, 2))
    return 1
