"""A builder of small QDQ models that knows the value of every tensor as it goes.

Each node is evaluated by the witness when it is added, so a quantizer can take its scale from
the range it will see, and shapes are known without inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from openbpu.evaluation.reference.float64 import results_of, run_node
from openbpu.evaluation.reference.kernel import Array, Quantized, as_float64
from openbpu.evaluation.reference.ops.quantize import limits

MICROSOFT = "com.microsoft"
WIDE = ("int16", "uint16")


@dataclass(frozen=True, slots=True)
class Style:
    """How activations are quantized.

    ``spread`` multiplies the scale that just holds the range (below 1 saturates), ``jitter`` is
    the half-width of a log-uniform factor on top of it, ``power_of_two`` rounds the scale to one,
    so that ties occur; ``coarse`` to six bits, so that it is the same whatever the processor's sums end in.
    """

    dtype: str = "int8"
    symmetric: bool = True
    power_of_two: bool = False
    spread: float = 1.0
    jitter: float = 0.0
    coarse: bool = False

    def rounded(self, scale: Array | float) -> Array:
        """The scale as this style has it, float64."""
        if self.power_of_two:
            return np.asarray(2.0 ** np.ceil(np.log2(scale)))
        fraction, exponent = np.frexp(scale)
        return np.ldexp(np.ceil(fraction * 64) / 64, exponent) if self.coarse else np.asarray(scale)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Names of the scale and zero point initializers of a quantized tensor."""

    scale: str
    zero: str
    domain: str


