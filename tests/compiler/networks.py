"""Small quantized networks out of the blocks that real ones are made of."""

from __future__ import annotations

from typing import Any

from witness.builder import GraphBuilder, Style


class Network(GraphBuilder):
    """A builder whose methods add a quantized layer and return its float result."""

    def __init__(self, shape: tuple[int, ...], opset: int = 20, style: Style | None = None) -> None:
        super().__init__(opset, 0, style)
        self.x = self.quantized_input(shape)

    def conv(self, x: str, channels: int, kernel: int = 3, group: int = 1, **attrs: Any) -> str:
        """A convolution that keeps the size, not quantized behind."""
        rank = len(self.shape(x)) - 2
        shape = (channels, self.shape(x)[1] // group, *(kernel,) * rank)
        w = self.weight(self.rng.normal(size=shape) * 0.3, axis=0)
        inputs = [x, w, *self.bias(channels, x, w, "int32")]
        attrs = {"kernel_shape": [kernel] * rank, "pads": [kernel // 2] * 2 * rank, "group": group, **attrs}
        return self.node("Conv", *inputs, **attrs)

    def layer(self, x: str, channels: int, kernel: int = 3, **attrs: Any) -> str:
        """Convolution, Relu, Quantize."""
        return self.qdq(self.node("Relu", self.conv(x, channels, kernel, **attrs)))

    def residual(self, x: str) -> str:
        """Two convolutions whose result is added to their input, as ResNet does."""
        y = self.conv(self.layer(x, self.shape(x)[1]), self.shape(x)[1])
        return self.qdq(self.node("Relu", self.node("Add", y, x)))

    def squeeze_excite(self, x: str) -> str:
        """Channels weighted by what the whole image says, as MobileNetV3 does."""
        channels = self.shape(x)[1]
        pooled = self.qdq(self.node("GlobalAveragePool", x))
        gate = self.qdq(self.conv(self.layer(pooled, 4, 1), channels, 1))
        return self.qdq(self.node("Mul", x, self.qdq(self.node("Sigmoid", gate))))

    def silu(self, x: str) -> str:
        """x · sigmoid(x) with a rounding behind each of the two."""
        return self.qdq(self.node("Mul", x, self.qdq(self.node("Sigmoid", x))))

    def finished(self, *outputs: str) -> GraphBuilder:
        """Declare the outputs."""
        for name in outputs:
            self.output(name)
        return self
