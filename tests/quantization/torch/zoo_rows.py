"""Modules on tokens and vectors, as transformers and heads have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from quantization.torch.zoo import TOKENS, Case, Shape, case

PAIR: tuple[Shape, ...] = (*TOKENS, *TOKENS)
HEADS: tuple[Shape, ...] = ((1, 12, 4, 4),)
CAUSAL = torch.ones(12, 12).triu(1).bool()


def projections(**more: Any) -> dict[str, Any]:
    return {**{n: nn.Linear(16, 16) for n in "qkv"}, **more}


def attended(m: Any, x: Any, mask: Any) -> Any:
    """One head; `mask` changes the scores."""
    scores = m.q(x) @ m.k(x).transpose(1, 2) * 0.25
    return torch.softmax(mask(m, scores), -1) @ m.v(x)


def heads(m: Any, x: Any) -> Any:
    """Four heads out of one projection, written out."""
    b, n, d = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4).unbind(0)
    shares = ((q @ k.transpose(-2, -1)) * (d // 4) ** -0.5).softmax(-1)
    return m.out((shares @ v).transpose(1, 2).reshape(b, n, d))


def block(m: Any, x: Any) -> Any:
    x = x + heads(m, m.norm1(x))
    return x + m.fc2(F.gelu(m.fc1(m.norm2(x))))


def windows(m: Any, x: Any) -> Any:
    return m.fc(x.view(1, 8, 4, 4, 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(16, 16, 8))


def distribution(m: Any, x: Any) -> Any:
    return m.conv(x.view(1, 4, 8, 20).transpose(2, 1).softmax(1)).view(1, 4, 20)


def line(function: Any) -> Any:
    """A function of x alone."""
    return lambda _, x: function(x)


ROWS: dict[str, Case] = {
    "matrix by a vector": case(((3, 7), (7,)), lambda _, x, v: x @ v, fast=True),
    "vector by matrices": case(((7,), (2, 7, 5)), lambda _, v, x: v @ x),
    "vector by a vector": case(((7,), (7,)), lambda _, a, b: a @ b),
    "linear of tokens": case(TOKENS, lambda m, x: m.fc(x), fc=nn.Linear(16, 10), fast=True),
    "linear, reshaped": case(TOKENS, lambda m, x: m.fc(x).reshape(1, 12, 2, 5), fc=nn.Linear(16, 10)),
    "linear, transposed": case(TOKENS, lambda m, x: m.fc(x).transpose(1, 2), fc=nn.Linear(16, 10), fast=True),
    "linear of flat": case(((2, 8, 4, 4),), lambda m, x: m.fc(x.flatten(1)), fc=nn.Linear(128, 10)),
    "feed forward": case(
        TOKENS, lambda m, x: x + m.b(F.relu(m.a(x))), a=nn.Linear(16, 32), b=nn.Linear(32, 16), fast=True
    ),
    "masked attention": case(
        TOKENS,
        lambda m, x: attended(m, x, lambda m, s: s.masked_fill(m.mask, -torch.inf)),
        **projections(mask=CAUSAL),
        fast=True,
    ),
    "masked attention, -1e9": case(
        TOKENS,
        lambda m, x: attended(m, x, lambda m, s: s.masked_fill(m.mask, -1e9)),
        **projections(mask=CAUSAL),
    ),
    "masked attention, added": case(
        TOKENS, lambda m, x: attended(m, x, lambda m, s: s + m.mask), **projections(mask=CAUSAL * -20.0)
    ),
    "masked attention, -100 added": case(
        TOKENS,
        lambda m, x: attended(m, x, lambda m, s: s + m.mask),
        **projections(mask=CAUSAL * -100.0),
        fast=True,
    ),
    "heads": case(TOKENS, heads, qkv=nn.Linear(16, 48), out=nn.Linear(16, 16)),
    "transformer block": case(
        TOKENS,
        block,
        qkv=nn.Linear(16, 48),
        out=nn.Linear(16, 16),
        norm1=nn.LayerNorm(16),
        norm2=nn.LayerNorm(16),
        fc1=nn.Linear(16, 32),
        fc2=nn.Linear(32, 16),
        fast=True,
    ),
    "nn.MultiheadAttention": case(
        TOKENS,
        lambda m, x: m.attention(x, x, x)[0],
        attention=nn.MultiheadAttention(16, 4, batch_first=True),
        fast=True,
    ),
    "cross attention": case(
        ((12, 1, 16), (6, 1, 16)),
        lambda m, x, y: m.attention(x, y, y),
        attention=nn.MultiheadAttention(16, 2),
    ),
    "nn.TransformerEncoderLayer": case(
        TOKENS,
        lambda m, x: m.layer(x, src_mask=m.mask),
        layer=nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
        mask=CAUSAL,
    ),
    "nn.TransformerEncoder": case(
        TOKENS,
        lambda m, x: m.layers(x, mask=m.mask),
        layers=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True),
            2,
            enable_nested_tensor=False,
        ),
        mask=torch.zeros(12, 12).masked_fill(CAUSAL, -torch.inf),
    ),
    "nn.TransformerDecoderLayer": case(
        ((1, 6, 16), *TOKENS),
        lambda m, x, y: m.layer(x, y),
        layer=nn.TransformerDecoderLayer(16, 4, 32, batch_first=True),
    ),
    "positions": case(
        TOKENS, lambda m, x: x + m.place, place=nn.Parameter(torch.randn(1, 12, 16)), fast=True
    ),
    "embedded positions": case(
        TOKENS, lambda m, x: x + m.place(torch.arange(12)), place=nn.Embedding(12, 16)
    ),
    "a gain per feature": case(TOKENS, lambda m, x: x * m.gain, gain=nn.Parameter(torch.rand(16))),
    "a constant matrix": case(TOKENS, lambda m, x: x @ m.matrix, matrix=torch.randn(16, 8), fast=True),
    "bmm": case(TOKENS, line(lambda x: torch.bmm(x, x.transpose(1, 2)))),
    "matmul, broadcast": case(
        TOKENS, lambda m, x: torch.matmul(m.fc(x).unsqueeze(1), x.transpose(1, 2)), fc=nn.Linear(16, 16)
    ),
    "einsum": case(
        TOKENS,
        lambda m, x: torch.einsum("bnd,bmd->bnm", m.a(x), m.b(x)),
        a=nn.Linear(16, 16),
        b=nn.Linear(16, 16),
        fast=True,
    ),
    "einsum of heads": case(HEADS, line(lambda x: torch.einsum("bnhd,bmhd->bhnm", x, F.relu(x)))),
    "einsum, constant": case(TOKENS, lambda m, x: torch.einsum("bnd,kd->bkn", x, m.w), w=torch.randn(8, 16)),
    "einsum, constant in front": case(
        TOKENS, lambda m, x: torch.einsum("kd,bnd->bkn", m.w, x), w=torch.randn(8, 16)
    ),
    "einsum of one": case(TOKENS, line(lambda x: torch.einsum("bnd->bn", x)), cpu="Einsum", loose=True),
    "windows": case(((1, 8, 16, 16),), windows, fc=nn.Linear(8, 8)),
    "distribution": case(((1, 32, 20),), distribution, conv=nn.Conv2d(8, 1, 1, bias=False)),
    "LayerNorm of channels": case(
        ((1, 8, 4, 4),), lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(8)
    ),
    "normalized products": case(TOKENS, line(lambda x: F.normalize(x, dim=-1) @ F.normalize(x, dim=-1).mT)),
    "var": case(TOKENS, line(lambda x: (x.var(-1), x.var(-1, unbiased=False, keepdim=True))), fast=True),
    "std": case(TOKENS, line(lambda x: x.std(-1, keepdim=True))),
    "var_mean": case(TOKENS, line(lambda x: torch.var_mean(x, -1, keepdim=True))),
    "norm": case(TOKENS, line(lambda x: x.norm(dim=-1))),
    "logsumexp": case(TOKENS, line(lambda x: torch.logsumexp(x, -1))),
    "log_softmax": case(TOKENS, line(lambda x: F.log_softmax(x, -1))),
    "cosine_similarity": case(PAIR, lambda _, x, y: F.cosine_similarity(x, y, dim=-1)),
    "conv1d": case(
        TOKENS, lambda m, x: F.relu(m.bn(m.conv(x))), conv=nn.Conv1d(12, 8, 3), bn=nn.BatchNorm1d(8)
    ),
    "stack": case(TOKENS, line(lambda x: torch.stack([x, F.relu(x)], 1).sum(1))),
    "outer sum": case(((1, 12, 1), (1, 1, 16)), lambda _, x, y: x + y),
    "picked rows": case(TOKENS, line(lambda x: (x[:, [0, 3, 5]], x[:, torch.tensor([-1, 4, 4])])), fast=True),
    "index_select": case(TOKENS, line(lambda x: torch.index_select(x, 1, torch.tensor([0, 3, 5])))),
    "repeat, tile, flip": case(
        TOKENS, line(lambda x: (x.repeat(1, 2, 1), x.repeat_interleave(2, 1), x.flip(1)))
    ),
    "cumsum": case(TOKENS, line(lambda x: (torch.cumsum(x, 1), x.cumsum(dim=-1).relu())), fast=True),
    "topk": case(TOKENS, lambda m, x: list(torch.topk(m.fc(x), 3, -1)), fc=nn.Linear(16, 16), fast=True),
    "best and where": case(TOKENS, lambda m, x: list(m.fc(x).max(-1)), fc=nn.Linear(16, 4), fast=True),
    "atan2": case(PAIR, lambda _, x, y: torch.atan2(x, y), refused="atan2"),
    "lerp": case(PAIR, lambda _, x, y: torch.lerp(x, y, 0.3), refused="lerp"),
}
