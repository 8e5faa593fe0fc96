"""FakeQuantize: rounds values to a grid on the way, observes them, or both, as its state says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.dtype import QDType, as_qdtype, qint8
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.observers import (
    FixedScaleObserver,
    MovingAverageMinMaxObserver,
    Observer,
)
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.rounding import fake_quantize
from openbpu.quantization.torch.scope import here, scope


class FakeQuantState(Enum):
    """CALIBRATION observes only · QAT observes and fake-quantizes · VALIDATION fake-quantizes only.

    FLOAT does neither: what debugging compares with.
    """

    CALIBRATION = "calibration"
    QAT = "qat"
    VALIDATION = "validation"
    FLOAT = "float"


@dataclass(slots=True)
class ModelState:
    """What all fake quantizers of one prepared model share: the state, batches seen in it, warnings given.

    modes: the train() and eval() calls since the last batch. calibrating: a qconfig is one for calibration.
    trained: a batch ran in train(). members: how many quantizers share this.
    """

    state: FakeQuantState | None = None
    batches: int = 0
    modes: list[bool] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)
    calibrating: bool = False
    trained: bool = False
    members: int = 0


class FakeQuantize(nn.Module):
    """x → clamp(round(x / scale)) · scale, symmetric, with a clipped straight-through gradient.

    `scale` (float32 [1] or [C]) comes from the observer, or is fixed by `scale=`; with `fix_scale` training
    keeps what calibration, or a checkpoint, found. In a model whose state was never set it behaves as in QAT
    while training, and fake-quantizes only in eval().
    """

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(
        self,
        observer: Callable[..., Observer] = MovingAverageMinMaxObserver,
        dtype: QDType | str = qint8,
        ch_axis: int = -1,
        scale: float | None = None,
        fix_scale: bool = False,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__()
        self.fix_scale = fix_scale
        self.dtype, self.ch_axis = as_qdtype(dtype), ch_axis
        self.quant_min, self.quant_max = self.dtype.min, self.dtype.max
        if scale is not None:
            observer, observer_kwargs = FixedScaleObserver, {"scale": scale}
        self.activation_post_process = observer(dtype=self.dtype, ch_axis=ch_axis, **observer_kwargs)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int64))
        self.own: FakeQuantState | None = None
        self.shared = ModelState()
        self.used = False  # whether a forward has rounded with this scale
        self.observed_as: Callable[[torch.Tensor], torch.Tensor] | None = None  # what of a tensor counts
        if self.fixed:
            self.take_qparams()

    @classmethod
    def with_args(cls, **kwargs: Any) -> Callable[..., FakeQuantize]:
        """Return a factory with some arguments given."""
        return partial(cls, **kwargs)

    # --- state ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> FakeQuantState:
        """The state in force."""
        chosen = self.own or self.shared.state
        if chosen is not None:
            return chosen
        return FakeQuantState.QAT if self.training else FakeQuantState.VALIDATION

    @property
    def observing(self) -> bool:
        """Whether a forward moves the scale now."""
        kept = self.fix_scale and self.state is FakeQuantState.QAT
        return self.state in _OBSERVES and not scope.exporting and not self.fixed and not kept

    @property
    def fixed(self) -> bool:
        """Whether the scale is given and never observed."""
        return self.activation_post_process.fixed_scale is not None

    @property
    def initial(self) -> bool:
        """Whether the scale is still the initial 1 because nothing was observed or loaded."""
        return not self.fixed and not self.activation_post_process.observed and bool((self.scale == 1).all())

    @property
    def fake_quant_enabled(self) -> torch.Tensor:
        """[1] when values are rounded."""
        return torch.tensor([int(self.state in _ROUNDS)], dtype=torch.uint8)

    @property
    def observer_enabled(self) -> torch.Tensor:
        """[1] when values are observed."""
        return torch.tensor([int(self.state in _OBSERVES)], dtype=torch.uint8)

    def set_state(self, state: FakeQuantState | None) -> None:
        """Give this quantizer a state of its own; None follows the model's."""
        self.own = state

    # --- values -------------------------------------------------------------------------------------------

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Observe and round `x` (plain) as the state says; returns a plain tensor."""
        state = self.state
        if self.observing:
            self.observe(x)
        if state not in _ROUNDS:
            return x
        self.used = True
        return fake_quantize(x, self.scale, self.zero_point, self.quant_min, self.quant_max, self.ch_axis)

    def forward(self, x: Any) -> QTensor:
        """As `rounded`, with the result as a QTensor."""
        plain = x.plain if isinstance(x, QTensor) else x
        if not plain.is_floating_point():
            raise PrepareError(
                f"{here()}: FakeQuantize takes float values, not {plain.dtype}; convert with .to(torch.float)"
            )
        return QTensor(self.rounded(plain), self.scale.detach(), self.zero_point, self.dtype, self.ch_axis)

    def observe(self, x: torch.Tensor) -> None:
        """Look at `x` once whatever the state is, and take its scale."""
        if not self.fixed:
            self.activation_post_process(x if self.observed_as is None else self.observed_as(x))
            self.take_qparams()

    def take_qparams(self) -> None:
        """Take the scale that the observer proposes now."""
        scale, zero_point = self.activation_post_process.calculate_qparams()
        device = self.scale.device
        self.zero_point = zero_point.to(device)
        self.set_scale(scale.to(device))

    def set_scale(self, scale: torch.Tensor) -> None:
        """Round with this scale from now on."""
        self.scale = scale

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (scale, zero_point) in force."""
        return self.scale, self.zero_point

    # --- housekeeping -------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> FakeQuantize:
        """Set the training flag; tells the model's state that the mode was changed."""
        super().train(mode)
        self.shared.modes.append(mode)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("scale", "zero_point"):
            value = state_dict.get(prefix + name)
            if value is not None and not self.fixed:
                start = torch.empty_like(value)
                self.set_scale(start) if name == "scale" else setattr(self, name, start)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """As the vendor prints it."""
        kind = "per_tensor" if self.ch_axis < 0 else "per_channel"
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, "
            f"quant_min={self.quant_min}, quant_max={self.quant_max}, dtype={self.dtype}, "
            f"qscheme=torch.{kind}_symmetric, ch_axis={self.ch_axis}, "
            f"scale={self.scale}, zero_point={self.zero_point}"
        )


