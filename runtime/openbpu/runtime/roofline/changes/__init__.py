"""The changes that a user can make, one row each: to which operators it applies, and what they cost then.

A row re-evaluates the timing rules; it never states a gain of its own. Accuracy is not weighed here: int8 or
another layer may need training.
"""

from __future__ import annotations

from openbpu.runtime.roofline.changes import array, ends, traffic, vector
from openbpu.runtime.roofline.changes.base import Change, dropped
from openbpu.runtime.roofline.changes.traffic import BATCH

__all__ = ["BATCH", "CHANGES", "Change"]

CHANGES: tuple[Change, ...] = (
    Change(
        "layout at the ends",
        "no layout moves at the ends: --remove-io quantize,dequantize,transpose",
        ends.layout_end,
        dropped,
    ),
    Change("conversion at the ends", "--remove-io quantize,dequantize", ends.conversion, ends.unconverted),
    Change("batch", f"a batch of {BATCH} by image (--batch {BATCH})", traffic.batch, traffic.batched),
    Change("int8", "int8 instead of int16", vector.wide, vector.narrow),
    Change("same scale", "one scale where layers only rescale", vector.rescales, dropped),
    Change("layout inside", "no layout moves between layers", ends.layout_inside, dropped),
    Change("softmax", "softmax rows half as long", vector.softmax, vector.half_rows),
    Change("normalization", "BatchNormalization instead of LayerNormalization", vector.norm, dropped),
    Change("function", "functions that fuse into the layer before", vector.table, dropped),
    Change("on chip", "feature maps small enough to stay on chip", traffic.spilled, traffic.on_chip),
    Change("kernel", "kernels of 5 and more smaller by 2", array.kernel, array.small_kernels),
    Change("input lanes", "input channels in whole blocks of lanes", array.input_lanes, array.fewer_inputs),
    Change(
        "output lanes", "output channels in whole blocks of lanes", array.output_lanes, array.fewer_outputs
    ),
)
"""Options and settings come first, changes of the model last: of equal gains the first one is advised."""
