"""MobileNetV2 and a YOLOv3 head, written for quantization: stubs at the ends, every fusable group named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch import (
    DeQuantStub,
    FloatFunctional,
    QuantStub,
    fuse_known_modules,
    fuse_modules,
)

STAGES = (  # expand ratio, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
OUT_STAGES = (2, 4, 6)  # their strides are 8, 16 and 32
STRIDES = (32, 16, 8)
ANCHORS = (  # of images of 96 pixels, widest first
    ((40.0, 40.0), (46.0, 32.0), (32.0, 46.0)),
    ((26.0, 26.0), (30.0, 21.0), (21.0, 30.0)),
    ((14.0, 14.0), (18.0, 12.0), (12.0, 18.0)),
)


def divisible(channels: float, by: int = 8) -> int:
    """Round a channel count to a multiple, never below it nor down by more than a tenth."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


class ConvModule(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Convolution, batch norm and, unless told, an activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: Any = nn.ReLU6
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = act() if act is not None else None

    def forward(self, x: Any) -> Any:
        """Convolve, normalise, activate."""
        x = self.bn(self.conv(x))
        return x if self.activate is None else self.activate(x)

    def fuse_modules(self) -> None:
        """Fuse what can be fused, in place."""
        names = ["conv", "bn"] if self.activate is None else ["conv", "bn", "activate"]
        fuse_modules(self, names, inplace=True, fuser_func=fuse_known_modules)


class InvertedResidual(nn.Module):  # type: ignore[misc]
    """Expand, depthwise, project; added to the input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = inputs * expand
        self.expand = ConvModule(inputs, middle, 1) if expand != 1 else None
        self.depthwise = ConvModule(middle, middle, 3, stride, groups=middle)
        self.project = ConvModule(middle, outputs, 1, act=None)
        self.skip = FloatFunctional() if stride == 1 and inputs == outputs else None

    def forward(self, x: Any) -> Any:
        """Return x' of the same or half the size."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y if self.skip is None else self.skip.add(y, x)

    def fuse_modules(self) -> None:
        """Fuse in place; the addition goes with the projection in front of it."""
        for module in (self.expand, self.depthwise):
            if module is not None:
                module.fuse_modules()
        if self.skip is None:
            self.project.fuse_modules()
            return
        names = ["project.conv", "project.bn", "skip"]
        fuse_modules(self, names, inplace=True, fuser_func=fuse_known_modules)


class MobileNetV2(nn.Module):  # type: ignore[misc]
    """The backbone: images in −1..1, as the camera's pyramid gives them, to features of strides 8, 16, 32.

    width scales the channels; depth cuts the blocks of a stage, 4 being all of them.
    """

    def __init__(self, width: float = 1.0, depth: int = 4) -> None:
        super().__init__()
        self.quant = QuantStub(scale=1 / 128)
        channels = divisible(32 * width)
        self.conv1 = ConvModule(3, channels, 3, 2)
        self.layers = nn.ModuleList()
        self.out_channels = []
        for i, (expand, wanted, blocks, stride) in enumerate(STAGES):
            outputs = divisible(wanted * width)
            made = []
            for block in range(min(blocks, depth)):
                made.append(InvertedResidual(channels, outputs, stride if block == 0 else 1, expand))
                channels = outputs
            self.layers.append(nn.Sequential(*made))
            if i in OUT_STAGES:
                self.out_channels.append(outputs)

    def forward(self, x: Any) -> tuple[Any, ...]:
        """Return the features, finest first."""
        x = self.conv1(self.quant(x))
        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in OUT_STAGES:
                outs.append(x)
        return tuple(outs)

    def fuse_modules(self) -> None:
        """Fuse every block, in place."""
        self.conv1.fuse_modules()
        for layer in self.layers:
            for block in layer:
                block.fuse_modules()


class Neck(nn.Module):  # type: ignore[misc]
    """From the coarsest level down: reduce, upsample, join with the next finer one."""

    def __init__(self, inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        coarse_first = list(reversed(inputs))
        self.blocks = nn.ModuleList()
        self.joins = nn.ModuleList()
        joined = 0
        for channels in coarse_first:
            self.blocks.append(ConvModule(channels + joined, outputs, 1, act=nn.ReLU))
            joined = outputs
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.joins.extend(FloatFunctional() for _ in coarse_first[1:])

    def forward(self, feats: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a level for each input, coarsest first."""
        coarse_first = tuple(reversed(feats))
        outs = [self.blocks[0](coarse_first[0])]
        for i, feat in enumerate(coarse_first[1:]):
            joined = self.joins[i].cat([self.up(outs[-1]), feat], dim=1)
            outs.append(self.blocks[i + 1](joined))
        return tuple(outs)

    def fuse_modules(self) -> None:
        """Fuse the convolutions, in place."""
        for block in self.blocks:
            block.fuse_modules()


class YOLOV3Head(nn.Module):  # type: ignore[misc]
    """A bridge and a prediction per level, each leaving the quantized world by a stub of its own."""

    def __init__(self, inputs: int, outputs: Sequence[int], classes: int) -> None:
        super().__init__()
        self.classes = classes
        per_anchor = 5 + classes
        self.convs_bridge = nn.ModuleList(ConvModule(inputs, n, 3, act=nn.ReLU) for n in outputs)
        self.convs_pred = nn.ModuleList(nn.Conv2d(n, 3 * per_anchor, 1) for n in outputs)
        self.dequant = nn.ModuleList(DeQuantStub() for _ in outputs)
        for conv in self.convs_pred:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.constant_(conv.bias.data.view(3, per_anchor)[:, 4], -4.0)  # few cells hold an object

    def forward(self, feats: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return [N, 3·(5 + classes), H, W] per level, coarsest first."""
        maps = []
        for i, feat in enumerate(feats):
            maps.append(self.dequant[i](self.convs_pred[i](self.convs_bridge[i](feat))))
        return tuple(maps)

    def fuse_modules(self) -> None:
        """Fuse the bridges, in place; the predictions have nothing to fuse with."""
        for bridge in self.convs_bridge:
            bridge.fuse_modules()


class Detector(nn.Module):  # type: ignore[misc]
    """Backbone, neck and head."""

    def __init__(self, classes: int, width: float = 0.25, depth: int = 4, channels: int = 32) -> None:
        super().__init__()
        self.backbone = MobileNetV2(width, depth)
        self.neck = Neck(self.backbone.out_channels, channels)
        self.bbox_head = YOLOV3Head(channels, (channels,) * 3, classes)

    def forward(self, image: Any) -> tuple[Any, ...]:
        """Return the prediction maps of images [N, 3, S, S]; S is a multiple of 32."""
        return self.bbox_head(self.neck(self.backbone(image)))

    def fuse_modules(self) -> None:
        """Fuse every convolution with its batch norm, activation and addition, in place."""
        self.backbone.fuse_modules()
        self.neck.fuse_modules()
        self.bbox_head.fuse_modules()


def anchors_of(level: int, size: int) -> torch.Tensor:
    """Return widths and heights in pixels of a level's anchors for images of `size`."""
    return torch.tensor(ANCHORS[level]) * (size / 96)
