"""What each torch function does to a QTensor, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MOVED = {
    "Identity": _words(
        """
        alpha_dropout clone contiguous cpu cuda detach dropout dropout2d dropout3d feature_dropout
        identity requires_grad
        """
    ),
    "Reshape": _words(
        """
        atleast_1d atleast_2d atleast_3d flatten ravel reshape reshape_as squeeze unflatten unsqueeze
        view view_as
        """
    ),
    "Transpose": _words("T mT moveaxis movedim permute swapaxes swapdims t transpose"),
    "Slice": _words("diagonal flip getitem narrow roll rot90 select slice"),
    "Split": _words("chunk split split_with_sizes tensor_split unbind"),
    "Gather": _words("gather index_select take_along_dim unfold"),
    "Expand": _words("broadcast_to expand expand_as repeat_interleave"),
    "Tile": _words("repeat tile"),
    "DepthToSpace": _words("channel_shuffle pixel_shuffle"),
    "SpaceToDepth": _words("pixel_unshuffle"),
    "MaxPool": _words(
        """
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d max_pool2d max_pool3d
        """
    ),
    "Pad": _words("pad"),
}
"""What only moves values, by the ONNX operator that does (`arch.onnx_ops`); most are exported as it."""

MOVES = frozenset[str]().union(*MOVED.values()) | {"masked_select", "tril", "triu"}
"""They move or select values: the result keeps scale and dtype."""

QUERIES = _words(
    """
    size dim stride numel nelement is_contiguous is_floating_point is_complex element_size
    storage_offset get_device argmax argmin isnan isinf isfinite all any count_nonzero nonzero
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty
    new_tensor is_same_size is_nonzero allclose equal sort topk argsort register_hook retain_grad
    backward is_inference type_as is_pinned data_ptr untyped_storage has_names broadcast_tensors
    shape_as_tensor is_nested is_sparse is_meta is_mkldnn is_conj is_neg layout names itemsize nbytes
    """
)
"""They answer with something that is not quantized."""

COMPARISONS = _words(
    """
    eq ne lt le gt ge equal less less_equal greater greater_equal not_equal isclose logical_not
    logical_and logical_or logical_xor
    """
)
"""They give plain bool tensors."""

TABLED = {
    "eq": "Equal",
    "lt": "Less",
    "less": "Less",
    "le": "LessOrEqual",
    "less_equal": "LessOrEqual",
    "gt": "Greater",
    "greater": "Greater",
    "ge": "GreaterOrEqual",
    "greater_equal": "GreaterOrEqual",
}
"""Comparisons that may stand in a table, and their ONNX operators."""

COMPUTES = _words(
    """
    add sub rsub mul div matmul bmm cat stack sum mean amax amin max min maximum minimum exp log sqrt
    rsqrt reciprocal pow abs neg sin cos tan asin acos atan sinh cosh tanh sigmoid erf floor ceil round
    sign relu relu6 clamp leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh
    softplus softsign threshold softmax log_softmax layer_norm avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate prelu where masked_fill
    var_mean square cumsum grid_sample linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d scaled_dot_product_attention group_norm instance_norm glu einsum rms_norm logsigmoid
    log1p expm1 addmm baddbmm std var normalize asinh acosh atanh tanhshrink hardshrink softshrink clamp_min
    clamp_max norm logsumexp cosine_similarity
    """
)
"""They compute: each gets a quantizer of its own behind it."""

_ALIAS = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "negative": "neg",
    "concat": "cat",
    "concatenate": "cat",
    "mm": "matmul",
    "clip": "clamp",
    "absolute": "abs",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "upsample": "interpolate",
    "invert": "logical_not",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
    "special_expit": "sigmoid",
    "log_sigmoid": "logsigmoid",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
}
REFLECTED = frozenset({"radd", "rsub", "rmul", "rdiv", "rtruediv", "rmatmul", "rpow"})


def name_of(func: Callable[..., Any]) -> str:
    """Return the canonical name of a torch function: `torch.Tensor.__iadd__` and `torch.add` are "add"."""
    raw = getattr(func, "__name__", "")
    if raw == "__get__":
        return str(getattr(getattr(func, "__self__", None), "__name__", raw))
    dunder = raw.startswith("__") and raw.endswith("__")
    name = str(raw.strip("_"))
    if dunder and name in {"iadd", "isub", "imul", "idiv", "itruediv", "ipow", "imatmul"}:
        name = name[1:]
    return _ALIAS.get(name, name)
