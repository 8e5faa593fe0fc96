"""QConfigs of torch's own: a pair of factories, of our fake quantizers or of torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType, as_qdtype, qint8
from openbpu.quantization.torch.errors import PrepareError, QuantizationWarning
from openbpu.quantization.torch.fake_quantize import FakeQuantize
from openbpu.quantization.torch.observers import (
    FixedScaleObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    Observer,
    PerChannelMinMaxObserver,
)
from openbpu.quantization.torch.qconfig import Factory, QConfig, fake_quant
from openbpu.quantization.torch.scope import warn_user

_OBSERVERS: dict[str, type[Observer]] = {
    "MinMaxObserver": MinMaxObserver,
    "MovingAverageMinMaxObserver": MovingAverageMinMaxObserver,
    "PerChannelMinMaxObserver": PerChannelMinMaxObserver,
    "MovingAveragePerChannelMinMaxObserver": MovingAveragePerChannelMinMaxObserver,
    "HistogramObserver": HistogramObserver,
}
_NOTHING = ("Identity", "NoopObserver", "PlaceholderObserver")


def as_qconfig(config: Any, path: str) -> QConfig | None:
    """Return a QConfig: itself, or what torch.ao.quantization's means here; None is float.

    Raises PrepareError for anything else, and for a quantizer that has no counterpart.
    """
    if config is None or isinstance(config, QConfig):
        return config
    if not (hasattr(config, "activation") and hasattr(config, "weight")):
        fix = "use get_qconfig, a default_…_qconfig, torch's QConfig, or None for float"
        raise PrepareError(must(path, "the qconfig", "a QConfig of openbpu or None", repr(config), fix))
    return QConfig(_translated(config.activation, path), _translated(config.weight, path))


def _translated(factory: Callable[..., Any] | None, path: str) -> Factory | None:
    if factory is None:
        return None
    made: Any = factory()
    if isinstance(made, FakeQuantize):
        return factory
    observer = getattr(made, "activation_post_process", made)
    kind = type(observer).__name__
    if isinstance(made, nn.Identity) or kind in _NOTHING:
        return None
    dtype = _dtype(observer, path)
    if kind == "FixedQParamsObserver":
        return fake_quant(FixedScaleObserver, dtype, scale=float(observer.scale))
    if kind not in _OBSERVERS:
        allowed = f"one of {', '.join(_OBSERVERS)}"
        raise PrepareError(must(path, "the qconfig's observer", allowed, kind, "use openbpu's QConfig"))
    more = {n: getattr(observer, n) for n in ("averaging_constant",) if hasattr(observer, n)}
    axis = int(getattr(observer, "ch_axis", -1)) if "PerChannel" in kind else -1
    return fake_quant(_OBSERVERS[kind], dtype, ch_axis=axis, **more)


def _dtype(observer: Any, path: str) -> QDType:
    """The signed dtype of as many bits; an unsigned or affine grid is named, since the BPU has none."""
    word = str(observer.dtype).removeprefix("torch.")
    try:
        dtype = as_qdtype(word.replace("uint", "int"))
    except ValueError as error:
        raise PrepareError(f"{path}: {error}") from error
    if "uint" in word or "affine" in str(getattr(observer, "qscheme", "")):
        text = f"{path}: the BPU has no {word} with a zero point; the quantizer is symmetric {dtype} instead"
        warn_user(text, QuantizationWarning)
    return dtype if dtype.bits in {8, 16} else qint8
