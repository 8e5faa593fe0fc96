"""torch.einsum of two operands as one matrix product between reshapes."""

from __future__ import annotations

import math
from typing import Any

import torch

from openbpu.quantization.einsum import Product, parsed
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qat.bound import LinearForm
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form


class EinsumForm(Decomposed, Form):
    """Operands as [batch, rows, summed] and [batch, summed, columns]; other equations stay one operator."""

    @classmethod
    def of(cls, equation: Any, *operands: Any, **_: Any) -> Any:
        """The product, or a FloatFunctional."""
        plan = parsed(equation) if isinstance(equation, str) and len(operands) == 2 else None
        if plan is None:
            return FloatFunctional()
        made = cls()
        made.swapped = is_constant(operands[0])
        made.plan = plan.turned() if made.swapped else plan
        weighted = not plan.batch and any(is_constant(x) for x in operands)
        made.product = LinearForm.of(None, None) if weighted else FloatFunctional()
        return made

    def last(self) -> Any:
        """The product makes the result."""
        return self.product

    def forward(self, equation: str, left: Any, right: Any) -> Any:
        """The sum of products over the letters that the result lacks."""
        del equation
        plan: Product = self.plan
        if self.swapped:
            left, right = right, left
        sizes = {
            **dict(zip(plan.left, left.shape, strict=True)),
            **dict(zip(plan.right, right.shape, strict=True)),
        }
        a = _arranged(left, plan.left, (plan.batch, plan.rows, plan.summed), sizes)
        b = _arranged(right, plan.right, (plan.batch, plan.summed, plan.columns), sizes)
        if isinstance(self.product, LinearForm):
            y = self.product(a, b[0].transpose(0, 1))
        else:
            y = self.product.matmul(a, b)
        order = plan.batch + plan.rows + plan.columns
        y = y.reshape([sizes[c] for c in order])
        return y.permute([order.index(c) for c in plan.out])


def _arranged(x: Any, letters: str, groups: tuple[str, str, str], sizes: dict[str, int]) -> torch.Tensor:
    order = "".join(groups)
    moved = x.permute([letters.index(c) for c in order])
    return moved.reshape([math.prod(sizes[c] for c in group) for group in groups])
