"""Which float module becomes which prepared one."""

from __future__ import annotations

from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.attention import MultiheadAttention
from openbpu.quantization.torch.qat.batch import BATCH_STATISTICS, has_statistics
from openbpu.quantization.torch.qat.decomposed import Decomposed
from openbpu.quantization.torch.qat.norm import GroupNorm, LayerNorm, RMSNorm
from openbpu.quantization.torch.qat.recurrent import RECURRENT
from openbpu.quantization.torch.qat.rows import LogSoftmax
from openbpu.quantization.torch.qat.simple import SIMPLE
from openbpu.quantization.torch.qat.transformer import CONTAINERS
from openbpu.quantization.torch.qat.weighted import WEIGHTED
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.segment_lut import SegmentLUT
from openbpu.quantization.torch.stubs import DeQuantStub, QATDeQuantStub, QATQuantStub, QuantStub

_FOREIGN_STUBS = {"QuantStub": QATQuantStub, "DeQuantStub": QATDeQuantStub}
_DECOMPOSED = {
    nn.LayerNorm: LayerNorm,
    nn.RMSNorm: RMSNorm,
    nn.GroupNorm: GroupNorm,
    nn.LogSoftmax: LogSoftmax,
    nn.MultiheadAttention: MultiheadAttention,
    **RECURRENT,
}
_OWN = {QuantStub: QATQuantStub, DeQuantStub: QATDeQuantStub, **_DECOMPOSED}


def swapped_class(module: nn.Module) -> type[Quantized] | None:
    """The prepared class of a float module; None for containers and what computes nothing."""
    kind = type(module)
    if kind.__name__ in _FOREIGN_STUBS and kind.__module__.startswith("torch."):
        return _FOREIGN_STUBS[kind.__name__]
    if kind in BATCH_STATISTICS and not has_statistics(module):
        return BATCH_STATISTICS[kind]
    found: type[Quantized] | None = _OWN.get(kind) or WEIGHTED.get(kind) or SIMPLE.get(kind)
    return found


def swap(module: nn.Module) -> bool:
    """Give `module` its prepared class in place; parameters, buffers and hooks stay. False if it has none."""
    if isinstance(module, Quantized):
        return False
    found = swapped_class(module)
    if found is None:
        module.__class__ = CONTAINERS.get(type(module), type(module))
        return False
    module.__class__ = found
    if found is QATQuantStub:
        module.__dict__.setdefault("scale", None)
        module.__dict__.setdefault("zero_point", None)
    if issubclass(found, Decomposed):
        module.decompose()
    return True


def is_leaf(module: nn.Module) -> bool:
    """Whether a module of a prepared model is an operator, not a container of operators."""
    return isinstance(module, (Quantized, FloatFunctional, SegmentLUT))
