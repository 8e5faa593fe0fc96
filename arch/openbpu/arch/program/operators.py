"""The operators of the BPU: one frozen dataclass per kind, whose docstring is its formula.

Tensors are row-major; spatial operators see NHWC. `inputs`, `outputs` and every field that ends in `_id` are
tensor ids of the program; an absent optional tensor is -1. An operator may see a tensor under another shape
of the same size (its geometry fields say which): row-major data does not move for that.

Common words: `rhe` rounds half to even; `sat32` clamps to int32; `clamp` means clamp(…, lo, hi);
`table[…]` is an optional 256-entry look-up after the clamp (`table_id`, indexed by y + 128, only for int8
results before the look-up); results are stored in the dtype of the output tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What every operator has: tensor ids, and `node` = index into the program's debug map (-1: none)."""

    inputs: Ints
    outputs: Ints
    node: int = -1

    def constants(self) -> Ints:
        """The ids of the constant tensors this operator reads beside its inputs."""
        return tuple(
            v
            for name in self.__dataclass_fields__
            if name.endswith("_id") and (v := getattr(self, name)) >= 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Operator):
    """TAE. y[n,oy,ox,c] = table[clamp(rhe(v / 2^shift[c]) + zero)]

    v = acc·mult[c] + (r − r_zero)·rmult[c] + offset[c];
    acc = sat32(Σ x[n, iy, ix, g·Cin/G + k]·w[c,ky,kx,k] + bias[c]).

    With u = o·stride + k·dilation − pad per axis, the input position is u / upsample when u is a non-negative
    multiple of `upsample` inside the input; every other position reads `pad_value`: those outside, and the
    gaps between upsampled elements.

    inputs: x [N,H,W,Cin] int8|int16, optionally residual r [N,OH,OW,Cout]; weight_id: [Cout,KH,KW,Cin/G]
    int8|int16; params_id: int32 [Cout,4] = bias, mult, offset, shift, or [Cout,5] with the high word of a
    64-bit offset behind them; rmult_id: int64 [Cout] when there is a residual. `raw`: the output is int32 acc
    itself (no requantization, no table, no residual). `wide`: the weights do not prove that acc fits int32,
    so it must be accumulated in 64 bits before sat32. pads: top, left, bottom, right in output-of-upsample
    positions.
    """

    weight_id: int
    params_id: int
    rmult_id: int = -1
    table_id: int = -1
    x_shape: Ints  # N, H, W, Cin
    y_shape: Ints  # N, OH, OW, Cout
    kernel: Ints  # KH, KW
    strides: Ints = (1, 1)
    pads: Ints = (0, 0, 0, 0)
    dilations: Ints = (1, 1)
    upsample: Ints = (1, 1)
    groups: int = 1
    pad_value: int = 0
    r_zero: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127
    raw: bool = False
    wide: bool = False

    @property
    def terms(self) -> int:
        """Products that one element of y sums; the gaps between upsampled elements multiply nothing."""
        taps = (-(-k // u) for k, u in zip(self.kernel, self.upsample, strict=True))
        return prod(taps) * (self.x_shape[3] // self.groups)

    @property
    def multiply_adds(self) -> int:
        """Products of the whole layer."""
        return prod(self.y_shape) * self.terms


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Operator):
    """TAE. y[b,m,n] = table[clamp(rhe((acc·mult + offset) / 2^shift) + zero)]

    acc = sat32(Σ_k (a[b,m,k] − a_zero)·(b[b,k,n] − b_zero)).
    a [A,M,K], b [B,K,N] or, when `b_transposed`, [B,N,K]; A = B or one of them is 1 (then it is shared).
    `raw`: the output is int32 acc. `wide` as in Conv.
    """

    table_id: int = -1
    a_batch: int
    b_batch: int
    m: int
    k: int
    n: int
    b_transposed: bool = False
    a_zero: int = 0
    b_zero: int = 0
    mult: int = 0
    offset: int = 0
    shift: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127
    raw: bool = False
    wide: bool = False

    @property
    def terms(self) -> int:
        """Products that one element of y sums."""
        return self.k

    @property
    def multiply_adds(self) -> int:
        """Products of the whole layer."""
        return max(self.a_batch, self.b_batch) * self.m * self.n * self.terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Operator):
    """VAE. y = table[clamp(rhe(v / 2^shift) + zero)] with, for a' = a − a_zero and b' = b − b_zero,

    fn "add":   v = a'·mult_a + b'·mult_b + offset
    fn "mul":   v = a'·b'·mult_a + offset
    fn "max" / "min": v = max|min(a'·mult_a, b'·mult_b) + offset
    fn "prelu": v = a'·mult_a + offset where a' >= 0, a'·b'·mult_b + offset elsewhere

    The output is dense row-major of `shape`; a and b are read with element strides, 0 where broadcast.
    """

    table_id: int = -1
    fn: str
    shape: Ints
    a_strides: Ints
    b_strides: Ints
    a_zero: int = 0
    b_zero: int = 0
    mult_a: int = 0
    mult_b: int = 0
    offset: int = 0
    shift: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Lut(Operator):
    """VAE. y = table[x + 128] for int8 x; 256 entries of the output's dtype (any quantized one)."""

    table_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLut(Operator):
    """VAE. int16 x to int8|int16 y: `numerics.segment_lut(x, segments)`, at most 64 lines.

    segments_id: int64 [S,4] = first x of the segment, base, slope, shift; segment s covers
    first[s] <= x < first[s+1] and the last one the rest:
    y = clamp(rhe((base[s] + (x − first[s])·slope[s]) / 2^shift[s]), lo, hi).
    """

    segments_id: int
    lo: int
    hi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale(Operator):
    """VAE. y = clamp(rhe(((x − x_zero)·mult + offset) / 2^shift) + zero): another scale or dtype."""

    x_zero: int = 0
    mult: int
    offset: int = 0
    shift: int
    zero: int = 0
    lo: int
    hi: int


MAX_WINDOW = 1 << 18
"""Positions of the largest window of a Pool: four times what any march allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool(Operator):
    """AAE. x [N,H,W,C] → y [N,OH,OW,C] over the positions of the window that lie inside the input.

    fn "max": y = clamp(rhe((max(x) − x_zero)·mult / 2^shift) + zero), mult and shift of row 0.
    fn "avg": y = clamp(rhe(Σ(x − x_zero)·mult[count] / 2^shift[count]) + zero), `count` = how many positions
    lie inside the input, or with `count_pad` inside the padded input.

    counts_id: int64 [KH·KW+1, 2] = mult, shift by count, or [1, 2] for "max". KH·KW is at most MAX_WINDOW.
    """

    counts_id: int
    fn: str
    x_shape: Ints
    y_shape: Ints
    kernel: Ints
    strides: Ints = (1, 1)
    pads: Ints = (0, 0, 0, 0)
    dilations: Ints = (1, 1)
    count_pad: bool = False
    x_zero: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Operator):
    """VAE. x [A,R,B] → y [A,B].

    fn "sum": y = clamp(rhe(sat32(Σ_r (x − x_zero))·mult / 2^shift) + zero); a mean has 1 / R in mult.
    fn "max" | "min": y = clamp(rhe((max|min_r(x) − x_zero)·mult / 2^shift) + zero).
    """

    fn: str
    shape: Ints  # A, R, B
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Operator):
    """VAE. `numerics.softmax_rows` over the last axis of x [A,R], with the fields below as arguments."""

    exp_id: int
    shape: Ints  # A, R
    mult: int
    shift: int
    out_mult: int
    out_shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm(Operator):
    """VAE. `numerics.layernorm_rows` over the last axis of x [A,R], with the fields below as arguments.

    gain_id: int64 [R] or [1], bias_id: int64 [R] or [1], in the fixed point that numerics defines; x_zero is
    taken from x first and `centred` is False for an RMS normalization. epsilon / 2^epsilon_shift is in the
    units of the row's power: `numerics.norm_epsilon`.
    """

    gain_id: int
    bias_id: int
    shape: Ints  # A, R
    epsilon: int = 0
    epsilon_shift: int = 0
    centred: bool = True
    x_zero: int = 0
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Operator):
    """TRANS. y[i] = x[offset + Σ i·strides] for i over `shape`; y is dense.

    Transposes, slices, flips, expansions. Strides and offset count elements of x and may be 0 or negative.
    """

    shape: Ints
    strides: Ints
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Operator):
    """VAE/DMA. Input i, seen as [A, sizes[i]], fills its columns of y [A, Σ sizes], each element rescaled:

    y = clamp(rhe((x − x_zeros[i])·mults[i] / 2^shifts[i]) + zero, lo, hi); mults[i] = 0 copies the bits.
    """

    outer: int
    sizes: Ints
    x_zeros: Ints
    mults: Ints
    shifts: Ints
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Operator):
    """TRANS. y is x inside a border of `value`: before[d] elements in front of axis d, after[d] behind it."""

    shape: Ints  # of x
    before: Ints
    after: Ints
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Operator):
    """TRANS. y[a,i,b] = x[a, indices[i], b]; x [A,R,B]; indices_id: int32 [I], each in 0..R−1."""

    indices_id: int
    shape: Ints  # A, R, B


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Operator):
    """AAE. Bilinear x [N,H,W,C] → y [N,OH,OW,C]; rows (y0, y1, f) and columns (x0, x1, g), f and g in Q30.

    across: h[j] = `numerics.between`(x[yj,x0] − x_zero, x[yj,x1] − x_zero, g, 15), in Q15;
    down:   v = `numerics.between`(h[0], h[1], f, 30), in Q15;
    y = clamp(rhe(v·mult / 2^shift) + zero).    rows_id: int32 [OH,3], cols_id: int32 [OW,3].
    """

    rows_id: int
    cols_id: int
    x_shape: Ints
    y_shape: Ints
    x_zero: int = 0
    mult: int
    shift: int
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Operator):
    """VPU. y = clamp(rhe(x / scale) + zero) of float32 x, divided in float32; `scale` is a float32."""

    scale: float
    zero: int = 0
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantize(Operator):
    """VPU. y[a,c,b] = float32(x[a,c,b] − x_zero)·scale[c] + offset[c], each step in float32.

    scales_id: float32 [C] = scale, or [C,2] = scale, offset where there are offsets (what a bias has left
    beside whole steps of an accumulator); C may be 1.
    """

    scales_id: int
    shape: Ints  # A, C, B
    x_zero: int = 0


OPERATORS: tuple[type[Operator], ...] = (
    Conv,
    MatMul,
    Binary,
    Lut,
    SegmentLut,
    Rescale,
    Pool,
    Reduce,
    Softmax,
    LayerNorm,
    Move,
    Concat,
    Pad,
    Gather,
    Resize,
    Quantize,
    Dequantize,
)
"""Every kind of operator, in the order `.hbm` files number them."""
