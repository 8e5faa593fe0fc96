"""Let `timm` be imported on a machine that has no torchvision.

timm needs torchvision for image pipelines, which no fixture uses, but imports it at the top of its modules.
`install` puts the few names those imports reach into `sys.modules` unless torchvision is present.
"""

import enum
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from torch import nn


class FrozenBatchNorm2d(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Only compared against with `isinstance`; never built."""


class ToTensor:
    """Only subclassed, by timm's own transforms; never called."""


class InterpolationMode(enum.Enum):
    """The names timm's table of resampling filters is keyed on."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class Dataset:
    """Only listed, in timm's table of data sets; never built."""


DATASETS = ("CIFAR100", "CIFAR10", "MNIST", "KMNIST", "FashionMNIST", "ImageFolder")
NAMES: dict[str, dict[str, type]] = {
    "torchvision": {},
    "torchvision.datasets": dict.fromkeys(DATASETS, Dataset),
    "torchvision.ops": {},
    "torchvision.ops.misc": {"FrozenBatchNorm2d": FrozenBatchNorm2d},
    "torchvision.transforms": {"ToTensor": ToTensor},
    "torchvision.transforms.functional": {"InterpolationMode": InterpolationMode},
}


def install() -> bool:
    """Register the stub modules; False if torchvision (or the stub) is already importable."""
    if importlib.util.find_spec("torchvision") is not None:
        return False
    for name, members in NAMES.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, loader=None, is_package=True)
        module.__path__ = []
        vars(module).update(members)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    return True
