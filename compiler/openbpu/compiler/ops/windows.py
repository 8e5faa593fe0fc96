"""Windows of convolutions and pools along their spatial axes, and as the rows and columns that units have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openbpu.arch.shapes import same_pads
from openbpu.compiler.ops.site import Refused, Site

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A window along one axis: sizes of input and output, and padding in front and behind, in elements."""

    size: int = 1
    out: int = 1
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether every output is the input at its place."""
        return (self.kernel, self.stride, self.before, self.after, self.out) == (1, 1, 0, 0, self.size)


@dataclass(frozen=True, slots=True)
class Window:
    """Geometry of a convolution or pool as 2-D: (h, w) pairs; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


def spans(site: Site, kernel: Ints) -> tuple[Span, ...]:
    """Return what a kernel spans along every spatial axis, by the node's attributes (auto_pad resolved)."""
    rank = len(kernel)
    if rank not in (1, 2, 3):
        raise Refused(
            f"only windows over 1, 2 or 3 axes run on the BPU, not over {rank}", "reshape to three axes"
        )
    attrs = site.node.attrs
    strides = tuple(attrs.get("strides") or (1,) * rank)
    dilations = tuple(attrs.get("dilations") or (1,) * rank)
    pads = _pads(site, kernel, strides, dilations)
    sizes = site.shape()[2:], site.out_shape()[2:]
    parts = zip(*sizes, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    return tuple(Span(*part) for part in parts)


def _pads(site: Site, kernel: Ints, strides: Ints, dilations: Ints) -> Ints:
    auto = site.node.attrs.get("auto_pad", "NOTSET")
    rank = len(kernel)
    if auto in ("NOTSET", ""):
        return tuple(site.node.attrs.get("pads") or (0,) * (2 * rank))
    if auto == "VALID":
        return (0,) * (2 * rank)
    upper = auto != "SAME_LOWER"
    return same_pads(site.shape()[2:], site.out_shape()[2:], kernel, strides, dilations, upper=upper)


def flat(found: Sequence[Span]) -> Window:
    """Return the window of rows and columns; one of a single axis has a height of 1."""
    h, w = found if len(found) == 2 else (Span(), *found)
    return Window(
        (h.kernel, w.kernel),
        (h.stride, w.stride),
        (h.dilation, w.dilation),
        (h.before, w.before, h.after, w.after),
    )
