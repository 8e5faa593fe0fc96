"""`TensorQuantizer`: a module that calibrates, clips and quantizes what passes through it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.torch.lowlevel.calibrators import HistogramCalibrator, MaxCalibrator, reduce_amax
from openbpu.quantization.torch.lowlevel.descriptor import Axis, QuantDescriptor, ScaledQuantDescriptor
from openbpu.quantization.torch.lowlevel.functions import bounds, fake_tensor_quant, tensor_quant

_LOG = logging.getLogger(__name__)


class TensorQuantizer(nn.Module):
    """Quantizes its input as a descriptor says.

    quant_desc: how · disabled: let everything pass unchanged · if_quant, if_clip, if_calib: what `forward`
    does. The range is, in this order: learned, loaded from calibration, given by the descriptor, or that of
    the batch at hand. With fake_quant off the result is integers, and `scale` holds what they are divided by.
    """

    _amax: Any

    def __init__(
        self,
        quant_desc: ScaledQuantDescriptor | None = None,
        disabled: bool = False,
        if_quant: bool = True,
        if_clip: bool = False,
        if_calib: bool = False,
    ) -> None:
        super().__init__()
        desc = QuantDescriptor() if quant_desc is None else quant_desc
        self._desc = desc
        self._disabled, self._if_quant, self._if_clip, self._if_calib = disabled, if_quant, if_clip, if_calib
        self._scale: Any = None
        self.register_buffer("_amax", None if desc.amax is None else torch.from_numpy(desc.amax))
        self.clip_amax: Any = None
        if desc.learn_amax:
            self.init_learn_amax()
        self._calibrator = _calibrator(desc)

    @property
    def num_bits(self) -> int:
        """Width of the integers in bits."""
        return self._desc.num_bits

    @property
    def axis(self) -> Axis:
        """The axes with a range of their own."""
        return self._desc.axis

    @property
    def unsigned(self) -> bool:
        """Whether the integers start at 0."""
        return self._desc.unsigned

    @property
    def narrow_range(self) -> bool:
        """Whether the most negative integer is left out."""
        return self._desc.narrow_range

    @property
    def fake_quant(self) -> bool:
        """Whether the result is dequantized again."""
        return self._desc.fake_quant

    @property
    def maxbound(self) -> int:
        """The largest integer."""
        return bounds(self.num_bits, unsigned=self.unsigned)[1]

    @property
    def amax(self) -> Any:
        """The range before `scale_amax`, None while nobody knows it; settable."""
        return self._amax if self.clip_amax is None else self.clip_amax

    @amax.setter
    def amax(self, value: Any) -> None:
        found = torch.as_tensor(value, dtype=torch.float32).detach().clone()
        if self._amax is not None and self._amax.shape != found.shape:
            shapes = tuple(self._amax.shape), tuple(found.shape)
            raise TypeError(must("TensorQuantizer", "amax's shape", *shapes, "a range keeps its shape"))
        self._amax = found

    @property
    def scale(self) -> Any:
        """Integers per unit of the last integer result, or of the known range; None before either."""
        if not self.fake_quant:
            return self._scale
        return None if self.amax is None else self.maxbound / self._scaled(self.amax)

    @property
    def step_size(self) -> Any:
        """The distance of two neighbouring values, None while the range is not known."""
        if self.amax is None:
            _LOG.error("step_size is not defined under dynamic amax mode!")
            return None
        return self._scaled(self.amax) / self.maxbound

    def disable(self) -> None:
        """Let everything pass unchanged."""
        self._disabled = True

    def enable(self) -> None:
        """Do again what the other switches say."""
        self._disabled = False

    def disable_quant(self) -> None:
        """Stop quantizing; calibration and clipping go on."""
        self._if_quant = False

    def enable_quant(self) -> None:
        """Quantize."""
        self._if_quant = True

    def disable_clip(self) -> None:
        """Stop clipping to the learned range."""
        self._if_clip = False
        if self.clip_amax is not None:
            self.clip_amax.requires_grad_(False)

    def enable_clip(self) -> None:
        """Clip to the learned range, and train it."""
        self._if_clip = True
        if self.clip_amax is not None:
            self.clip_amax.requires_grad_(True)

    def disable_calib(self) -> None:
        """Stop looking at the data."""
        self._if_calib = False

    def enable_calib(self) -> None:
        """Look at the data; raises ValueError when the range is learned and there is nothing to calibrate."""
        if self._calibrator is None:
            raise ValueError(
                "TensorQuantizer: a learned range has no calibrator; build it with learn_amax=False"
            )
        self._if_calib = True

    def init_learn_amax(self) -> None:
        """Make the range a parameter, starting at the known one; raises TypeError for a range per channel."""
        if self._amax is not None and self._amax.numel() != 1:
            fix = "a learned range is one number per tensor"
            raise TypeError(must("TensorQuantizer", "amax", "a single number", tuple(self._amax.shape), fix))
        start = 1.0 if self._amax is None else float(self._amax)
        self.clip_amax = nn.Parameter(torch.tensor(start, dtype=torch.float32))
        self._if_clip = True

    def load_calib_amax(self, *args: Any, strict: bool = True, **options: Any) -> None:
        """Take the range from the calibrator; the other arguments are its `compute_amax`'s.

        Raises RuntimeError when nothing was collected, unless `strict` is off.
        """
        found = None if self._calibrator is None else self._calibrator.compute_amax(*args, **options)
        if found is None:
            text = "TensorQuantizer: no data was collected; call enable_calib() and run batches first"
            if strict:
                raise RuntimeError(text)
            _LOG.warning("%s", text)
            return
        self._amax = found.detach().clone()
        if self.clip_amax is not None:
            self.clip_amax.data.fill_(float(self._amax))

    def forward(self, inputs: Any) -> Any:
        """Calibrate, clip, quantize, whichever are switched on."""
        if self._disabled:
            return inputs
        if self._if_calib and self._calibrator is not None:
            self._calibrator.collect(inputs)
        outputs = self._clipped(inputs) if self._if_clip and self.clip_amax is not None else inputs
        return self._quantized(outputs) if self._if_quant else outputs

    def _clipped(self, x: Any) -> Any:
        """Clamp to ±amax in a way that amax gets the gradient of what it cut off."""
        high = self._scaled(self.clip_amax)
        low = torch.zeros_like(high) if self.unsigned else -high
        return torch.maximum(torch.minimum(x, high), low)

    def _quantized(self, x: Any) -> Any:
        amax = self._range_of(x)
        arguments = (x, amax, self.num_bits, self.unsigned, self.narrow_range)
        if self.fake_quant:
            return fake_tensor_quant(*arguments)
        integers, self._scale = tensor_quant(*arguments)
        return integers

    def _range_of(self, x: Any) -> Any:
        known = self.amax
        found = reduce_amax(x.detach(), self.axis) if known is None else known.detach()
        return self._scaled(found).to(x.device)

    def _scaled(self, amax: Any) -> Any:
        return amax if self._desc.scale_amax is None else amax * self._desc.scale_amax

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **options: Any) -> None:
        """A saved range loads into a quantizer that has none yet."""
        saved = state_dict.get(f"{prefix}_amax")
        if saved is not None and self._amax is None:
            self._amax = torch.empty_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    def extra_repr(self) -> str:
        """What `print(model)` shows of it."""
        if self._disabled:
            return "disabled"
        sign = "unsigned " if self.unsigned else ""
        narrow = "narrow " if self.narrow_range else ""
        fake = "fake" if self.fake_quant else "real"
        amax = "dynamic" if self.amax is None else f"{self.amax.detach().max():.4f}"
        switches = f"quant={self._if_quant} clip={self._if_clip} calib={self._if_calib}"
        return f"{sign}{self.num_bits}bit {narrow}{fake} axis={self.axis} amax={amax} {switches}"


def _calibrator(desc: ScaledQuantDescriptor) -> MaxCalibrator | HistogramCalibrator | None:
    """Return what finds the range; None when it is learned."""
    if desc.learn_amax:
        return None
    if desc.calib_method == "histogram":
        return HistogramCalibrator(desc.num_bits, desc.axis, desc.unsigned)
    return MaxCalibrator(desc.num_bits, desc.axis, desc.unsigned)
