"""Recurrent layers, norms without affine or statistics, and what stands beside the usual convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from quantization.torch.zoo import IMAGE, Case, case, conv

STEPS = ((4, 2, 8),)
ROW = ((2, 8),)


def first(m: Any, *x: Any) -> Any:
    """The rows of a layer, not its last state."""
    return m.layer(*x)[0]


def whole(m: Any, *x: Any) -> Any:
    return m.layer(*x)


def behind_conv(m: Any, x: Any) -> Any:
    return torch.relu(m.norm(m.conv(x)))


LAYERS: dict[str, Case] = {
    "lstm": case(STEPS, first, layer=nn.LSTM(8, 6), fast=True),
    "lstm, batch first, its states": case(
        ((2, 4, 8),), lambda m, x: m.layer(x)[1], layer=nn.LSTM(8, 6, batch_first=True)
    ),
    "lstm, zeros given": case(
        STEPS, lambda m, x: m.layer(x, (m.zeros, m.zeros))[0], layer=nn.LSTM(8, 6), zeros=torch.zeros(1, 2, 6)
    ),
    "gru, two layers, both ways": case(STEPS, first, layer=nn.GRU(8, 6, 2, bidirectional=True)),
    "gru, a state given": case((*STEPS, (1, 2, 6)), whole, layer=nn.GRU(8, 6)),
    "rnn without batch": case(((4, 8),), first, layer=nn.RNN(8, 6, nonlinearity="relu")),
    "lstm cell": case(ROW, whole, layer=nn.LSTMCell(8, 6)),
    "lstm cell, a state given": case(
        (*ROW, (2, 6), (2, 6)), lambda m, x, h, c: m.layer(x, (h, c)), layer=nn.LSTMCell(8, 6)
    ),
    "gru cell": case((*ROW, (2, 6)), whole, layer=nn.GRUCell(8, 6), fast=True),
    "gru cell without bias": case(ROW, whole, layer=nn.GRUCell(8, 6, bias=False)),
    "rnn cell": case(ROW, whole, layer=nn.RNNCell(8, 6)),
    "norm without affine": case(
        IMAGE, behind_conv, conv=conv(8, 4), norm=nn.BatchNorm2d(4, affine=False), fast=True
    ),
    "norm without statistics": case(
        IMAGE, behind_conv, conv=conv(8, 4), norm=nn.BatchNorm2d(4, track_running_stats=False), fast=True
    ),
    "norm without either": case(
        IMAGE, behind_conv, conv=conv(8, 4), norm=nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    ),
    "norm without affine, alone": case(IMAGE, whole, layer=nn.BatchNorm2d(8, affine=False)),
    "norm of several devices": case(IMAGE, behind_conv, conv=conv(8, 4), norm=nn.SyncBatchNorm(4)),
    "transposed row": case(((1, 4, 8),), whole, layer=nn.ConvTranspose1d(4, 4, 2, 2), fast=True),
    "transposed row, groups and norm": case(
        ((2, 4, 8),), behind_conv, conv=nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), norm=nn.BatchNorm1d(6)
    ),
    "transposed row, a function": case(
        ((1, 4, 8),), lambda m, x: F.conv_transpose1d(x, m.w, stride=2), w=torch.randn(4, 3, 3)
    ),
    "volume": case(((1, 2, 6, 6, 6),), whole, layer=nn.Conv3d(2, 4, 3), cpu="Conv", loose=True),
    "class token": case(
        ((1, 5, 8),),
        lambda m, x: m.fc(torch.cat([m.token, x], 1)),
        token=nn.Parameter(torch.randn(1, 1, 8)),
        fc=nn.Linear(8, 8),
        fast=True,
    ),
    "class token of a batch": case(
        ((2, 5, 8),),
        lambda m, x: torch.cat((x, m.token.expand(2, -1, -1)), dim=1),
        token=torch.randn(1, 1, 8),
    ),
    "a constant stacked": case(((5, 8),), lambda m, x: torch.stack([x, m.row]), row=3 * torch.randn(5, 8)),
    "zeros behind": case(((1, 5, 8),), lambda _, x: torch.cat([x, torch.zeros(1, 2, 8)], 1)),
}
