"""From the user's float model to the float net that is calibrated and quantized."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from onnx import ModelProto

from openbpu.arch.errors import ModelError
from openbpu.arch.given_shapes import Shapes
from openbpu.quantization.onnx.affine import fold_affine
from openbpu.quantization.onnx.affine_grid import affine_grid_as_sums
from openbpu.quantization.onnx.axes import fixed
from openbpu.quantization.onnx.contrib import unfold_contrib
from openbpu.quantization.onnx.einsum import einsum_as_matmul
from openbpu.quantization.onnx.fold import fold_constants
from openbpu.quantization.onnx.gemms import gemm_as_matmul
from openbpu.quantization.onnx.given import read_given_pairs
from openbpu.quantization.onnx.load import ModelLike, load, valid
from openbpu.quantization.onnx.masks import finite_masks
from openbpu.quantization.onnx.net import Net, assemble
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL, raise_opset
from openbpu.quantization.onnx.parts import read_parts
from openbpu.quantization.onnx.patterns import fuse_patterns, opset_of_patterns
from openbpu.quantization.onnx.rewrite import (
    affine_to_depthwise,
    declare_made_types,
    declare_outputs,
    fold_gemm_factors,
    matmul_bias_to_gemm,
    multiply_instead_of_divide,
    name_nodes,
    reinfer,
    split_sums,
    uniform_to_scalar,
)
from openbpu.quantization.onnx.static import with_static_scales
from openbpu.quantization.onnx.typed import pair_what_moves, widen_given_biases

PIPELINE: tuple[Callable[[Net], Net], ...] = (
    fold_constants,  # the converter may have written computations of constants
    with_static_scales,  # before all that looks for products
    einsum_as_matmul,  # a product to everyone after this
    affine_grid_as_sums,  # in front of what infers the types of these
    uniform_to_scalar,  # before all that look for numbers
    split_sums,  # a Sum is an Add to everyone after this
    gemm_as_matmul,  # what is no linear layer
    multiply_instead_of_divide,
    reinfer,  # the sums' partial results have no type yet
    read_parts,  # what a Concat joins, for those who cut it out again
    fuse_patterns,  # before what takes the scales and shifts of norms for those of channels
    finite_masks,  # what is infinite in front of a Softmax
    matmul_bias_to_gemm,
    fold_gemm_factors,  # before folding affines, which expects alpha = beta = 1
    fold_affine,
    affine_to_depthwise,  # what the convolutions did not absorb …
    fold_affine,  # … now absorbs the scales and shifts behind it
    read_given_pairs,  # behind all that looks for operators and their readers
    pair_what_moves,  # …, where pairs are
    widen_given_biases,
    name_nodes,
    reinfer,
    declare_outputs,
)


def read(model: ModelLike | Net, shapes: Shapes | None = None) -> Net:
    """Return `model` taken apart: inputs of `shapes`, constants folded, outputs of the types they have."""
    loaded = model if isinstance(model, Net) else load(model)
    return declare_made_types(fold_constants(unfold_contrib(fixed(loaded, shapes))))


def prepare(model: ModelLike | Net, opset: int) -> Net:
    """Return `model` (or what `read` made of it) at `opset` or newer, folded and rewritten.

    What it computes is unchanged.
    """
    net = _raised(model if isinstance(model, Net) else read(model), opset)
    for rewrite in PIPELINE:
        net = rewrite(net)
    return net


def optimized(model: ModelLike, shapes: Shapes | None = None) -> ModelProto:
    """Return the float model as it is calibrated: folded, fused and rewritten, computing the same.

    Raises ModelError, and QuantizationError where it is no float32.
    """
    with valid(model):
        return assemble(prepare(read(model, shapes), OPSET_PER_CHANNEL))


def _raised(net: Net, opset: int) -> Net:
    """Return `net` at `opset`, or at a newer one where its patterns need that and ONNX can convert it."""
    wanted = opset_of_patterns(net)
    if wanted > opset:
        with contextlib.suppress(ModelError):
            return raise_opset(net, wanted)
    return raise_opset(net, opset)
