"""Fusing: convolution, BatchNorm, addition and ReLU share one rounding.

The six forms: conv+bn, conv+relu, conv+add, conv+bn+relu, conv+bn+add, conv+bn+relu+add (the ReLU behind the
addition), and the same with linear layers where no BatchNorm is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.keywords import refuse_unknown
from openbpu.quantization.torch.qat import WEIGHTED, Weighted
from openbpu.quantization.torch.qat.batch import has_statistics

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_RELUS = (nn.ReLU, nn.ReLU6)
_CONVS = tuple(WEIGHTED)


def fuse_known_modules(mod_list: Sequence[nn.Module], *_: Any, **__: Any) -> list[nn.Module]:
    """Fuse modules that run one after the other; returns as many, with Identity where one was fused away.

    [conv, bn?, FloatFunctional?, relu?]: BatchNorm and ReLU go into the convolution, which then computes all
    of it; a FloatFunctional (add) keeps its place, takes the ReLU, and the convolution's result is not
    rounded in front of it. Usable as `fuser_func` of torch.quantization.fuse_modules.
    """
    conv, *rest = mod_list
    if not isinstance(conv, (*_CONVS, Fused)):
        raise PrepareError(
            f"fuse_modules: the first module must be a convolution or Linear, not {_names(mod_list)}"
        )
    fused = conv if isinstance(conv, Fused) else Fused(conv)
    result: list[nn.Module] = [fused]
    adder: FloatFunctional | None = None
    for module in rest:
        if isinstance(module, _NORMS) and adder is None and fused.relu is None and has_statistics(module):
            fused.bn = module
        elif isinstance(module, _RELUS) and adder is None:
            fused.relu = module
        elif isinstance(module, _RELUS) and adder is not None:
            adder.fused_relu = module
        elif isinstance(module, FloatFunctional) and adder is None:
            adder = module
            fused.raw, fused.rounded_by = True, (module,)
        else:
            raise PrepareError(
                f"fuse_modules: {_names(mod_list)} is none of conv+bn, conv+relu, conv+add, conv+bn+relu, "
                "conv+bn+add, conv+bn+add+relu"
            )
        result.append(module if module is adder else nn.Identity())
    return result


def _names(modules: Sequence[nn.Module]) -> str:
    return "+".join(type(m).__name__ for m in modules)


class Fused(nn.Module):
    """A convolution with what was fused behind it, still in float: relu(bn(conv(x)))."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn: nn.Module | None = None
        self.relu: nn.Module | None = None
        self.raw = False
        self.rounded_by: tuple[nn.Module, ...] = ()

    def forward(self, x: Any) -> Any:
        """Run the parts one after the other."""
        y = self.conv(x)
        y = y if self.bn is None else self.bn(y)
        return y if self.relu is None else self.relu(y)

    def unfolded(self) -> nn.Module:
        """The prepared module this becomes: the convolution's, with the parts inside."""
        conv = self.conv
        conv.__class__ = WEIGHTED[type(conv)]
        if not isinstance(conv, Weighted):
            raise PrepareError(f"{type(conv).__name__} cannot be fused")
        conv.fuse(bn=self.bn, relu=self.relu)
        conv.raw, conv.rounded_by = self.raw, self.rounded_by
        if "qconfig" in self.__dict__:
            conv.qconfig = self.__dict__["qconfig"]
        return conv


def fuse_modules(
    model: nn.Module,
    modules_to_fuse: Sequence[str] | Sequence[Sequence[str]],
    inplace: bool = False,
    fuser_func: Callable[..., Sequence[nn.Module]] = fuse_known_modules,
    **options: Any,
) -> nn.Module:
    """Fuse lists of module names (paths below `model`) and return the model; unknown options are refused."""
    refuse_unknown("fuse_modules", options, ("fuse_custom_config_dict", "keep_hooks", "is_qat"))
    target = model if inplace else deepcopy(model)
    lists = [modules_to_fuse] if all(isinstance(n, str) for n in modules_to_fuse) else modules_to_fuse
    for names in lists:
        found = [_found(target, str(name)) for name in names]
        for name, module in zip(names, fuser_func(found), strict=True):
            replace_module(target, str(name), module)
    return target


def _found(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(path for path, _ in model.named_modules() if path)
        raise PrepareError(
            f"fuse_modules: the name must be a module of {type(model).__name__} ({known}), not '{name}'"
        ) from error


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def fuse_fx(model: nn.Module, *_: Any, **__: Any) -> nn.Module:
    """Return the model as it is: prepare and prepare_qat_fx find what can be fused by themselves."""
    return model
