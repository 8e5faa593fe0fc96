"""Insert the planned Quantize/Dequantize pairs into the net, given the observed ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
from onnx import ModelProto, NodeProto, helper

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.blocks import codes
from openbpu.quantization.onnx.limits import Limits
from openbpu.quantization.onnx.marked import marked
from openbpu.quantization.onnx.net import Names, Net, assemble
from openbpu.quantization.onnx.nodes import remake, rename_reads
from openbpu.quantization.onnx.plan import Plan
from openbpu.quantization.onnx.scales import Scales
from openbpu.quantization.onnx.shifts import NO_SHIFTS, Shifts


def apply_plan(
    net: Net,
    plan: Plan,
    ranges: Mapping[str, float],
    weight: DType,
    limits: Mapping[str, Limits] = MappingProxyType({}),
    shifts: Shifts = NO_SHIFTS,
) -> ModelProto:
    """Return the quantized model; `ranges` maps every source of the plan to max|x|.

    One whose step the model itself gives takes that.
    `limits`: how far the values of constants matter that lead into a Softmax. `shifts`: the sources that may
    have a zero point; none of a given step.
    """
    ranges = {**ranges, **{name: step.range for name, step in plan.steps.items()}}
    return _Builder(net, plan, Scales(net, plan, ranges, weight, limits, shifts)).model()


class _Builder:
    """Walks the net once; collects nodes in topological order and the constants they read."""

    def __init__(self, net: Net, plan: Plan, scales: Scales) -> None:
        self.net, self.plan, self.scales = net, plan, scales
        self.names = Names(net)
        self.consts: dict[str, Array] = {}
        self.nodes: list[NodeProto] = []
        self.renamed: dict[str, str] = {}
        self.recast: dict[tuple[str, DType], str] = {}
        self.dequantized: dict[tuple[str, DType, bytes], str] = {}

    def model(self) -> ModelProto:
        for name in self.net.inputs:
            if name in self.plan.pairs:
                self._add_pair(name)
        for index, node in enumerate(self.net.nodes):
            made = self._quantize_operands(index, node)
            made = marked(made, stays=index in self.plan.floats)
            self.nodes.append(rename_reads(made, self._renamed_for(index)))
            self._quantize_results(node)
        return assemble(self.net.with_nodes(self.nodes, self.consts))

    def _renamed_for(self, index: int) -> Mapping[str, str]:
        """Return by what names node `index` reads the tensors that have a pair."""
        if index not in self.plan.cpu:
            return self.renamed
        return {name: out for name, out in self.renamed.items() if name not in self.plan.fed}

    def _quantize_results(self, node: NodeProto) -> None:
        results = [name for name in node.output if name in self.plan.pairs]
        raw = {
            name: self.names.fresh(f"{name}_QuantizeLinear_Input")
            for name in results
            if name in self.net.outputs and name not in self.plan.fed
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
        scale, zero = self.scales.tensor(name, dtype), self.scales.zero(name, dtype)
        self._pair(raw or name, name, scale, dtype, out, zero)
        if not raw:
            self.renamed[name] = out

    def _pair(self, tensor: str, name: str, scale: Array, dtype: DType, out: str, zero: int = 0) -> None:
        parameters = self._parameters(name, scale, dtype, zero)
        q = self.names.fresh(f"{name}_QuantizeLinear_Output")
        self._node("QuantizeLinear", name, [tensor, *parameters], q)
        self._node("DequantizeLinear", name, [q, *parameters], out)

    def _node(self, op: str, name: str, inputs: list[str], out: str, axis: int | None = None) -> None:
        node = helper.make_node(op, inputs, [out], self.names.fresh(f"{name}_{op}"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def _parameters(self, name: str, scale: Array, dtype: DType, zero: int = 0) -> list[str]:
        """Add scale and zero point of tensor `name`; return their names."""
        made = [self.names.fresh(f"{name}_scale"), self.names.fresh(f"{name}_zero_point")]
        self.consts[made[0]] = scale
        self.consts[made[1]] = np.full(scale.shape, zero, dtype=dtype.numpy)
        return made

    def _quantize_operands(self, index: int, node: NodeProto) -> NodeProto:
        changed = dict(self._operands(index, node))
        if not changed:
            return node
        return remake(node, [changed.get(position, name) for position, name in enumerate(node.input)])

    def _operands(self, index: int, node: NodeProto) -> Iterator[tuple[int, str]]:
        """Yield (position, new tensor) for the inputs that do not simply read a pair."""
        plan, scales = self.plan, self.scales
        for position, name in enumerate(node.input):
            slot = (index, position)
            if slot in plan.weights:
                scale = scales.weights(*slot)
                yield position, self._constant(name, scale, plan.weights[slot], scales.weight)
            elif slot in plan.constants:
                dtype = plan.constants[slot]
                yield position, self._constant(name, scales.constant(name, None, dtype), None, dtype)
            elif slot in plan.biases:
                mac = plan.biases[slot]
                yield position, self._bias(name, mac, 1 if mac == index else self._rank(mac))
            elif slot in plan.recast:
                yield position, self._recast(name, plan.recast[slot])

    def _constant(self, name: str, scale: Array, axis: int | None, dtype: DType) -> str:
        """Store constant `name` as integers behind a Dequantize, once; return the Dequantize's output."""
        key = (name, dtype, scale.tobytes())
        if key in self.dequantized:
            return self.dequantized[key]
        array = self.scales.finite(name)
        integers = self.names.fresh(f"{name}_quantized")
        self.consts[integers] = codes(array, scale, axis, dtype)
        out = self.names.fresh(f"{name}_DequantizeLinear_Output")
        self._node("DequantizeLinear", name, [integers, *self._parameters(name, scale, dtype)], out, axis)
        self.dequantized[key] = out
        return out

    def _recast(self, name: str, dtype: DType) -> str:
        """Return tensor `name` rounded again, to `dtype`, for an operator that takes nothing else."""
        if (name, dtype) not in self.recast:
            out = self.names.fresh(f"{name}_{dtype.value}_DequantizeLinear_Output")
            source, scale = self.renamed.get(name, name), self.scales.tensor(name, dtype)
            self._pair(source, f"{name}_{dtype.value}", scale, dtype, out, self.scales.zero(name, dtype))
            self.recast[name, dtype] = out
        return self.recast[name, dtype]

    def _rank(self, mac: int) -> int:
        return len(self.net.shapes[self.net.nodes[mac].output[0]])

    def _bias(self, name: str, mac: int, rank: int) -> str:
        """Return the bias as int32 in steps of the accumulator, or as it is where that cannot be.

        One that an Add adds gets the rank of the sum: of a MatMul and a vector ONNX Runtime makes a Gemm
        between Reshapes, puts a pair behind the first, and refuses that pair at opset 21.
        """
        bias = self.scales.bias(name, mac)
        step = None if bias is None else self.scales.accumulator(mac, bias.size)
        if bias is None or step is None or (np.abs(bias / step.astype(np.float64)) > DType.INT32.qmax).any():
            return self._of_rank(name, rank)
        inputs = [self.names.fresh(f"{name}_quantized"), self.names.fresh(f"{name}_scale")]
        codes = numerics.nearest(bias, step, 0, DType.INT32)
        self.consts[inputs[0]] = codes.reshape((1,) * (rank - 1) + codes.shape)
        self.consts[inputs[1]] = step
        out = self.names.fresh(f"{name}_DequantizeLinear_Output")
        self._node("DequantizeLinear", name, inputs, out, rank - 1 if step.ndim else None)
        return out

    def _of_rank(self, name: str, rank: int) -> str:
        """Return constant `name`, with axes of length 1 in front where it has fewer."""
        array = self.net.consts[name]
        if array.ndim >= rank:
            return name
        wide = self.names.fresh(f"{name}_of_rank_{rank}")
        self.consts[wide] = array.reshape((1,) * (rank - array.ndim) + array.shape)
        return wide
