"""Attention: F.scaled_dot_product_attention and nn.MultiheadAttention as products, a mask and a softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from openbpu.quantization.torch.dtype import QDType, qint8, qint16
from openbpu.quantization.torch.errors import PrepareError, QTensorError
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import is_constant
from openbpu.quantization.torch.qat.bound import LinearForm
from openbpu.quantization.torch.qat.choice import MASKS, Choice, MaskForm, is_mask
from openbpu.quantization.torch.qat.constant import ConstantForm, GivenForm
from openbpu.quantization.torch.qat.decomposed import Decomposed, Form
from openbpu.quantization.torch.qat.weighted import Linear
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here, scope


class Attention(Decomposed):
    """softmax(mask(q · kᵀ · scale)) · v. The scores are int16 and the probabilities int8, so that no product
    has two int16 operands if query, key and value are int8.

    A mask is boolean (what to leave out), or is added; a constant made of 0 and −inf chooses.
    """

    def build(self) -> None:
        """Make the parts; those of a mask when the first call brings one."""
        self.scores, self.scale, self.softmax, self.output = (FloatFunctional() for _ in range(4))

    def last(self) -> nn.Module:
        """The product with the values."""
        found: nn.Module = self.output
        return found

    def part_dtype(self, part: nn.Module) -> QDType | None:
        """int16 scores, int8 probabilities."""
        if part is self.softmax:
            return qint8
        inner = {self._modules.get(n) for n in ("scores", "scale", "mask_fill", "mask_add")}
        return qint16 if part in inner else None

    def attend(self, query: Any, key: Any, value: Any, leave_out: Any, factor: float, dropout: float) -> Any:
        """(result, probabilities); `leave_out` is a bool mask, a float mask to add, or None."""
        scores = self.scale.mul_scalar(self.scores.matmul(query, key.transpose(-2, -1)), factor)
        if leave_out is not None:
            scores = self.masked(scores, leave_out)
        shares = self.softmax.softmax(scores, -1)
        dropped = F.dropout(shares, dropout) if dropout else shares
        return self.output.matmul(dropped, value), shares

    def masked(self, scores: Any, mask: Any) -> Any:
        """Scores with what the mask leaves out far below all others."""
        if isinstance(mask, QTensor):
            return self.part("mask_add", FloatFunctional).add(scores, mask)
        if mask.dtype != torch.bool:
            chooses = "mask_fill" in self._modules if scope.recorder is None else _is_choice(mask)
            mask = mask <= -MASKS if chooses else mask
        if mask.dtype == torch.bool:
            return self.part("mask_fill", _filling).masked(scores, mask, -math.inf)
        hides = scope.recorder is not None and is_constant(mask) and is_mask(mask)
        given = ConstantForm if is_constant(mask) else GivenForm
        return self.part("mask_add", MaskForm.leaving_out if hides else given).add(scores, mask)

    def part(self, name: str, make: Any) -> Any:
        """A part that only some calls need."""
        if name not in self._modules:
            if scope.recorder is None:
                raise PrepareError(
                    f"{here()}: this kind of mask was not met when the model was prepared; call prepare with "
                    "example inputs that take the same path"
                )
            made = make()
            made.bpu_path = f"{self.bpu_path}.{name}"
            made.train(self.training)
            self.add_module(name, made)
        return self._modules[name]


def _filling() -> Choice:
    made = Choice()
    made.widen((-math.inf,))
    return made


def _is_choice(mask: torch.Tensor) -> bool:
    """Whether a mask to add holds only 0 and what is far below."""
    return is_constant(mask) and bool(((mask == 0) | (mask <= -MASKS)).all())


class AttentionForm(Attention, Form):
    """F.scaled_dot_product_attention."""

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> AttentionForm:
        """The parts; raises QTensorError for grouped heads."""
        del args
        if kwargs.get("enable_gqa"):
            raise QTensorError(
                f"{here()}: scaled_dot_product_attention must have as many heads in key and value as in "
                "query, not enable_gqa; repeat the heads with repeat_interleave"
            )
        made = cls()
        made.build()
        return made

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> Any:
        """As torch: a bool mask says what takes part."""
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        leave_out = ~attn_mask if attn_mask is not None and attn_mask.dtype == torch.bool else attn_mask
        return self.attend(query, key, value, leave_out, factor, dropout_p)[0]


class MultiheadAttention(Attention, nn.MultiheadAttention):
    """nn.MultiheadAttention: linear layers in front (q_proj, k_proj, v_proj) and behind (out_proj)."""

    def decompose(self) -> None:
        """Make the parts; called once when nn.MultiheadAttention becomes this class."""
        if self.bias_k is not None or self.add_zero_attn:
            raise PrepareError(
                "nn.MultiheadAttention: add_bias_kv and add_zero_attn must be False; concatenate the extra "
                "key and value in front of it"
            )
        self.build()
        for name in ("q_proj", "k_proj", "v_proj"):
            self.add_module(name, LinearForm.of(None, None))
        self.out_proj.__class__ = Linear
        self.shares_mean = FloatFunctional()

    def last(self) -> nn.Module:
        """The linear layer behind."""
        found: nn.Module = self.out_proj
        return found

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> Any:
        """As torch: (result, probabilities or None); a bool mask says what to leave out."""
        if not isinstance(query, QTensor):
            return nn.MultiheadAttention.forward(
                self,
                query,
                key,
                value,
                key_padding_mask,
                need_weights,
                attn_mask,
                average_attn_weights,
                is_causal,
            )
        if query.ndim != 3:
            raise QTensorError(
                f"{here()}: the query must have three axes, not {query.ndim}; unsqueeze the batch"
            )
        q, k, v = (self.head(n, x) for n, x in (("q", query), ("k", key), ("v", value)))
        mask = _merged(attn_mask, key_padding_mask, self.num_heads)
        factor = 1 / math.sqrt(self.head_dim)
        y, shares = self.attend(q, k, v, mask, factor, self.dropout if self.training else 0.0)
        batch, _, length, _ = y.shape
        y = self.out_proj(y.transpose(1, 2).reshape(batch, length, self.embed_dim))
        if not need_weights:
            shares = None
        elif average_attn_weights:
            shares = self.shares_mean.mean(shares, 1)
        return (y if self.batch_first else y.transpose(0, 1)), shares

    def head(self, name: str, x: Any) -> Any:
        """Project one operand: [batch, heads, length, head_dim]."""
        weight, bias = self.projection("qkv".index(name))
        x = x if self.batch_first else x.transpose(0, 1)
        y = self._modules[f"{name}_proj"](x, weight, bias)
        return y.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def projection(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the projection of query, key or value."""
        rows = slice(index * self.embed_dim, (index + 1) * self.embed_dim)
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weight = self.in_proj_weight[rows] if self._qkv_same_embed_dim else separate[index]
        return weight, None if self.in_proj_bias is None else self.in_proj_bias[rows]


def _merged(attn_mask: Any, padding: Any, heads: int) -> Any:
    """One mask that broadcasts against [batch, heads, length, keys]."""
    if attn_mask is not None and attn_mask.ndim == 3:
        attn_mask = attn_mask.reshape(-1, heads, *attn_mask.shape[1:])
    if padding is None:
        return attn_mask
    padding = padding[:, None, None, :]
    if attn_mask is None:
        return padding
    if attn_mask.dtype == padding.dtype == torch.bool:
        return attn_mask | padding
    return _as_bool(attn_mask) | _as_bool(padding)


def _as_bool(mask: torch.Tensor) -> torch.Tensor:
    return mask if mask.dtype == torch.bool else mask <= -MASKS
