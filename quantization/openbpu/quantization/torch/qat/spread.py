"""Functions of rows that measure them: var, std, norm, logsumexp, cosine_similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qat.norm import InverseRoot
from openbpu.quantization.torch.qat.rows import log_above_one
from openbpu.quantization.torch.segment_lut import SegmentLUT


def positive_root(x: torch.Tensor) -> torch.Tensor:
    """sqrt(max(x, 0))."""
    return torch.sqrt(torch.relu(x))


def _asked(
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    **_: Any,
) -> tuple[Any, float, bool]:
    """(axes, how many of n are lost, keepdim) of the arguments that torch.var takes behind the tensor."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return dim, float(unbiased) if correction is None else float(correction), keepdim


class VarForm(Decomposed, Form):
    """torch.var, Tensor.var and, with `root`, std: mean, sub, mul, mean, a factor, a root."""

    root = False

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> VarForm:
        """Return a module with the parts that a call with these arguments needs."""
        del args, kwargs
        made = cls()
        made.pre_mean, made.sub, made.mul, made.post_mean, made.unbiased = (
            FloatFunctional() for _ in range(5)
        )
        if cls.root:
            made.sqrt = SegmentLUT(positive_root, "sqrt")
        return made

    def last(self) -> Any:
        """The root, or the factor n / (n − 1)."""
        return getattr(self, "sqrt", self.unbiased)

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As torch: unbiased unless told otherwise."""
        return self.spread(x, *_asked(*args, **kwargs))[0]

    def spread(self, x: Any, dim: Any, lost: float, keepdim: bool) -> tuple[Any, Any]:
        """(variance or deviation, mean)."""
        axes = tuple(range(x.ndim)) if dim is None else dim
        listed = axes if isinstance(axes, Sequence) else (axes,)
        count = math.prod(x.shape[a] for a in listed)
        mean = self.pre_mean.mean(x, axes, keepdim=True)
        centred = self.sub.sub(x, mean)
        square = self.post_mean.mean(self.mul.mul(centred, centred), axes, keepdim=keepdim)
        y = self.unbiased.mul_scalar(square, count / max(count - lost, 1e-30))
        if not keepdim:
            mean = mean.squeeze(tuple(a % x.ndim for a in listed))
        return (self.sqrt(y) if self.root else y), mean


class StdForm(VarForm):
    """torch.std, Tensor.std."""

    root = True


class VarMeanForm(VarForm):
    """torch.var_mean: (variance, mean)."""

    def part_dtype(self, part: Any) -> Any:
        """Both results are as the qconfig says."""
        return None if part is self.pre_mean else super().part_dtype(part)

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """As torch: unbiased unless told otherwise."""
        return self.spread(x, *_asked(*args, **kwargs))


class NormForm(Decomposed, Form):
    """torch.norm, Tensor.norm with p = 2: the root of the sum of squares."""

    @classmethod
    def of(cls, x: Any, p: Any = "fro", *_: Any, **kwargs: Any) -> Any:
        """The parts; another p is one operator of the CPU."""
        del x
        if kwargs.get("p", p) not in {None, "fro", 2}:
            return FloatFunctional()
        made = cls()
        made.mul, made.sum, made.sqrt = (
            FloatFunctional(),
            FloatFunctional(),
            SegmentLUT(positive_root, "sqrt"),
        )
        return made

    def last(self) -> Any:
        """The root makes the result."""
        return self.sqrt

    def forward(self, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:  # noqa: A002
        """Along `dim`, or of everything."""
        del p
        axes = tuple(range(input.ndim)) if dim is None else dim
        return self.sqrt(self.sum.sum(self.mul.mul(input, input), axes, keepdim=keepdim))


class LogSumExpForm(Decomposed, Form):
    """torch.logsumexp: max, sub, exp, sum, log, add."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> LogSumExpForm:
        """Return a module with the parts that a call with these arguments needs."""
        del args, kwargs
        made = cls()
        made.max, made.shift, made.exp, made.sum, made.add = (FloatFunctional() for _ in range(5))
        made.log = SegmentLUT(log_above_one, "log")
        return made

    def last(self) -> Any:
        """Adding the largest value makes the result."""
        return self.add

    def forward(self, input: Any, dim: Any, keepdim: bool = False) -> Any:  # noqa: A002 - torch's own names
        """Compute it along `dim`, each part rounded."""
        top = self.max.amax(input, dim, keepdim=True)
        total = self.sum.sum(self.exp.exp(self.shift.sub(input, top)), dim, keepdim=True)
        y = self.add.add(self.log(total), top)
        return y if keepdim else y.squeeze(dim)


class CosineForm(Decomposed, Form):
    """F.cosine_similarity: x · y over the roots of their sums of squares."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> CosineForm:
        """Return a module with the parts that a call with these arguments needs."""
        eps = kwargs.get("eps", args[3] if len(args) > 3 else 1e-8)
        made = cls()
        for name in ("mul", "sum", "x_mul", "x_sum", "y_mul", "y_sum", "x_scaled", "scaled"):
            made.add_module(name, FloatFunctional())
        made.x_rsqrt = SegmentLUT(InverseRoot(eps**2), "rsqrt")
        made.y_rsqrt = SegmentLUT(InverseRoot(eps**2), "rsqrt")
        return made

    def last(self) -> Any:
        """The second product with a root makes the result."""
        return self.scaled

    def forward(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
        """Compute it along `dim`, each part rounded."""
        del eps
        product = self.sum.sum(self.mul.mul(x1, x2), dim)
        left = self.x_rsqrt(self.x_sum.sum(self.x_mul.mul(x1, x1), dim))
        right = self.y_rsqrt(self.y_sum.sum(self.y_mul.mul(x2, x2), dim))
        return self.scaled.mul(self.x_scaled.mul(product, left), right)
