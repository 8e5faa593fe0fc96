"""QConfig: which quantizers a module gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType, as_qdtype, qint8, qint16
from openbpu.quantization.torch.fake_quantize import FakeQuantize
from openbpu.quantization.torch.observers import (
    FixedScaleObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    MSEObserver,
    Observer,
    PerChannelMinMaxObserver,
)

Factory = Callable[..., FakeQuantize]


@dataclass(frozen=True)
class QConfig:
    """Quantizer factories of a module.

    activation: of its result; None is high precision (no quantizer). weight: of its weight. input: of its
    inputs, one for all or one each, where those must differ from what the operators in front give.
    calibration: made for calibrating, so training with it is a mistake worth a warning.
    """

    activation: Factory | None = None
    weight: Factory | None = None
    input: Factory | Sequence[Factory | None] | None = None
    calibration: bool = False

    def __call__(self) -> QConfig:
        """Itself: the vendor's defaults are written with and without a call."""
        return self

    def with_output(self, factory: Factory | None) -> QConfig:
        """The same with another quantizer for the result."""
        return replace(self, activation=factory)


_OF_A_QUANTIZER = frozenset({"observer", "dtype", "ch_axis", "scale", "fix_scale", "saturate"})


def changed(factory: Any, **keywords: Any) -> Any:
    """The same factory with other keywords.

    Another dtype has another grid, and another observer takes none of the first one's arguments.
    """
    kept = dict(getattr(factory, "keywords", {}))
    if "dtype" in keywords:
        kept.pop("quant_min", None), kept.pop("quant_max", None)
    if "observer" in keywords:
        kept = {k: v for k, v in kept.items() if k in _OF_A_QUANTIZER}
    made = getattr(factory, "func", factory)
    return partial(made, *getattr(factory, "args", ()), **{**kept, **keywords})


def is_fixed(factory: Any) -> bool:
    """Whether a factory's quantizers have a scale that is given."""
    keywords = getattr(factory, "keywords", {})
    return keywords.get("observer") is FixedScaleObserver or keywords.get("scale") is not None


def dtype_of(factory: Any) -> QDType:
    """The dtype of a factory's quantizers."""
    given = getattr(factory, "keywords", {}).get("dtype")
    return as_qdtype(given) if given is not None else factory().dtype


def fake_quant(observer: type[Observer], dtype: QDType | str, **kwargs: Any) -> Factory:
    """Return a factory of FakeQuantize."""
    return partial(FakeQuantize, observer=observer, dtype=as_qdtype(dtype), **kwargs)


def weight_fake_quant(dtype: QDType | str = qint8, **kwargs: Any) -> Factory:
    """Per output channel, always the present extremes."""
    given = {"averaging_constant": 1.0, "ch_axis": 0, **kwargs}
    return fake_quant(MovingAveragePerChannelMinMaxObserver, dtype, **given)


def get_qconfig(
    observer: type[Observer] = MSEObserver,
    in_dtype: QDType | str | None = None,
    weight_dtype: QDType | str | None = qint8,
    out_dtype: QDType | str | None = qint8,
    fix_scale: bool | float | None = None,
    calibration: bool | None = None,
) -> QConfig:
    """Return a QConfig by dtypes; out_dtype None is high precision.

    fix_scale: True keeps in training the scale of the result that calibration or a checkpoint gave; a number
    is that scale.
    """
    given = None if isinstance(fix_scale, bool) else fix_scale
    kind: Any = observer
    if not (isinstance(kind, type) and issubclass(kind, Observer)):
        raise TypeError(must("get_qconfig", "observer", "a class such as MSEObserver", repr(observer)))
    if given is not None and not 0 < given < float("inf"):
        raise ValueError(must("get_qconfig", "fix_scale", "a number above 0", fix_scale))
    if fix_scale not in {None, False} and out_dtype is None:
        raise ValueError("get_qconfig: fix_scale fixes the result's scale, so out_dtype must be given")
    out: Factory | None = None
    kept = {"fix_scale": True} if fix_scale is True else {}
    if out_dtype is not None:
        out = fake_quant(observer, out_dtype, **kept)
        if given is not None:
            out = fake_quant(FixedScaleObserver, out_dtype, scale=given)
    moving = issubclass(observer, MovingAverageMinMaxObserver) and observer is MovingAverageMinMaxObserver
    return QConfig(
        activation=out,
        weight=None if weight_dtype is None else weight_fake_quant(weight_dtype),
        input=None if in_dtype is None else fake_quant(observer, in_dtype, **kept),
        calibration=not (moving or kept) if calibration is None else calibration,
    )


