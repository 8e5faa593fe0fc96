"""Modules on feature maps, as backbones, necks and heads have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom

from quantization.torch.zoo import IMAGE, Case, Shape, case, conv, norm

PAIR: tuple[Shape, ...] = (*IMAGE, *IMAGE)
MASK = torch.linspace(-1, 1, 256).view(1, 1, 16, 16).sin() > 0


def squeezed(m: Any, x: Any) -> Any:
    return x * torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1)))))


def squeezed_rows(m: Any, x: Any) -> Any:
    gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3))))))
    return x * gate.view(x.shape[0], -1, 1, 1)


def spatial(m: Any, x: Any) -> Any:
    both = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * torch.sigmoid(m.conv(both))


def pyramid(m: Any, x: Any) -> Any:
    top = m.top(m.down(x))
    return m.side(x) + F.interpolate(top, size=x.shape[-2:], mode="bilinear", align_corners=False)


def focus(m: Any, x: Any) -> Any:
    parts = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
    return m.conv(torch.cat(parts, 1))


def split(m: Any, x: Any) -> Any:
    left, right = m.first(x).chunk(2, 1)
    return m.last(torch.cat([left, right, m.inner(right)], 1))


def warped(m: Any, x: Any) -> Any:
    flow = torch.tanh(m.flow(x)).permute(0, 2, 3, 1) * 0.2
    return F.grid_sample(x, m.place + flow, align_corners=False)


def pooled(m: Any, x: Any) -> Any:
    first = m.pool(x)
    return torch.cat([x, first, m.pool(first)], 1)


def convnext(m: Any, x: Any) -> Any:
    y = m.norm(m.conv(x).permute(0, 2, 3, 1))
    return x + (m.gamma * m.down(F.gelu(m.up(y)))).permute(0, 3, 1, 2)


def centre(m: Any, x: Any) -> Any:
    y = F.relu(m.conv(x))
    return {"heat": torch.sigmoid(m.heat(y)).clamp(1e-4, 1 - 1e-4), "box": [m.box(y), y.mean((2, 3))]}


def lifted(m: Any, x: Any) -> Any:
    y = m.conv(x)
    return y[:, :5].softmax(1).unsqueeze(1) * y[:, 5:].unsqueeze(2)


def detections(m: Any, x: Any) -> Any:
    return torch.cat([m.large(x).flatten(2), m.small(F.max_pool2d(x, 2)).flatten(2)], 2)


def written(m: Any, x: Any) -> Any:
    y = x.clone()
    y[:, 0] = 0.0
    return y


def line(function: Any) -> Any:
    """A function of x alone."""
    return lambda _, x: function(x)


IMAGES: dict[str, Case] = {
    "residual": case(
        IMAGE,
        lambda m, x: F.relu(m.bn(m.conv(F.relu(m.first(x)))) + x),
        first=conv(8, 8),
        conv=conv(8, 8),
        bn=norm(8),
        fast=True,
    ),
    "residual with shortcut": case(
        IMAGE,
        lambda m, x: F.relu(m.conv(x) + m.short(x)),
        conv=conv(8, 16, stride=2),
        short=conv(8, 16, 1, stride=2),
    ),
    "pre-activation": case(IMAGE, lambda m, x: x + m.conv(F.relu(m.bn(x))), bn=norm(8), conv=conv(8, 8)),
    "in place": case(IMAGE, lambda m, x: m.conv(x).add_(x).relu_(), conv=conv(8, 8)),
    "squeeze and excite": case(IMAGE, squeezed, down=conv(8, 4, 1), up=conv(4, 8, 1)),
    "squeeze and excite, linear": case(IMAGE, squeezed_rows, down=nn.Linear(8, 4), up=nn.Linear(4, 8)),
    "spatial attention": case(IMAGE, spatial, conv=conv(2, 1, 7), fast=True),
    "pyramid, bilinear": case(
        IMAGE, pyramid, side=conv(8, 8, 1), down=conv(8, 16, stride=2), top=conv(16, 8, 1), fast=True
    ),
    "upsample, corners": case(
        IMAGE, line(lambda x: F.interpolate(x, size=(24, 24), mode="bilinear", align_corners=True))
    ),
    "upsample, nearest": case(
        IMAGE, lambda m, x: m.up(m.conv(x)), conv=conv(8, 4), up=nn.Upsample(scale_factor=2)
    ),
    "upsample, cubic": case(
        IMAGE, line(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")), cpu="Resize", loose=True
    ),
    "depthwise": case(
        IMAGE, lambda m, x: m.point(F.relu6(m.depth(x))), depth=conv(8, 8, groups=8), point=conv(8, 16, 1)
    ),
    "depthwise with multiplier": case(IMAGE, lambda m, x: m.conv(x), conv=conv(8, 16, groups=8)),
    "grouped": case(IMAGE, lambda m, x: m.conv(x), conv=conv(8, 16, groups=2)),
    "dilated": case(IMAGE, lambda m, x: m.conv(x), conv=conv(8, 16, padding=2, dilation=2)),
    "padded on one side": case(
        IMAGE, lambda m, x: m.conv(F.pad(x, (0, 1, 0, 1))), conv=conv(8, 16, padding=0, stride=2)
    ),
    "reflected": case(IMAGE, lambda m, x: m.conv(x), conv=conv(8, 16, padding_mode="reflect")),
    "same": case(IMAGE, lambda m, x: m.conv(x), conv=conv(8, 16, padding="same")),
    "transposed": case(
        IMAGE, lambda m, x: F.relu(m.bn(m.up(x))), up=nn.ConvTranspose2d(8, 4, 4, 2, 1), bn=norm(4), fast=True
    ),
    "transposed, output padding": case(
        IMAGE, lambda m, x: m.up(x), up=nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1)
    ),
    "transposed, depthwise": case(
        IMAGE, lambda m, x: m.up(x), up=nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8)
    ),
    "PReLU": case(IMAGE, lambda m, x: m.act(m.conv(x)), conv=conv(8, 8), act=nn.PReLU(8)),
    "GroupNorm": case(
        IMAGE, lambda m, x: F.silu(m.norm(m.conv(x))), conv=conv(8, 8), norm=nn.GroupNorm(2, 8), fast=True
    ),
    "InstanceNorm": case(
        IMAGE, lambda m, x: m.norm(m.conv(x)), conv=conv(8, 8), norm=nn.InstanceNorm2d(8, affine=True)
    ),
    "InstanceNorm, running": case(
        IMAGE,
        lambda m, x: m.norm(m.conv(x)),
        conv=conv(8, 8),
        norm=nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    ),
    "ConvNeXt": case(
        IMAGE,
        convnext,
        conv=conv(8, 8, 7, groups=8),
        norm=nn.LayerNorm(8),
        up=nn.Linear(8, 32),
        down=nn.Linear(32, 8),
        gamma=nn.Parameter(torch.linspace(0.1, 0.5, 8)),
    ),
    "hardswish, mish": case(
        IMAGE, lambda m, x: F.mish(F.hardswish(m.bn(m.conv(x)))), conv=conv(8, 8), bn=norm(8)
    ),
    "pixel shuffle": case(IMAGE, lambda m, x: F.pixel_shuffle(m.conv(x), 2), conv=conv(8, 16), fast=True),
    "pixel unshuffle": case(IMAGE, lambda m, x: m.conv(F.pixel_unshuffle(x, 2)), conv=conv(32, 8)),
    "focus": case(IMAGE, focus, conv=conv(32, 8)),
    "channel shuffle": case(
        IMAGE,
        lambda m, x: m.conv(x.view(1, 2, 4, 16, 16).transpose(1, 2).reshape(1, 8, 16, 16)),
        conv=conv(8, 8),
    ),
    "nn.ChannelShuffle": case(
        IMAGE, lambda m, x: m.conv(m.mix(x)), conv=conv(8, 8), mix=nn.ChannelShuffle(2)
    ),
    "split and cat": case(
        IMAGE, split, first=conv(8, 16, 1), inner=conv(8, 8), last=conv(24, 8, 1), fast=True
    ),
    "pools in a row": case(IMAGE, pooled, pool=nn.MaxPool2d(5, 1, 2)),
    "average pool": case(IMAGE, line(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))),
    "average pool, ceil": case(IMAGE, line(lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True))),
    "adaptive pool": case(IMAGE, line(lambda x: F.adaptive_avg_pool2d(x, (2, 4)))),
    "grid_sample": case(
        ((1, 8, 16, 16), (1, 8, 8, 2)),
        lambda _, x, g: F.grid_sample(x, g, align_corners=False),
        fast=True,
    ),
    "grid_sample, constant": case(
        IMAGE,
        lambda m, x: F.grid_sample(x, m.grid, mode="nearest", padding_mode="border", align_corners=True),
        grid=nn.Parameter(torch.rand(1, 5, 7, 2) * 3 - 1.5),
    ),
    "grid_sample, reflection": case(
        ((1, 8, 16, 16), (1, 8, 8, 2)),
        lambda _, x, g: F.grid_sample(x, g, padding_mode="reflection", align_corners=False),
        cpu="GridSample",
        loose=True,
    ),
    "warp": case(IMAGE, warped, flow=conv(8, 2), place=nn.Parameter(torch.rand(1, 16, 16, 2) * 2 - 1)),
    "maximum of channels": case(IMAGE, lambda m, x: m.conv(x).max(1)[0], conv=conv(8, 4)),
    "argmax": case(IMAGE, lambda m, x: m.conv(x).argmax(1), conv=conv(8, 4), fast=True),
    "mean of all": case(IMAGE, line(lambda x: x.mean())),
    "sum, amax": case(IMAGE, line(lambda x: x.sum((2, 3)) + x.amax((2, 3)))),
    "clamps": case(
        IMAGE, line(lambda x: (x.clamp(-1, 1), x.clamp_min(0.1), torch.clamp_max(x, 0.1))), fast=True
    ),
    "threshold": case(IMAGE, line(lambda x: F.threshold(x, 0.1, -2.0))),
    "powers": case(IMAGE, line(lambda x: (x**2, torch.pow(x, 3), (x.abs() + 0.1) ** 0.5))),
    "reciprocals": case(IMAGE, line(lambda x: (torch.rsqrt(x.abs() + 0.5), 1 / (x.abs() + 1), x / 3.0))),
    "quotient": case(PAIR, lambda _, x, y: x / (y.abs() + 1), fast=True),
    "1 - x, -x, |x|": case(IMAGE, line(lambda x: (1 - torch.sigmoid(x), -x, torch.abs(x)))),
    "broadcast": case((*IMAGE, (1, 1, 16, 16)), lambda _, x, y: x * y + y),
    "broadcast rows": case((*IMAGE, (1, 8, 1, 16)), lambda _, x, y: x * y),
    "a gain per channel": case(IMAGE, lambda m, x: x * m.gain, gain=nn.Parameter(torch.rand(1, 8, 1, 1))),
    "a constant mask": case(IMAGE, lambda m, x: x * m.mask, mask=MASK.float(), fast=True),
    "where, mask and number": case(IMAGE, lambda m, x: torch.where(m.mask, x, 0.5), mask=MASK, fast=True),
    "where, mask and two": case(IMAGE, lambda m, x: torch.where(m.mask, x, F.relu(x)), mask=MASK),
    "masked_fill": case(IMAGE, lambda m, x: x.masked_fill(m.mask, -1.0), mask=MASK),
    "masked_fill of itself": case(IMAGE, line(lambda x: x.masked_fill(x < 0, 0.25)), fast=True),
    "where, two computed": case(PAIR, lambda _, x, y: torch.where(x > y, x, y), fast=True),
    "where, joined": case(
        PAIR,
        lambda _, x, y: torch.where(torch.logical_and(x > 0.1, ~(y < x)), y, x.masked_fill(x == y, 0.25)),
    ),
    "a product with a comparison": case(PAIR, lambda _, x, y: x * (x > y), cpu="Cast Mul"),
    "shared weights": case(IMAGE, lambda m, x: m.conv(F.relu(m.act(x))), conv=conv(8, 8), act=nn.ReLU6()),
    "a head per level": case(IMAGE, lambda m, x: (m.conv(x), m.conv(F.max_pool2d(x, 2))), conv=conv(8, 8)),
    "centre heads": case(IMAGE, centre, conv=conv(8, 8), heat=conv(8, 3, 1), box=conv(8, 2, 1), fast=True),
    "two levels": case(IMAGE, detections, large=conv(8, 4, 1), small=conv(8, 4, 1)),
    "a last permute": case(
        IMAGE, lambda m, x: m.conv(x).permute(0, 2, 3, 1).reshape(1, -1, 4), conv=conv(8, 4, 1), fast=True
    ),
    "a last view": case(
        IMAGE, lambda m, x: m.conv(x).view(1, 2, 4, 256).permute(0, 1, 3, 2), conv=conv(8, 8, 1)
    ),
    "lift": case(((1, 8, 4, 4),), lifted, conv=conv(8, 11, 1)),
    "roll": case(IMAGE, lambda m, x: m.conv(torch.roll(x, (2, 2), (2, 3))), conv=conv(8, 8)),
    "expanded": case(((1, 8, 1, 1),), lambda m, x: m.conv(x.expand(1, 8, 16, 16)), conv=conv(8, 8)),
    "dropout, identity": case(
        IMAGE,
        lambda m, x: m.inner(x),
        inner=nn.Sequential(conv(8, 8), nn.Identity(), nn.Dropout(0.5), nn.ReLU(True)),
    ),
    "written in place": case(IMAGE, written, refused="setitem"),
}
