"""prepare: a float model becomes one that observes and fake-quantizes."""

from openbpu.quantization.torch.prepare.api import PrepareMethod, prepare, prepare_qat, prepare_qat_fx
from openbpu.quantization.torch.prepare.fuse import fuse_fx, fuse_known_modules, fuse_modules

__all__ = [
    "PrepareMethod",
    "fuse_fx",
    "fuse_known_modules",
    "fuse_modules",
    "prepare",
    "prepare_qat",
    "prepare_qat_fx",
]
