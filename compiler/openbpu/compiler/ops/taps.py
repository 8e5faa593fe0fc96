"""Taps laid side by side along the channels: what no unit's window reaches becomes channels of a smaller one.

x [N, D, H, W, C]   becomes   y [N·OD, H, W, KD·C]   with   y[od, (a, c)] = x[od·stride + a·dilation − pad, c]

A convolution sums over taps and channels alike: the accumulator is the same, bit by bit, and so is its one
rounding. The depth of a volume is laid out so, and kernels that are wider than the march's. Where nothing
but the depth is spanned, it is the rows of an image, and nothing is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from openbpu.compiler.ir import Array
from openbpu.compiler.ops.pieces import Ints, bordered, joined, taken, viewed
from openbpu.compiler.ops.site import Site
from openbpu.compiler.ops.windows import Span

_DEPTH, _ROWS, _COLUMNS = 1, 2, 3
"""Axes of [N, D, H, W, C]."""


@dataclass(frozen=True, slots=True)
class Step:
    """Lays `pieces` parts of what `span` covers along `axis` side by side along the channels.

    The parts are copies, shifted by as many taps as each holds; or, where it `folds`, the elements of one
    stride, which lie side by side already.
    """

    axis: int
    span: Span
    pieces: int
    folds: bool = False

    @property
    def taps(self) -> int:
        """Taps that stay a window."""
        return -(-self.span.kernel // self.pieces)

    @property
    def left(self) -> Span:
        """The window on what this step makes."""
        out, taps = self.span.out, self.taps
        if self.folds:
            return Span(out - 1 + taps, out, taps)
        if taps == 1:
            return Span(out, out)
        reach = (out - 1) * self.span.stride + (taps - 1) * self.span.dilation + 1
        return Span(reach, out, taps, self.span.stride, self.span.dilation)

    def parts(self) -> list[range]:
        """Return the positions in the input of every part; some may lie outside."""
        if self.folds:
            return [range(-self.span.before, self.left.size * self.pieces - self.span.before)]
        step = self.span.stride if self.taps == 1 else 1
        starts = [i * self.taps * self.span.dilation - self.span.before for i in range(self.pieces)]
        return [range(start, start + self.left.size * step, step) for start in starts]

    def weight(self, w: Array) -> Array:
        """Lay out a weight [O, I, KD, KH, KW] likewise; what fills up the last part is 0."""
        at = self.axis + 1
        spare = self.pieces * self.taps - self.span.kernel
        filled = np.pad(w, [(0, spare if axis == at else 0) for axis in range(w.ndim)])
        split = (self.taps, self.pieces) if self.folds else (self.pieces, self.taps)
        apart = filled.reshape(*w.shape[:at], *split, *w.shape[at + 1 :])
        moved = np.moveaxis(apart, at + self.folds, 1)
        return moved.reshape(w.shape[0], self.pieces * w.shape[1], *moved.shape[3:])


@dataclass(frozen=True, slots=True)
class Plan:
    """How [N, D, H, W, C] becomes images that a convolution of rows and columns takes.

    `view` is N, D, H, W in front of the steps, where the depth is upsampled by `gaps`. Behind them: `images`
    in number, upsampled by `upsample` and spanned by `rows` and `columns`, `channels` per group.
    """

    view: Ints
    steps: tuple[Step, ...]
    rows: Span
    columns: Span
    channels: int
    images: int
    gaps: int = 1
    upsample: tuple[int, int] = (1, 1)

    @property
    def image(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return _apart(self.rows, self.upsample[0]), _apart(self.columns, self.upsample[1])

    @property
    def result(self) -> Ints:
        """N, OH, OW of the result."""
        return self.images, self.rows.out, self.columns.out

    def weight(self, w: Array) -> Array:
        """Weight [O, I, *K] as [O, KH, KW, I] of the images."""
        kernel = (1,) * (5 - w.ndim) + w.shape[2:]
        if self.is_turned(kernel):
            kernel = (1, kernel[0], 1)
        laid = w.reshape(*w.shape[:2], *kernel)
        for step in self.steps:
            laid = step.weight(laid)
        return np.ascontiguousarray(laid[:, :, 0].transpose(0, 2, 3, 1))

    def is_turned(self, kernel: Ints) -> bool:
        """Whether the depth of a kernel [KD, KH, KW] is the rows of the images."""
        return kernel[0] > 1 and not any(step.axis == _DEPTH for step in self.steps)


def _apart(span: Span, gaps: int) -> int:
    """How many elements are that long with gaps between them."""
    return (span.size - 1) // gaps + 1


def planned(
    site: Site, found: Sequence[Span], channels: int, groups: int = 1, upsample: Sequence[int] = ()
) -> Plan:
    """Return how a convolution with these spans, over `channels` per group, becomes one of images.

    The sizes of the spans are those of the upsampled input.
    """
    batch, ups = site.shape()[0], (*(1,) * (3 - len(upsample)), *upsample)
    d, h, w = (*(Span(),) * (3 - len(found)), *found)
    if not d.is_plain and h.is_plain and w.is_plain and ups[1:] == (1, 1):
        d, h, w, ups = Span(), d, Span(size := h.size * w.size, size), (1, ups[0], 1)
    view = (batch, *(_apart(span, gaps) for span, gaps in zip((d, h, w), ups, strict=True)))
    steps: list[Step] = []
    if not d.is_plain:
        steps.append(Step(_DEPTH, d, d.kernel))
    for axis, span in ((_ROWS, h), (_COLUMNS, w)) if not upsample else ():
        steps += _narrowed(site, axis, span, channels * prod(s.pieces for s in steps), groups)
    left = {step.axis: step.left for step in steps}
    rows, columns = left.get(_ROWS, h), left.get(_COLUMNS, w)
    many = channels * prod(step.pieces for step in steps)
    return Plan(view, tuple(steps), rows, columns, many, batch * d.out, ups[0], (ups[1], ups[2]))


def _narrowed(site: Site, axis: int, span: Span, channels: int, groups: int) -> list[Step]:
    """The steps that bring a kernel within the march's."""
    most, steps = site.limit("conv_kernel_max"), list[Step]()
    strided = axis == _COLUMNS and groups == span.dilation == 1 < span.stride
    if span.kernel > most and strided and span.stride * channels <= site.limit("conv_channels_max"):
        steps.append(Step(axis, span, span.stride, folds=True))
        span = steps[0].left
    if span.kernel > most:
        steps.append(Step(axis, span, -(-span.kernel // most)))
    return steps


def laid_out(site: Site, plan: Plan, last: str, groups: int, zero: int) -> str:
    """Emit the steps of a plan on codes that are channels last, padded with `zero`; returns NHWC."""
    channels = (site.rw.values[last].shape or ())[-1]
    if not plan.steps and plan.gaps == 1:
        return viewed(site, last, (plan.images, *plan.image, channels))
    x = viewed(site, last, (*plan.view, channels), "ndhwc")
    x = _spread(site, plan, x, zero)
    for step in plan.steps:
        x = _laid(site, step, x, groups, zero)
    channels = (site.rw.values[x].shape or ())[-1]
    return viewed(site, x, (plan.images, *plan.image, channels))


def _spread(site: Site, plan: Plan, x: str, zero: int) -> str:
    """Put gaps of zero points between the slices of the depth."""
    if plan.gaps == 1:
        return x
    n, d, h, w, c = site.rw.values[x].shape or ()
    apart = bordered(site, viewed(site, x, (n, d, 1, h * w * c), "apart"), 2, (0, plan.gaps - 1), zero)
    spread = viewed(site, apart, (n, d * plan.gaps, h, w, c), "spread")
    return taken(site, spread, _DEPTH, range((d - 1) * plan.gaps + 1))


def _laid(site: Site, step: Step, x: str, groups: int, zero: int) -> str:
    """Emit one step; its parts lie side by side within every group of channels."""
    parts, size = step.parts(), step.span.size
    low, high = min(p[0] for p in parts), max(p[-1] for p in parts)
    front, back = max(-low, 0), max(high - size + 1, 0)
    x = bordered(site, x, step.axis, (front, back), zero)
    cuts = [taken(site, x, step.axis, [i + front for i in part]) for part in parts]
    n, d, h, w, c = site.rw.values[cuts[0]].shape or ()
    if step.folds:
        return viewed(site, cuts[0], (n, d, h, w // step.pieces, c * step.pieces), "folded")
    apart = (n, d, h, w, groups, c // groups) if groups > 1 else (n, d, h, w, c)
    views = [viewed(site, cut, apart, "groups") for cut in cuts]
    return viewed(site, joined(site, views, len(apart) - 1, "taps"), (n, d, h, w, c * len(parts)), "taps")