class GraphBuilder:
    """Adds nodes, evaluates them, and at last gives the model and its inputs."""

    def __init__(self, opset: int = 13, seed: int = 0, style: Style | None = None) -> None:
        self.opset = opset
        self.style = style or Style()
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, Array] = {}
        self.parameters: dict[str, Parameters] = {}
        self.inputs: dict[str, Array] = {}
        self.outputs: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._counts: dict[str, int] = {}

    # --- Tensors -----------------------------------------------------------------------------

    def fresh(self, prefix: str) -> str:
        """A name nobody has."""
        self._counts[prefix] = self._counts.get(prefix, -1) + 1
        return f"{prefix}{self._counts[prefix]}"

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self.values[name].shape)

    def constant(self, value: Any, prefix: str = "c") -> str:
        """An initializer; Python floats become float32, Python integers int64."""
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = self.fresh(prefix)
        self._initializers.append(numpy_helper.from_array(array, name))
        self.values[name] = as_float64(array)
        return name

    def input(self, value: Array) -> str:
        """A float32 model input with this value."""
        name = self.fresh("input")
        self.inputs[name] = value.astype(np.float32)
        self.values[name] = as_float64(self.inputs[name])
        return name

    def quantized_input(self, shape: tuple[int, ...], *, low: float = -1.0, high: float = 1.0) -> str:
        """A float32 input of uniform values, quantized and dequantized.

        With power-of-two scales the values lie on quarter steps, so a half of them are ties.
        """
        value = self.rng.uniform(low, high, shape)
        name = self.input(value)
        if self.style.power_of_two:
            scale, _ = self._fit(self.values[name], self.style)
            self.inputs[name] = (np.rint(value / scale * 4) * scale / 4).astype(np.float32)
            self.values[name] = as_float64(self.inputs[name])
        return self.qdq(name)

    # --- Nodes -------------------------------------------------------------------------------

    def nodes(
        self, op: str, inputs: list[str], n_outputs: int = 1, domain: str = "", **attrs: Any
    ) -> tuple[str, ...]:
        """Add a node and evaluate it; attributes that are None are left out."""
        outputs = tuple(self.fresh(op.lower()) for _ in range(n_outputs))
        given = {k: v for k, v in attrs.items() if v is not None}
        name = self.fresh(f"{op}_")
        node = helper.make_node(op, inputs, outputs, name=name, domain=domain, **given)
        self._nodes.append(node)
        operands = tuple(self.values[n] if n else None for n in inputs)
        with np.errstate(all="ignore"):
            results = results_of(run_node(node, operands, self.opset))
        for output, result in zip(outputs, results, strict=True):
            self.values[output] = result.values if isinstance(result, Quantized) else result
        return outputs

    def node(self, op: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        """Add a node with one output; an empty name leaves an optional input out."""
        return self.nodes(op, list(inputs), domain=domain, **attrs)[0]

    # --- Quantization ------------------------------------------------------------------------

    def _fit(self, value: Array, style: Style) -> tuple[float, int]:
        """Scale and zero point for the range of the value."""
        qmin, qmax = limits(np.dtype(style.dtype))
        low, high = min(0.0, float(value.min(initial=0))), max(0.0, float(value.max(initial=0)))
        symmetric = style.symmetric and style.dtype in ("int8", "int16")
        span = 2 * max(-low, high) if symmetric else high - low
        scale = (span or 1.0) / (qmax - qmin) * style.spread
        scale *= float(np.exp(self.rng.uniform(-style.jitter, style.jitter)))
        tiny = float(np.finfo(np.float32).tiny)  # what shrank to nothing has a scale, too
        scale = max(float(np.float32(style.rounded(scale))), tiny)
        zero = 0 if symmetric else int(np.clip(np.rint(qmin - low / scale), qmin, qmax))
        return scale, zero

    def quantize(self, x: str, style: Style | None = None, like: str | None = None) -> str:
        """Add a QuantizeLinear: parameters from the range of x, or those of ``like``."""
        if like is None:
            parameters = self._parameters(self.values[x], style or self.style)
        else:
            parameters = self.parameters[like]
        q = self.node("QuantizeLinear", x, parameters.scale, parameters.zero, domain=parameters.domain)
        self.parameters[q] = parameters
        return q

    def name_parameters(self, q: str, scale: str, zero: str) -> str:
        """Remember the scale and zero point of a tensor quantized by other means; gives it back."""
        self.parameters[q] = Parameters(scale, zero, "")
        return q

    def _parameters(self, value: Array, style: Style) -> Parameters:
        scale, zero = self._fit(value, style)
        domain = MICROSOFT if style.dtype in WIDE and self.opset < 21 else ""
        scale_name = self.constant(np.float32(scale), "scale")
        return Parameters(scale_name, self.constant(np.dtype(style.dtype).type(zero), "zero"), domain)

    def dequantize(self, q: str) -> str:
        """Add a DequantizeLinear with the parameters of q."""
        p = self.parameters[q]
        result = self.node("DequantizeLinear", q, p.scale, p.zero, domain=p.domain)
        self.parameters[result] = p
        return result

    def dequantize_again(self, x: str) -> str:
        """A second DequantizeLinear of the integers behind x; x itself where it is float."""
        sources = [n.input[0] for n in self._nodes if x in n.output and n.op_type == "DequantizeLinear"]
        return self.dequantize(sources[0]) if sources else x

    def qdq(self, x: str, style: Style | None = None, like: str | None = None) -> str:
        """Quantize and dequantize."""
        return self.dequantize(self.quantize(x, style, like))

    def scale_of(self, name: str) -> Array:
        """The scale of a dequantized tensor; one where it is not quantized."""
        p = self.parameters.get(name)
        return np.ones(()) if p is None else self.values[p.scale]

    def weight(self, value: Array, dtype: str = "int8", axis: int | None = None) -> str:
        """Quantize a constant symmetrically (per channel along ``axis``) and add its dequantizer."""
        qmin, qmax = limits(np.dtype(dtype))
        others = None if axis is None else tuple(i for i in range(value.ndim) if i != axis)
        span = np.abs(value).max(axis=others, keepdims=axis is not None)
        scale = np.maximum(span, 1e-6) / ((qmax - qmin) / 2)
        scale = self.style.rounded(scale).astype(np.float32)
        integers = np.clip(np.rint(value / scale), qmin, qmax).astype(dtype)
        return self._dequantized(integers, scale.reshape(-1) if axis is not None else scale, axis)

    def _dequantized(self, integers: Array, scale: Array, axis: int | None) -> str:
        wide = integers.dtype.name in WIDE and self.opset < 21
        scale_name = self.constant(np.float32(scale), "scale")
        zero = self.constant(np.zeros(scale.shape, integers.dtype), "zero")
        parameters = Parameters(scale_name, zero, MICROSOFT if wide else "")
        inputs = [self.constant(integers, "weight"), scale_name, zero]
        result = self.node("DequantizeLinear", *inputs, domain=parameters.domain, axis=axis)
        self.parameters[result] = parameters
        return result

    def bias(self, size: int, x: str, w: str, form: str | None) -> list[str]:
        """No bias, a float one, or int32 with the scale of x times that of w (as ORT exports)."""
        if form is None:
            return []
        value = self.rng.uniform(-0.5, 0.5, size)
        if form == "float":
            return [self.constant(value, "bias")]
        scale = (self.scale_of(x) * self.scale_of(w)).astype(np.float32)
        bound = np.iinfo(np.int32).max
        integers = np.clip(np.rint(value / scale), -bound, bound).astype(np.int32)
        return [self._dequantized(integers, scale, 0 if scale.ndim else None)]

    # --- Result ------------------------------------------------------------------------------

    def output(self, name: str) -> None:
        """Make the tensor an output of the model."""
        if name not in self.outputs:
            self.outputs.append(name)

    def consumers(self, name: str) -> int:
        """How many nodes read the tensor."""
        return sum(name in node.input for node in self._nodes)

    def _info(self, name: str) -> onnx.ValueInfoProto:
        value = self.values[name]
        kind = np.dtype(np.float32) if value.dtype == np.float64 else value.dtype
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind), value.shape)

    def model(self) -> onnx.ModelProto:
        """The checked model. Its inputs are ``self.inputs``."""
        inputs, outputs = map(self._info, self.inputs), map(self._info, self.outputs)
        graph = helper.make_graph(self._nodes, "qdq", list(inputs), list(outputs), self._initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        if any(n.domain == MICROSOFT for n in self._nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        ir = helper.find_min_ir_version_for(opsets, ignore_unknown=True)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir)
        onnx.checker.check_model(model, full_check=True)
        return model