_OBSERVERS: dict[str, type[Observer]] = {
    "min_max": MinMaxObserver,
    "mse": MSEObserver,
    "moving_average": MovingAverageMinMaxObserver,
}


_OF_WEIGHTS: tuple[Any, ...] = (
    "min_max",
    "moving_average",
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)


def get_default_qconfig(
    activation_fake_quant: str | None = "fake_quant",
    weight_fake_quant: str | None = "fake_quant",
    activation_observer: str | type[Observer] = "min_max",
    weight_observer: str | type[Observer] = "min_max",
    activation_qkwargs: dict[str, Any] | None = None,
    weight_qkwargs: dict[str, Any] | None = None,
) -> QConfig:
    """Return a QConfig by observer names ("min_max", "mse", "moving_average") and quantizer arguments."""
    kwargs, weight_kwargs = dict(activation_qkwargs or {}), dict(weight_qkwargs or {})
    observer = (
        _OBSERVERS.get(activation_observer) if isinstance(activation_observer, str) else activation_observer
    )
    if observer is None:
        raise ValueError(
            f"activation_observer must be one of {', '.join(_OBSERVERS)}, not {activation_observer}"
        )
    if weight_observer not in _OF_WEIGHTS:
        allowed = '"min_max" or an observer of extremes: every channel of a weight takes its own'
        raise ValueError(must("get_default_qconfig", "weight_observer", allowed, repr(weight_observer)))
    dtypes = kwargs.pop("dtype", qint8), weight_kwargs.pop("dtype", qint8)
    out = fake_quant(observer, dtypes[0], **kwargs) if activation_fake_quant else None
    weight = globals()["weight_fake_quant"](dtypes[1], **weight_kwargs) if weight_fake_quant else None
    return QConfig(out, weight, calibration=observer is not MovingAverageMinMaxObserver)


def _default(dtype: QDType, *, calibration: bool, out: bool) -> QConfig:
    observer: type[Observer] = MSEObserver if calibration else MovingAverageMinMaxObserver
    return QConfig(
        activation=None if out else fake_quant(observer, dtype),
        weight=weight_fake_quant(qint8),
        calibration=calibration,
    )


default_qat_8bit_fake_quant_qconfig = _default(qint8, calibration=False, out=False)
default_qat_8bit_weight_16bit_act_fake_quant_qconfig = _default(qint16, calibration=False, out=False)
default_qat_16bit_fake_quant_qconfig = _default(qint16, calibration=False, out=False)
default_qat_out_8bit_fake_quant_qconfig = _default(qint8, calibration=False, out=True)
default_qat_8bit_weight_32bit_out_fake_quant_qconfig = default_qat_out_8bit_fake_quant_qconfig
default_qat_out_16bit_fake_quant_qconfig = _default(qint16, calibration=False, out=True)
default_calib_8bit_fake_quant_qconfig = _default(qint8, calibration=True, out=False)
default_calib_8bit_weight_16bit_act_fake_quant_qconfig = _default(qint16, calibration=True, out=False)
default_calib_16bit_fake_quant_qconfig = _default(qint16, calibration=True, out=False)
default_calib_out_8bit_fake_quant_qconfig = _default(qint8, calibration=True, out=True)
default_calib_8bit_weight_32bit_out_fake_quant_qconfig = default_calib_out_8bit_fake_quant_qconfig
default_calib_out_16bit_fake_quant_qconfig = _default(qint16, calibration=True, out=True)


def get_default_qat_qconfig(dtype: QDType | str = qint8) -> QConfig:
    """Quantization-aware training: moving averages of the extremes."""
    return _default(as_qdtype(dtype), calibration=False, out=False)


def get_default_qat_out_qconfig(dtype: QDType | str = qint8) -> QConfig:
    """As `get_default_qat_qconfig`, for a last layer: its result is not quantized (high precision)."""
    return _default(as_qdtype(dtype), calibration=False, out=True)


def get_default_calib_qconfig(dtype: QDType | str = qint8) -> QConfig:
    """Calibration: the clipping of least mean squared error."""
    return _default(as_qdtype(dtype), calibration=True, out=False)


def get_default_calib_out_qconfig(dtype: QDType | str = qint8) -> QConfig:
    """As `get_default_calib_qconfig`, for a last layer in high precision."""
    return _default(as_qdtype(dtype), calibration=True, out=True)
