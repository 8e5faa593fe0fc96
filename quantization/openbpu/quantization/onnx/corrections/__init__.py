"""Corrections: what wins back accuracy after ranges are known, without training. Each is optional.

    cross-layer equalisation   float net: channels whose range is small are widened, what reads them narrowed
    adaptive rounding          weights are rounded so that products, not weights, are closest
    bias correction            the mean shift that rounding gives a product is taken off its bias

In this order: ranges are taken behind the first, and the last corrects what the others leave.
"""

from openbpu.quantization.onnx.corrections.choose import Correction, Corrections

__all__ = ["Correction", "Corrections"]
