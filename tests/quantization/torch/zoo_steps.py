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


VOLUME = ((2, 4, 5, 6, 6),)
VOLUMES: dict[str, Any] = {
    "volume": nn.Conv3d(4, 6, 3, 2, 1),
    "volume, groups": nn.Conv3d(4, 4, (3, 2, 1), (2, 1, 2), groups=2),
    "volume, depthwise": nn.Conv3d(4, 4, 3, padding="same", groups=4),
    "volume, dilated": nn.Conv3d(4, 4, (2, 3, 3), dilation=(2, 1, 2), padding=(1, 0, 2)),
    "volume, transposed": nn.ConvTranspose3d(4, 3, 3, 2, 1, 1),
    "volume, norm alone": nn.BatchNorm3d(4),
    "volume, largest": nn.MaxPool3d(3, 2, 1),
    "volume, averaged": nn.AvgPool3d(2),
    "volume, averaged with padding": nn.AvgPool3d(3, 2, 1),
    "volume, averaged without": nn.AvgPool3d((3, 3, 2), (1, 2, 2), 1, count_include_pad=False),
    "volume, averaged rows": nn.AvgPool3d((1, 2, 2)),
    "volume, all of it averaged": nn.AdaptiveAvgPool3d(1),
    "volume, averaged to a size": nn.AdaptiveAvgPool3d((1, 2, 3)),
    "volume, averaged to frames": nn.AdaptiveAvgPool3d((5, 1, 1)),
    "volume, averaged as it is": nn.AdaptiveAvgPool3d((None, 3, 2)),
    "volume, largest to a size": nn.AdaptiveMaxPool3d((1, 2, 3)),
}
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
    **{
        name: case(VOLUME, whole, layer=layer, fast=name == "volume, averaged")
        for name, layer in VOLUMES.items()
    },
    "volume, norm and relu": case(
        VOLUME, behind_conv, conv=nn.Conv3d(4, 6, 3), norm=nn.BatchNorm3d(6), fast=True
    ),
    "volume, residual": case(
        VOLUME, lambda m, x: torch.relu(m.conv(x) + x), conv=nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))
    ),
    "volume, functions": case(
        VOLUME, lambda m, x: F.max_pool3d(F.conv3d(x, m.w, stride=(1, 2, 1)), 2), w=torch.randn(4, 4, 2, 3, 1)
    ),
    "volume, transposed function": case(
        VOLUME, lambda m, x: F.conv_transpose3d(x, m.w, stride=2), w=torch.randn(4, 3, 2, 2, 2)
    ),
    "volume, larger": case(
        VOLUME, lambda _, x: F.interpolate(x, scale_factor=2, mode="trilinear"), fast=True
    ),
    "volume, larger frames": case(
        VOLUME, lambda _, x: F.interpolate(x, size=(5, 9, 12), mode="trilinear", align_corners=True)
    ),
    "volume, larger to the side": case(
        VOLUME, lambda _, x: F.interpolate(x, scale_factor=(2, 2, 1), mode="trilinear")
    ),
    "volume, slices": case(VOLUME, lambda _, x: F.interpolate(x, scale_factor=(2, 1, 1), mode="trilinear")),
    "volume, repeated": case(VOLUME, lambda _, x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "volume, scaled": case(
        VOLUME,
        lambda m, x: x * m.gain + m.bias,
        gain=torch.randn(4, 1, 1, 1),
        bias=torch.randn(1, 4, 1, 1, 1),
    ),
    "image, averaged to a size": case(IMAGE, whole, layer=nn.AdaptiveAvgPool2d((4, 2))),
    "row, averaged to a size": case(((2, 4, 9),), whole, layer=nn.AdaptiveAvgPool1d(3)),
    "row, averaged": case(((2, 4, 9),), whole, layer=nn.AvgPool1d(3, 2, 1)),
    "row, all of it averaged": case(((2, 4, 9),), whole, layer=nn.AdaptiveAvgPool1d(1)),
    "row, a wide kernel": case(((1, 2, 90),), whole, layer=nn.Conv1d(2, 4, 40, 2, 3)),
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
