"""Direct convolution as a step."""

from __future__ import annotations

import numpy as np

from openbpu.simulator.fast.direct.arguments import ConvAny
from openbpu.simulator.fast.layer.indirection import late_offsets, whole_window
from openbpu.simulator.fast.layer.plan import Layer, out_of
from openbpu.simulator.fast.plan.steps import Lowering, Saturations


def add_direct(layer: Layer, low: Lowering) -> None:
    """Append the kernel that takes any convolution, slowly."""
    op = layer.op
    pixels, weights, bias = whole_window(layer)
    channels, depth = op.y_shape[3], weights.shape[3]
    arguments = ConvAny(
        x=layer.x, offsets=late_offsets(layer, pixels, low), pixels=pixels.shape[1], taps=pixels.shape[0],
        x_kind=layer.x_dtype.nbytes,
        weights=np.ascontiguousarray(weights.reshape(channels, -1).astype(np.int32)), channels=channels,
        depth=depth, per_group=channels // op.groups, params=layer.requant.params(real=layer.finish.real),
        bias=bias, saturations=Saturations(), out=out_of(layer, low),
    )  # fmt: skip
    low.add(arguments, layer.out_rows, layer.macs() * 1.0)
