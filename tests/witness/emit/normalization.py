"""Normalizations and softmax with float parameters."""

from __future__ import annotations

from witness.builder import GraphBuilder
from witness.emit.registry import emitter


@emitter("BatchNormalization")
def batch_normalization(b: GraphBuilder, x: str, *, epsilon: float | None = None) -> tuple[str, ...]:
    """Inference with random statistics."""
    size = b.shape(x)[1]
    scale, variance = (b.constant(b.rng.uniform(0.5, 2.0, size)) for _ in range(2))
    bias, mean = (b.constant(b.rng.uniform(-0.5, 0.5, size)) for _ in range(2))
    return (b.node("BatchNormalization", x, scale, bias, mean, variance, epsilon=epsilon),)


@emitter("LayerNormalization", "RMSNormalization")
def layer_normalization(
    b: GraphBuilder, x: str, *, op: str, axis: int = -1, bias: bool = True
) -> tuple[str, ...]:
    """A scale, and for LayerNormalization a bias, of the shape that is normalized."""
    shape = b.shape(x)[axis % len(b.shape(x)) :]
    inputs = [b.constant(b.rng.uniform(0.5, 1.5, shape))]
    if bias and op == "LayerNormalization":
        inputs.append(b.constant(b.rng.uniform(-0.5, 0.5, shape)))
    return (b.node(op, x, *inputs, axis=axis),)


@emitter("InstanceNormalization", "GroupNormalization")
def instance_normalization(b: GraphBuilder, x: str, *, op: str, groups: int | None = None) -> tuple[str, ...]:
    """A scale and a bias per channel."""
    size = b.shape(x)[1]
    scale, bias = b.constant(b.rng.uniform(0.5, 1.5, size)), b.constant(b.rng.uniform(-0.5, 0.5, size))
    return (b.node(op, x, scale, bias, num_groups=groups),)


@emitter("Softmax", "LogSoftmax")
def softmax(b: GraphBuilder, x: str, *, op: str, axis: int = -1, gain: float = 1.0) -> tuple[str, ...]:
    """``gain`` sharpens the distribution."""
    if gain != 1.0:
        x = b.qdq(b.node("Mul", x, b.constant(gain)))
    return (b.node(op, x, axis=axis),)
