"""Graphs of published networks that `../shared/latency` has none of: `python benchmarks/published_graphs.py`.

Their architectures come from timm; weights are a short pattern, since latency does not depend on their
values. They go to build/graphs, where `fidelity.py` finds them. Needs torch and timm.
"""

from __future__ import annotations

import io
import lzma
import sys
from dataclasses import dataclass, field
from typing import Any

import torchvision_stub
from fidelity_data import BUILT

OPSET = 17


@dataclass(frozen=True, slots=True)
class Network:
    """A timm architecture, the side of its square input in pixels, and options of its constructor."""

    architecture: str
    side: int
    options: dict[str, Any] = field(default_factory=dict)


HEADLESS = {"num_classes": 0, "global_pool": ""}
NETWORKS = {
    "EfficientFormerv2_s2": Network("efficientformerv2_s2", 224),
    "EdgeNeXt_xx_small": Network("edgenext_xx_small", 224),
    "EdgeNeXt_x_small": Network("edgenext_x_small", 224),
    "EdgeNeXt_base": Network("edgenext_base", 224),
    "EfficientNet_lite1": Network("efficientnet_lite1", 240),
    "EfficientNet_lite3": Network("efficientnet_lite3", 300),
    "MobileSAM_TinyViT_encoder": Network("tiny_vit_5m_224", 512, HEADLESS),
    "siglip-base-patch16-512": Network("vit_base_patch16_siglip_512", 512),
    "siglip-large-patch16-384": Network("vit_large_patch16_siglip_384", 384),
    "siglip-so400m-patch14-224": Network("vit_so400m_patch14_siglip_224", 224),
}


def build(name: str) -> Any:
    """Return a published network as a module in inference form."""
    import timm
    from timm.utils.model import reparameterize_model

    network = NETWORKS[name]
    model = timm.create_model(network.architecture, pretrained=False, **network.options).eval()
    if name.startswith("MobileSAM"):
        model = _with_neck(model)
    for index, parameter in enumerate(model.parameters()):
        _fill(parameter, 0.01 + 1e-5 * index)
    return reparameterize_model(model)


def _with_neck(model: Any) -> Any:
    """MobileSAM's encoder keeps the third stage's resolution in the fourth and ends in a neck of 256 maps."""
    from timm.layers import LayerNorm2d
    from torch import nn

    model.stages[3].downsample.conv2.conv.stride = (1, 1)
    neck = (nn.Conv2d(320, 256, 1, bias=False), LayerNorm2d(256))
    neck += (nn.Conv2d(256, 256, 3, padding=1, bias=False), LayerNorm2d(256))
    return nn.Sequential(model, *neck)


def _fill(parameter: Any, step: float) -> None:
    import torch

    pattern = 1 + torch.arange(parameter.numel()) % 7
    parameter.data = step * pattern.reshape(parameter.shape).float()


def export(name: str) -> bytes:
    """Return the network as ONNX."""
    import timm
    import torch

    timm.layers.set_fused_attn(enable=False)
    side, out = NETWORKS[name].side, io.BytesIO()
    example = torch.zeros(1, 3, side, side)
    torch.onnx.export(build(name), example, out, opset_version=OPSET, dynamo=False)
    return out.getvalue()


def main() -> int:
    """Write every graph that is not there yet; returns the exit code."""
    torchvision_stub.install()
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        path = BUILT / f"{name}.onnx.xz"
        if not path.exists():
            fresh = path.with_suffix(".tmp")
            fresh.write_bytes(lzma.compress(export(name), preset=0))
            fresh.replace(path)
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
