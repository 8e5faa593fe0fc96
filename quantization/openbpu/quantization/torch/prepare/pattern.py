"""Finds what can share one rounding in the record of a forward pass, and fuses it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.prepare.fuse import replace_module
from openbpu.quantization.torch.qat import Simple, Weighted
from openbpu.quantization.torch.trace import Recorder, Step

_RELU = ("relu", "relu6")


@dataclass(slots=True)
class Patterns:
    """The steps of one forward, and the model they came from."""

    model: nn.Module
    recorder: Recorder

    def fuse(self) -> None:
        """Fuse every conv [+bn] [+add] [+relu] whose intermediate results nobody else reads."""
        for step in self.recorder.steps:
            if isinstance(step.module, Weighted) and self.once(step):
                self.fuse_from(step)

    def fuse_from(self, step: Step) -> None:
        """Fuse what follows one convolution."""
        conv = step.module
        follower = self.follower(step)
        if follower is not None and follower.name == "batch_norm" and conv.takes_norm:
            conv.fuse(bn=self.taken(follower))
            conv.absorbed += (follower.path,)
            step, follower = follower, self.follower(follower)
        if follower is None:
            return
        if follower.name in _RELU:
            self.into_relu(conv, follower)
        elif self.takes_residual(follower):
            conv.raw, conv.rounded_by = True, (follower.module,)
            follower.module.takes_raw = True
            behind = self.follower(follower)
            if behind is not None and behind.name in _RELU:
                follower.module.raw, follower.module.rounded_by = True, (behind.module,)

    def into_relu(self, conv: Weighted, follower: Step) -> None:
        """Take a ReLU module into the convolution; a functional one rounds for it."""
        if isinstance(follower.module, Simple):
            conv.fuse(relu=self.taken(follower))
            conv.absorbed += (follower.path,)
        else:
            conv.raw, conv.rounded_by = True, (follower.module,)

    def taken(self, step: Step) -> nn.Module:
        """Take the float module of a step out of the model; an Identity stays."""
        module: nn.Module = step.module
        module.__class__ = type(module).__bases__[1]
        replace_module(self.model, step.path, nn.Identity())
        return module

    def takes_residual(self, step: Step) -> bool:
        """Whether a step adds two tensors of one shape and has no fused operand yet."""
        if step.name != "add" or not isinstance(step.module, FloatFunctional) or step.module.takes_raw:
            return False
        shapes = {self.shape(i) for i in step.reads}
        return len(step.reads) == 2 and shapes == {step.shape}

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of the result of a step."""
        return self.recorder.steps[index].shape if index >= 0 else ()

    def follower(self, step: Step) -> Step | None:
        """The one step that reads the result of `step`, if it is one module called once."""
        if len(step.users) != 1:
            return None
        found = self.recorder.steps[step.users[0]]
        return found if found.module is not None and self.once(found) else None

    def once(self, step: Step) -> bool:
        """Whether the module of a step is called once in a forward."""
        return self.recorder.called.get(id(step.module), 0) == 1
