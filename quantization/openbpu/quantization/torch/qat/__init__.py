"""Modules of a prepared model: the float module's class with a quantizer behind (and one for the weight)."""

from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qat.forms import FORMS
from openbpu.quantization.torch.qat.simple import SIMPLE, Simple
from openbpu.quantization.torch.qat.table import is_leaf, swap
from openbpu.quantization.torch.qat.weighted import WEIGHTED, Weighted

__all__ = ["FORMS", "SIMPLE", "WEIGHTED", "Decomposed", "Form", "Simple", "Weighted", "is_leaf", "swap"]
