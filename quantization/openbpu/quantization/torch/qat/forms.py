"""Which torch functions in a forward are prepared as more than one operator with one scale."""

from __future__ import annotations

from typing import Any

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.attention import AttentionForm
from openbpu.quantization.torch.qat.bound import (
    Conv1dForm,
    Conv2dForm,
    Conv3dForm,
    ConvTranspose1dForm,
    ConvTranspose2dForm,
    ConvTranspose3dForm,
    LinearForm,
    MatmulForm,
    PReLUForm,
)
from openbpu.quantization.torch.qat.choice import Choice, MaskForm, SubtractedMaskForm
from openbpu.quantization.torch.qat.constant import ConstantForm
from openbpu.quantization.torch.qat.decomposed import Form
from openbpu.quantization.torch.qat.einsum import EinsumForm
from openbpu.quantization.torch.qat.joined import JoinForm
from openbpu.quantization.torch.qat.norm import (
    GroupNormForm,
    InstanceNormForm,
    LayerNormForm,
    NormalizeForm,
    RMSNormForm,
)
from openbpu.quantization.torch.qat.rows import GLUForm, LogSoftmaxForm
from openbpu.quantization.torch.qat.sampled import SampleForm
from openbpu.quantization.torch.qat.spread import (
    CosineForm,
    LogSumExpForm,
    NormForm,
    StdForm,
    VarForm,
    VarMeanForm,
)
from openbpu.quantization.torch.qtensor.dispatch import makes_modules

FORMS: dict[str, type[Form | Choice | ConstantForm | JoinForm | SampleForm]] = {
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
    "conv3d": Conv3dForm,
    "conv_transpose1d": ConvTranspose1dForm,
    "conv_transpose2d": ConvTranspose2dForm,
    "conv_transpose3d": ConvTranspose3dForm,
    "prelu": PReLUForm,
    "matmul": MatmulForm,
    "einsum": EinsumForm,
    "add": MaskForm,
    "sub": SubtractedMaskForm,
    **dict.fromkeys(("cat", "stack"), JoinForm),
    "grid_sample": SampleForm,
    "where": Choice,
    "masked_fill": Choice,
    "var": VarForm,
    "std": StdForm,
    "var_mean": VarMeanForm,
    "norm": NormForm,
    "logsumexp": LogSumExpForm,
    "cosine_similarity": CosineForm,
    **dict.fromkeys(("mul", "maximum", "minimum"), ConstantForm),
}
"""Name of a function → the class of its module."""


@makes_modules
def made_for(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The module of a function called with these arguments: its form, or a FloatFunctional."""
    form = FORMS.get(name)
    return FloatFunctional() if form is None else form.of(*args, **kwargs)
