"""The geometry that convolution and pooling share: kernels sliding over padded axes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from openbpu.evaluation.reference.kernel import Call


@dataclass(frozen=True, slots=True)
class Window:
    """One spatial axis: sizes in elements, padding before and after."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil: bool = False

    @property
    def extent(self) -> int:
        """Elements the dilated kernel spans."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def outputs(self) -> int:
        """Positions of the kernel; with ceil, none that starts in the padding after."""
        room = self.size + self.before + self.after - self.extent
        count = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        if self.ceil and (count - 1) * self.stride >= self.size + self.before:
            count -= 1
        return count

    @property
    def overhang(self) -> int:
        """Elements that the last position needs beyond the padding after (ceil only)."""
        last = (self.outputs - 1) * self.stride + self.extent
        return max(0, last - (self.size + self.before + self.after))

    def taps(self, offset: int) -> slice:
        """Where in the padded axis the kernel's element ``offset`` falls, for every position."""
        first = offset * self.dilation
        return slice(first, first + (self.outputs - 1) * self.stride + 1, self.stride)


def _same(window: Window, upper: bool) -> Window:
    """SAME_UPPER / SAME_LOWER: as many outputs as ceil(size / stride)."""
    outputs = -(-window.size // window.stride)
    total = max(0, (outputs - 1) * window.stride + window.extent - window.size)
    small, large = total // 2, total - total // 2
    before, after = (small, large) if upper else (large, small)
    return replace(window, before=before, after=after, ceil=False)


def windows(call: Call, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[Window, ...]:
    """The windows of a Conv or a pool, from its attributes."""
    rank = len(sizes)
    strides = call.attr("strides") or [1] * rank
    dilations = call.attr("dilations") or [1] * rank
    pads = call.attr("pads") or [0] * (2 * rank)
    auto = call.attr("auto_pad", "NOTSET")
    ceil = bool(call.attr("ceil_mode", 0))
    found = []
    for i in range(rank):
        before, after = (pads[i], pads[i + rank]) if auto == "NOTSET" else (0, 0)
        window = Window(sizes[i], kernel[i], strides[i], dilations[i], before, after, ceil)
        found.append(_same(window, auto == "SAME_UPPER") if auto.startswith("SAME") else window)
    return tuple(found)
