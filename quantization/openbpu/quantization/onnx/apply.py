"""Insert the planned Quantize/Dequantize pairs into the net, given the observed ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.affine import channel_vector
from openbpu.quantization.onnx.net import Array, Names, Net, assemble, attribute, remake, rename_reads
from openbpu.quantization.onnx.plan import Plan, Slot

ZERO_RANGE = 1.0
"""The range a tensor of zeros gets, so that its int8 scale is 1/127.5: any positive one would do."""

SMALLEST_RANGE = 1e-15
"""Ranges below it count as zero: products of two such scales leave float32."""


def safe_range(max_abs: Array | float) -> Array:
    """Return ranges a scale can be made of."""
    wide = np.asarray(max_abs, dtype=np.float64)
    return np.where(wide < SMALLEST_RANGE, ZERO_RANGE, wide)


def apply_plan(net: Net, plan: Plan, ranges: Mapping[str, float], weight: DType) -> ModelProto:
    """Return the quantized model; `ranges` maps every source of the plan to max|x|."""
    return _Builder(net, plan, ranges, weight).model()


class _Builder:
    """Walks the net once; collects nodes in topological order and the constants they read."""

    def __init__(self, net: Net, plan: Plan, ranges: Mapping[str, float], weight: DType) -> None:
        self.net, self.plan, self.weight = net, plan, weight
        self.names = Names(net)
        self.consts: dict[str, Array] = {}
        self.nodes: list[NodeProto] = []
        self.renamed: dict[str, str] = {}
        self.recast: dict[tuple[str, DType], str] = {}
        self.dequantized: dict[tuple[str, int | None, DType], str] = {}
        self.ranges = ranges

    def _scale(self, name: str, dtype: DType) -> Array:
        """Return the scale of a tensor that has a pair."""
        return numerics.observed_scale(safe_range(self.ranges[self.plan.pairs[name].source]), dtype)

    def model(self) -> ModelProto:
        for name in self.net.inputs:
            if name in self.plan.pairs:
                self._add_pair(name)
        for index, node in enumerate(self.net.nodes):
            made = self._quantize_operands(index, node)
            self.nodes.append(rename_reads(made, self.renamed))
            self._quantize_results(node)
        return assemble(self.net.with_nodes(self.nodes, self.consts))

    def _quantize_results(self, node: NodeProto) -> None:
        results = [name for name in node.output if name in self.plan.pairs]
        raw = {
            name: self.names.fresh(f"{name}_QuantizeLinear_Input")
            for name in results
            if name in self.net.outputs
        }
        if raw:
            last = self.nodes[-1]
            self.nodes[-1] = remake(last, outputs=[raw.get(name, name) for name in last.output])
        for name in results:
            self._add_pair(name, raw.get(name))

    def _add_pair(self, name: str, raw: str | None = None) -> None:
        """Put the pair behind `name`; where that is a graph output, what is computed is now called `raw`."""
        dtype = self.plan.pairs[name].dtype
        out = name if raw else self.names.fresh(f"{name}_DequantizeLinear_Output")
        self._pair(raw or name, name, self._scale(name, dtype), dtype, out)
        if not raw:
            self.renamed[name] = out

    def _pair(self, tensor: str, name: str, scale: Array, dtype: DType, out: str) -> None:
        parameters = self._parameters(name, scale, dtype)
        q = self.names.fresh(f"{name}_QuantizeLinear_Output")
        self._node("QuantizeLinear", name, [tensor, *parameters], q)
        self._node("DequantizeLinear", name, [q, *parameters], out)

    def _node(self, op: str, name: str, inputs: list[str], out: str, axis: int | None = None) -> None:
        node = helper.make_node(op, inputs, [out], self.names.fresh(f"{name}_{op}"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def _parameters(self, name: str, scale: Array, dtype: DType) -> list[str]:
        """Add scale and zero point of tensor `name`; return their names."""
        made = [self.names.fresh(f"{name}_scale"), self.names.fresh(f"{name}_zero_point")]
        self.consts[made[0]] = scale
        self.consts[made[1]] = np.zeros(scale.shape, dtype=dtype.numpy)
        return made

    def _quantize_operands(self, index: int, node: NodeProto) -> NodeProto:
        changed = dict(self._operands(index, node))
        if not changed:
            return node
        return remake(node, [changed.get(position, name) for position, name in enumerate(node.input)])

    def _operands(self, index: int, node: NodeProto) -> Iterator[tuple[int, str]]:
        """Yield (position, new tensor) for the inputs that do not simply read a pair."""
        for position, name in enumerate(node.input):
            slot = (index, position)
            if slot in self.plan.weights:
                yield position, self._constant(name, self.plan.weights[slot], self.weight)
            elif slot in self.plan.constants:
                yield position, self._constant(name, None, self.plan.constants[slot])
            elif slot in self.plan.biases:
                yield position, self._bias(slot, name)
            elif slot in self.plan.recast:
                yield position, self._recast(name, self.plan.recast[slot])

    def _constant(self, name: str, axis: int | None, dtype: DType) -> str:
        """Store constant `name` as integers behind a Dequantize, once; return the Dequantize's output."""
        key = (name, axis, dtype)
        if key in self.dequantized:
            return self.dequantized[key]
        array = self.net.consts[name]
        scale = self._constant_scale(name, axis, dtype)
        shape = [1] * array.ndim
        if axis is not None:
            shape[axis] = -1
        integers = self.names.fresh(f"{name}_quantized")
        self.consts[integers] = numerics.quantize(array, scale.reshape(shape), 0, dtype)
        out = self.names.fresh(f"{name}_DequantizeLinear_Output")
        self._node("DequantizeLinear", name, [integers, *self._parameters(name, scale, dtype)], out, axis)
        self.dequantized[key] = out
        return out

    def _constant_scale(self, name: str, axis: int | None, dtype: DType) -> Array:
        array = self.net.consts[name]
        if not np.isfinite(array).all():
            fix = "repair the model: training may have diverged"
            raise QuantizationError(
                must(f"constant '{name}'", "every value", "finite", "NaN or infinite", fix)
            )
        others = tuple(i for i in range(array.ndim) if i != axis)
        widest = np.abs(array).max(axis=others) if array.size else np.zeros(())
        if array.size == widest.size:  # a scale per value: code 127 is exact, 127.5 would lose 0.4 %
            return (safe_range(widest) / dtype.qmax).astype(np.float32)
        return numerics.observed_scale(safe_range(widest), dtype)

    def _recast(self, name: str, dtype: DType) -> str:
        """Return tensor `name` rounded again, to `dtype`, for an operator that takes nothing else."""
        if (name, dtype) not in self.recast:
            out = self.names.fresh(f"{name}_{dtype.value}_DequantizeLinear_Output")
            source, scale = self.renamed.get(name, name), self._scale(name, dtype)
            self._pair(source, f"{name}_{dtype.value}", scale, dtype, out)
            self.recast[name, dtype] = out
        return self.recast[name, dtype]

    def _bias(self, slot: Slot, name: str) -> str:
        """Return the bias as int32 in steps of the accumulator, or as it is when it does not fit int32."""
        mac = self.plan.biases[slot]
        scale = self._operand_scale(mac, 0) * self._operand_scale(mac, 1)
        node, array = self.net.nodes[mac], self.net.consts[name]
        if node.op_type == "ConvTranspose" and scale.size > 1:
            scale = np.tile(scale, attribute(node, "group", 1))
        flat = channel_vector(array, max(array.ndim, 1), max(array.ndim - 1, 0), max(array.size, scale.size))
        fits = flat is not None and scale.size in {1, flat.size} and self._fits_int32(flat, scale)
        if flat is None or not fits or scale.dtype != np.float32:
            return name
        inputs = [self.names.fresh(f"{name}_quantized"), self.names.fresh(f"{name}_scale")]
        self.consts[inputs[0]] = numerics.quantize(flat, scale.astype(np.float64), 0, DType.INT32)
        self.consts[inputs[1]] = scale
        out = self.names.fresh(f"{name}_DequantizeLinear_Output")
        self._node("DequantizeLinear", name, inputs, out, 0 if scale.ndim else None)
        return out

    @staticmethod
    def _fits_int32(bias: Array, scale: Array) -> bool:
        steps = np.abs(bias / scale.astype(np.float64))
        return bool(np.isfinite(steps).all() and (steps <= DType.INT32.qmax).all())

    def _operand_scale(self, mac: int, position: int) -> Array:
        """Return the scale of an operand of a MAC as float32; NaN when it is not quantized."""
        name = self.net.nodes[mac].input[position]
        if (mac, position) in self.plan.weights:
            return self._constant_scale(name, self.plan.weights[mac, position], self.weight)
        if name not in self.plan.pairs:
            return np.asarray(np.nan, dtype=np.float32)
        return self._scale(name, self.plan.recast.get((mac, position), self.plan.pairs[name].dtype))
