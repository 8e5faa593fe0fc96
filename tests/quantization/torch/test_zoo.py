"""Small modules of perception networks: converted, they have the bits of the simulated ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from openbpu import compiler  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.runtime import Session  # noqa: E402
from quantization.torch.networks import MARCH, calibrated  # noqa: E402
from quantization.torch.zoo import Case, flat  # noqa: E402
from quantization.torch.zoo_images import IMAGES  # noqa: E402
from quantization.torch.zoo_rows import ROWS  # noqa: E402
from quantization.torch.zoo_steps import LAYERS  # noqa: E402

ZOO: dict[str, Case] = {**IMAGES, **ROWS, **LAYERS}
SETTERS = {
    "int8": bpu.default_calibration_qconfig_setter,
    "int16": bpu.calibration_8bit_weight_16bit_act_qconfig_setter,
}
BORDERS = {"QuantizeLinear", "DequantizeLinear"}


def compared(case: Case, dtype: str) -> tuple[Any, list[Any], list[Any]]:
    """(program, converted outputs, simulated outputs)."""
    data = case.data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bpu.SharedModuleWarning)
        model = calibrated(case.module(), data, SETTERS[dtype])
    proto = bpu.export(model, data)
    program = compiler.compile(proto, march=str(MARCH))
    feeds = {value.name: t.numpy() for value, t in zip(proto.graph.input, data, strict=True)}
    outputs = Session(program).run(feeds).outputs
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", bpu.CpuOperatorWarning)
        found = flat(bpu.convert(model)(*data))
    return program, [t.numpy() for t in found], [outputs[v.name] for v in proto.graph.output]


def check(case: Case, dtype: str) -> set[str]:
    """Compare the bits; returns the operators on the CPU."""
    program, found, wanted = compared(case, dtype)
    on_cpu = {row.op for row in program.placement if row.on == "CPU"} - BORDERS
    assert len(found) == len(wanted)
    for mine, simulated in zip(found, wanted, strict=True):
        assert mine.shape == simulated.shape
        # ONNX Runtime adds floats in another order, and divides by a scale in float32.
        if case.loose or (on_cpu and dtype == "int16"):
            np.testing.assert_allclose(mine, simulated, rtol=0, atol=np.abs(mine).max() / 8192)
        else:
            np.testing.assert_array_equal(mine, simulated)
    return on_cpu


def refuse(case: Case) -> None:
    """The error names a module and a line of the list."""
    bpu.set_march(MARCH)
    with pytest.raises(bpu.QTensorError, match=rf"\S+ \(.*zoo_\w+\.py:\d+\): .*{case.refused}"):
        bpu.prepare(case.module().eval(), case.data())


@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if c.fast and not c.refused])
def test_a_converted_module_has_the_simulators_bits(name: str) -> None:
    assert check(ZOO[name], "int8") == set(ZOO[name].cpu)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if not c.fast and not c.refused])
def test_every_converted_module_has_the_simulators_bits(name: str) -> None:
    assert check(ZOO[name], "int8") == set(ZOO[name].cpu)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if not c.refused])
def test_every_converted_module_has_the_simulators_bits_in_int16(name: str) -> None:
    assert check(ZOO[name], "int16") - {"MatMul", "Div"} <= set(ZOO[name].cpu)


@pytest.mark.parametrize("name", [n for n, c in ZOO.items() if c.refused])
def test_what_has_no_rule_is_refused_with_module_and_line(name: str) -> None:
    refuse(ZOO[name])
