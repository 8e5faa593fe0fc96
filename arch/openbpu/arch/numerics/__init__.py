"""The one definition of the integer arithmetic: quantize, accumulate, requantize, tables, row functions.

Quantization, constant folding and both simulators import it; nobody writes a second one. Kernels that must be
fast re-implement the *loops*, never the formulas, and tests hold them to these functions bit for bit.
"""

from openbpu.arch.numerics.between import BETWEEN_BITS, MAX_FINER, WEIGHT_BITS, between, weights
from openbpu.arch.numerics.chains import Real, pointwise
from openbpu.arch.numerics.fixed import (
    MAX_SHIFT,
    FixedPoint,
    fixed_point,
    fixed_point_sum,
    requantize,
    round_shift,
)
from openbpu.arch.numerics.lines import Parabola, code_bounds, line, parabola
from openbpu.arch.numerics.products import packed_params, product_factors, raw_bias, unpacked_params
from openbpu.arch.numerics.quantize import dequantize, nearest, observed_scale, quantize, unpacked_scales
from openbpu.arch.numerics.rows import (
    EXP_ENTRIES,
    MAX_NORM_LENGTH,
    MAX_NORMALIZED,
    MAX_SOFTMAX_LENGTH,
    MIN_EPSILON_SHIFT,
    MIN_NORM_STEP,
    MIN_PROBABILITY_STEP,
    exp_factor,
    exp_table,
    layernorm_rows,
    norm_bits,
    norm_epsilon,
    norm_unit,
    softmax_rows,
)
from openbpu.arch.numerics.tables import (
    MAX_SEGMENTS,
    RECIPROCAL_BITS,
    SEGMENT_SHARE,
    codes,
    reciprocal_table,
    segment_allowance,
    segment_error,
    segment_lut,
    segment_refusal,
    segment_table,
)

__all__ = [
    "BETWEEN_BITS",
    "EXP_ENTRIES",
    "MAX_FINER",
    "MAX_NORMALIZED",
    "MAX_NORM_LENGTH",
    "MAX_SEGMENTS",
    "MAX_SHIFT",
    "MAX_SOFTMAX_LENGTH",
    "MIN_EPSILON_SHIFT",
    "MIN_NORM_STEP",
    "MIN_PROBABILITY_STEP",
    "RECIPROCAL_BITS",
    "SEGMENT_SHARE",
    "WEIGHT_BITS",
    "FixedPoint",
    "Parabola",
    "Real",
    "between",
    "code_bounds",
    "codes",
    "dequantize",
    "exp_factor",
    "exp_table",
    "fixed_point",
    "fixed_point_sum",
    "layernorm_rows",
    "line",
    "nearest",
    "norm_bits",
    "norm_epsilon",
    "norm_unit",
    "observed_scale",
    "packed_params",
    "parabola",
    "pointwise",
    "product_factors",
    "quantize",
    "raw_bias",
    "reciprocal_table",
    "requantize",
    "round_shift",
    "segment_allowance",
    "segment_error",
    "segment_lut",
    "segment_refusal",
    "segment_table",
    "softmax_rows",
    "unpacked_params",
    "unpacked_scales",
    "weights",
]
