"""Channels-last and back: spatial operators of the BPU see NHWC, the graph's values stay in ONNX order.

A video or volume [N, C, D, H, W] is N·D images there: units have rows and columns, and no third axis.
"""

from __future__ import annotations

from math import prod

from openbpu.compiler.ops.pieces import Ints, viewed
from openbpu.compiler.ops.site import Refused, Site


def image_shape(shape: Ints) -> tuple[int, int, int]:
    """Return how many images [N, C, L], [N, C, H, W] or [N, C, D, H, W] is, their rows and columns."""
    n, _, *spatial = shape
    *depth, h, w = (1, *spatial)
    return n * prod(depth), h, w


def require_images(site: Site, images: int) -> None:
    """Refuse a volume of more slices than an operator has images in a batch."""
    most = site.limit("batch_max")
    if len(site.shape()) == 5 and images > most:
        raise Refused(
            f"batch × depth must be 1..{most}, not {images}",
            "run smaller batches, or split the depth, with what windows share, and concatenate",
        )


def to_last(site: Site, codes: str) -> str:
    """Emit the Transpose of [N, C, D, H, W] to [N, D, H, W, C]; returns the new value."""
    value = site.rw.values[codes]
    n, c, *spatial = value.shape or ()
    out = site.rw.value(f"{codes}/ndhwc", (n, *spatial, c), value.dtype, value.quant)
    site.rw.bpu("Transpose", out, site.origins, x=codes, perm=(0, 2, 3, 4, 1))
    return out


def channels_last(site: Site, codes: str) -> str:
    """Emit what turns codes channels last: [N, D, H, W, C], or the images of `to_nhwc`; returns the value."""
    deep = len(site.rw.values[codes].shape or ()) == 5
    return to_last(site, codes) if deep else to_nhwc(site, codes)


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
    if len(shape) == 5:
        return viewed(site, to_last(site, codes), (*image_shape(shape), shape[1]))
    if len(shape) != 4:
        raise Refused(
            f"its input has {len(shape)} axes, only [N, C] and one to three more run on the BPU",
            "reshape to [N, C, L], [N, C, H, W] or [N, C, D, H, W]",
        )
    n, c, h, w = shape
    out = site.rw.value(f"{codes}/nhwc", (n, h, w, c), value.dtype, value.quant)
    site.rw.bpu("Transpose", out, site.origins, x=codes, perm=(0, 2, 3, 1))
    return out


def from_nhwc(site: Site, nhwc: str, target: str) -> int:
    """Emit the Transpose that turns NHWC into the layout of `target`; returns its channel axis."""
    source = site.rw.values[nhwc]
    shape = site.rw.values[target].shape or ()
    if len(shape) == 3:
        n, _, w, c = source.shape or (0, 0, 0, 0)
        flat = site.rw.value(f"{nhwc}/nlc", (n, w, c), source.dtype, source.quant)
        site.rw.bpu("Reshape", flat, site.origins, x=nhwc)
        site.rw.bpu("Transpose", target, site.origins, x=flat, perm=(0, 2, 1))
    elif len(shape) == 5:
        n, c, *spatial = shape
        deep = site.rw.value(f"{nhwc}/ndhwc", (n, *spatial, c), source.dtype, source.quant)
        site.rw.bpu("Reshape", deep, site.origins, x=nhwc)
        site.rw.bpu("Transpose", target, site.origins, x=deep, perm=(0, 4, 1, 2, 3))
    else:
        site.rw.bpu("Transpose", target, site.origins, x=nhwc, perm=(0, 3, 1, 2))
    return 1
