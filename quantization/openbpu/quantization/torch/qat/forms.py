"""Which torch functions in a forward are prepared as more than one operator with one scale."""

from __future__ import annotations

from typing import Any

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.bound import (
    Conv1dForm,
    Conv2dForm,
    ConvTranspose2dForm,
    LinearForm,
    PReLUForm,
)
from openbpu.quantization.torch.qat.decomposed import Form
from openbpu.quantization.torch.qat.norm import (
    GroupNormForm,
    InstanceNormForm,
    LayerNormForm,
    NormalizeForm,
    RMSNormForm,
)
from openbpu.quantization.torch.qat.rows import AttentionForm, GLUForm, LogSoftmaxForm

FORMS: dict[str, type[Form]] = {
    "layer_norm": LayerNormForm,
    "rms_norm": RMSNormForm,
    "group_norm": GroupNormForm,
    "instance_norm": InstanceNormForm,
    "normalize": NormalizeForm,
    "log_softmax": LogSoftmaxForm,
    "glu": GLUForm,
    "scaled_dot_product_attention": AttentionForm,
    "linear": LinearForm,
    "conv1d": Conv1dForm,
    "conv2d": Conv2dForm,
    "conv_transpose2d": ConvTranspose2dForm,
    "prelu": PReLUForm,
}
"""Name of a function → the class of its module."""


def made_for(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The module of a function called with these arguments: its form, or a FloatFunctional."""
    form = FORMS.get(name)
    return FloatFunctional() if form is None else form.of(*args, **kwargs)