_ROUNDS = (FakeQuantState.QAT, FakeQuantState.VALIDATION)
_OBSERVES = (FakeQuantState.QAT, FakeQuantState.CALIBRATION)


def fake_quantizers(model: nn.Module) -> list[tuple[str, FakeQuantize]]:
    """Every FakeQuantize of a model with its path."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, FakeQuantize)]


def unobserved(model: nn.Module, *, used: bool = False) -> list[str]:
    """Paths of the quantizers that saw no data; with `used` only those that a forward has rounded with."""
    found = fake_quantizers(model)
    return [name for name, q in found if q.initial and (q.used or not used)]


def nothing_observed(model: nn.Module) -> bool:
    """Whether no scale of a model comes from data or a checkpoint."""
    return all(q.initial for _, q in fake_quantizers(model) if not q.fixed)


def set_fake_quantize(model: nn.Module, state: FakeQuantState) -> None:
    """Put every fake quantizer of a prepared model, or of a part of one, into `state`.

    Raises PrepareError for a float model, and for a converted one, which can only be in VALIDATION.
    """
    if not isinstance(state, FakeQuantState):
        raise PrepareError(f"set_fake_quantize: state must be a FakeQuantState, not {state!r}")
    found = fake_quantizers(model)
    if not found:
        raise PrepareError("set_fake_quantize: the model has no fake quantizers; call prepare first")
    if state is not FakeQuantState.VALIDATION and any(getattr(m, "integer", False) for m in model.modules()):
        raise PrepareError(
            f"set_fake_quantize: a converted model must be in FakeQuantState.VALIDATION, not {state}: it "
            "computes in integers; calibrate or train the model that convert was given"
        )
    whole = len(found) >= found[0][1].shared.members
    for _, quantizer in found:
        quantizer.own = None if whole else state
        if not whole:
            continue
        shared = quantizer.shared
        shared.state, shared.batches = state, 0
        shared.modes.clear()
        shared.warned.clear()
