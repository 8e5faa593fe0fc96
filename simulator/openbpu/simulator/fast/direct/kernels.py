"""Convolution in 64 bits, one product at a time."""

from __future__ import annotations

from typing import Any

from openbpu.simulator.fast.direct.arguments import ConvAny
from openbpu.simulator.fast.language.lang import int64
from openbpu.simulator.fast.language.pointers import address_of, ld, p8, p16, p32, p64, st
from openbpu.simulator.fast.language.records import kernel
from openbpu.simulator.fast.layer.arguments import LANES, PARAM_BYTES
from openbpu.simulator.fast.layer.kernels import finish, saturate
from openbpu.simulator.fast.scratch import WIDE_AT


@kernel
def conv_any(args: ConvAny, lo: int, hi: int, scratch: Any) -> None:
    """Units are output pixels."""
    offsets, pixels, taps, kind = args.offsets, args.pixels, args.taps, args.x_kind
    channels, depth, per_group = args.channels, args.depth, args.per_group
    out = args.out
    tile, wide = p32(address_of(scratch)), p64(address_of(scratch) + WIDE_AT)
    for pixel in range(lo, hi):
        for start in range(0, channels, LANES):
            n = min(channels - start, LANES)
            for c in range(n):
                total = ld(args.bias, start + c)
                group = (start + c) // per_group
                for tap in range(taps):
                    x = args.x + int64(ld(offsets, tap * pixels + pixel)) + group * depth * kind
                    weights = p32(args.weights + 4 * (((start + c) * taps + tap) * depth))
                    for k in range(depth):
                        a = int64(ld(p8(x), k)) if kind == 1 else int64(ld(p16(x), k))
                        total += a * int64(ld(weights, k))
                st(wide, c, total)
            saturate(tile, wide, 1, LANES, n, args.saturations)
            y = out.y + pixel * out.y_pitch + start * out.y_kind
            r = out.r + pixel * out.r_pitch + start * (out.r_pitch // channels)
            params = args.params + (start // LANES) * PARAM_BYTES
            finish(out, address_of(scratch), 1, 1, n, params, y, r)
