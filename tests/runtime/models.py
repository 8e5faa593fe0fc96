"""Small programs for the tests of sessions: on the CPU alone, changing sides twice, one convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import helper

from openbpu.arch.dtypes import DType
from openbpu.arch.program import (
    Conv,
    CpuSegment,
    DebugEntry,
    Dequantize,
    Placement,
    Program,
    Quantize,
    Space,
    Tensor,
)
from simulator.build import Build, segment_of
from simulator.tiles import tiled

SHAPE = (1, 4, 4, 8)
SCALE = 0.05


def onnx_model(nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], names_out: list[str]) -> bytes:
    outputs = [onnx.ValueInfoProto(name=name) for name in names_out]
    for value in outputs:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    made: bytes = model.SerializeToString()
    return made


def floats(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    value: onnx.ValueInfoProto = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    return value


def cpu_program(op: str = "Relu") -> Program:
    """image [2,3] → op → result, all of it on the CPU."""
    node = helper.make_node(op, ["image"], ["result"], name="only")
    model = onnx_model([node], [floats("image", (2, 3))], ["result"])
    tensors = (
        Tensor("image", (2, 3), DType.FLOAT32, Space.DDR, 0),
        Tensor("result", (2, 3), DType.FLOAT32, Space.DDR, 64),
    )
    segment = CpuSegment("cpu0", model, (0,), (1,), ("image",), ("result",), 6_000_000, 48, 1)
    return Program(
        name="on the CPU",
        march="nash-e",
        tensors=tensors,
        inputs=(0,),
        outputs=(1,),
        segments=(segment,),
        constants=np.empty(0, np.uint8),
        ddr_bytes=128,
        placement=(Placement("only", op, "CPU", 0, "float/float", "not quantized", "quantize the model"),),
    )


def bpu_program(march: str = "nash-e") -> Program:
    """x → Quantize → Conv 1×1 (the identity, halved) → Dequantize → y, all of it on the BPU."""
    b = Build()
    x, q = b.input(SHAPE, DType.FLOAT32), b.tensor(SHAPE)
    halved, y = b.tensor(SHAPE), b.tensor(SHAPE, DType.FLOAT32)
    c = SHAPE[-1]
    params = np.tile(np.array([0, 1 << 30, 0, 31], np.int32), (c, 1))
    weights, params_id = b.const(np.eye(c, dtype=np.int8).reshape(c, 1, 1, c)), b.const(params)
    b.add(Quantize(inputs=(x,), outputs=(q,), scale=SCALE, node=0))
    b.add(
        Conv(
            inputs=(q,),
            outputs=(halved,),
            weight_id=weights,
            params_id=params_id,
            x_shape=SHAPE,
            y_shape=SHAPE,
            kernel=(1, 1),
            node=1,
        )
    )
    scales = b.const(np.array([SCALE], np.float32))
    b.add(
        Dequantize(
            inputs=(halved,), outputs=(y,), scales_id=scales, shape=(1, 1, int(np.prod(SHAPE))), node=2
        )
    )
    program = b.program((y,))
    names = {x: "x", y: "y"}
    tensors = tuple(replace(t, name=names.get(i, t.name)) for i, t in enumerate(program.tensors))
    return replace(
        program,
        name="halver",
        march=march,
        tensors=tensors,
        debug=(
            DebugEntry("x_q", "QuantizeLinear", ("x_q",)),
            DebugEntry("conv", "Conv", ("conv", "requantize"), "net.conv", "net.py:7"),
            DebugEntry("y_dq", "DequantizeLinear", ("y_dq",)),
        ),
        placement=(
            Placement("x_q", "QuantizeLinear", "BPU", 0, "float/int8", layer=0),
            Placement("conv", "Conv", "BPU", 0, "int8/int8", scope="net.conv", source="net.py:7", layer=1),
            Placement("y_dq", "DequantizeLinear", "BPU", 0, "int8/float", layer=2),
        ),
        options=(("opt", "2"),),
        macs=(("int8xint8", 1024),),
    )


def mixed_program() -> Program:
    """`bpu_program`, then a CPU segment (Neg); its result is one output, a view of y the other."""
    program = bpu_program()
    bpu = segment_of(program)
    y = program.outputs[0]
    view, last = len(program.tensors), len(program.tensors) + 1
    size = int(np.prod(SHAPE))
    node = helper.make_node("Neg", ["y"], ["negative"], name="neg")
    model = onnx_model([node], [floats("y", SHAPE)], ["negative"])
    flat = Tensor("flat", (size,), DType.FLOAT32, Space.VIEW, y)
    negative = Tensor("negative", SHAPE, DType.FLOAT32, Space.DDR, -1)
    placed = Placement("neg", "Neg", "CPU", 1, "float/float", "its input is not quantized", "quantize it")
    return replace(
        program,
        name="mixed",
        tensors=(*program.tensors, flat, negative),
        outputs=(view, last),
        segments=(bpu, CpuSegment("cpu0", model, (y,), (last,), ("y",), ("negative",), size, size * 8, 1)),
        placement=(*program.placement, placed),
    )


def conv_program(
    c_in: int = 32,
    c_out: int = 32,
    size: int = 8,
    kernel: int = 1,
    groups: int = 1,
    dtype: DType = DType.INT8,
) -> Program:
    b = Build()
    x, y = b.input((1, size, size, c_in), dtype), b.tensor((1, size, size, c_out), dtype)
    pad = kernel // 2
    b.add(
        Conv(
            inputs=(x,),
            outputs=(y,),
            weight_id=b.const(np.zeros((c_out, kernel, kernel, c_in // groups), np.int8)),
            params_id=b.const(np.tile(np.array([0, 1 << 30, 0, 31], np.int32), (c_out, 1))),
            x_shape=(1, size, size, c_in),
            y_shape=(1, size, size, c_out),
            kernel=(kernel, kernel),
            pads=(pad,) * 4,
            groups=groups,
        )
    )
    return tiled(b.program((y,)))
