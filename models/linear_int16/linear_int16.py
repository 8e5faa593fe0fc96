"""A Linear too sensitive for int8: `python models/linear_int16/linear_int16.py [VARIANT …]`.

The network is Linear, LayerNorm, ReLU, Linear, Linear on 2×100×256; the second Linear has outlying weights,
so that int8 rounds most others away. The BPU's Linear takes int16 on one side only:

    input_output    input and output int16, weight int8: the shortest latency
    weight_output   weight and output int16, input int8
    all             input, weight and output int16: the Linear becomes a broadcast multiplication and a sum
    double_int16    a Linear with input and weight int16: the BPU refuses it, and it runs on the CPU

Prints how far each calibrated model is from the float one, its simulated latency and where its nodes run.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from openbpu.arch.errors import OpenbpuError
from openbpu.arch.program import Program
from openbpu.cli.screen import show
from openbpu.compiler import compile as compile_model
from openbpu.quantization.torch import (
    DeQuantStub,
    FakeQuantState,
    FloatFunctional,
    March,
    MinMaxObserver,
    ModuleNameQconfigSetter,
    QuantStub,
    export,
    get_qconfig,
    prepare,
    qint8,
    qint16,
    set_fake_quantize,
    set_march,
)
from openbpu.quantization.torch import calibration_8bit_weight_16bit_act_qconfig_setter as weight8_act16
from openbpu.report.placement import placement_summary, placement_table
from openbpu.report.text import add_row, table
from openbpu.runtime import Session

MARCH = March.NASH_M
VARIANTS = ("input_output", "weight_output", "all", "double_int16")
BATCH, ROWS, FEATURES, RESULTS = 2, 100, 256, 60


class SmallModel(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """The float network, with a Linear in the middle."""

    def __init__(self, rows: int = ROWS) -> None:
        super().__init__()
        self.rows = rows
        self.linear1 = nn.Linear(FEATURES, FEATURES)
        self.layernorm = nn.LayerNorm(FEATURES)
        self.relu = nn.ReLU()
        self.linear2 = nn.Linear(FEATURES, RESULTS)
        self.linear3 = nn.Linear(RESULTS, RESULTS)
        self.quant = QuantStub()
        self.dequant = DeQuantStub()

    def forward(self, x: Any) -> Any:
        """Map [2, rows, 256] to [2, rows, 60]."""
        x = self.quant(x)
        x = self.relu(self.layernorm(self.linear1(x)))
        x = self.linear2(x)
        return self.dequant(self.linear3(x))


class BroadcastModel(nn.Module):  # type: ignore[misc]
    """The same with the second Linear as a broadcast multiplication, a sum and an addition, all in int16."""

    def __init__(self, linear2_weight: Any, linear2_bias: Any, rows: int = ROWS) -> None:
        super().__init__()
        self.rows = rows
        self.linear1 = nn.Linear(FEATURES, FEATURES)
        self.layernorm = nn.LayerNorm(FEATURES)
        self.relu = nn.ReLU()
        self.linear2_weight = linear2_weight
        self.linear2_bias = linear2_bias
        self.linear3 = nn.Linear(RESULTS, RESULTS)
        self.quant = QuantStub()
        self.dequant = DeQuantStub()
        self.quant_linear2_weight = QuantStub()
        self.quant_linear2_bias = QuantStub()
        self.mul = FloatFunctional()

    def forward(self, x: Any) -> Any:
        """Map [2, rows, 256] to [2, rows, 60]."""
        x = self.quant(x)
        linear2_weight = self.quant_linear2_weight(self.linear2_weight)
        linear2_bias = self.quant_linear2_bias(self.linear2_bias)
        x = self.relu(self.layernorm(self.linear1(x)))
        wide = x.reshape(BATCH, self.rows, 1, FEATURES)
        broadcast_mul = self.mul.mul(wide, linear2_weight.reshape(1, 1, RESULTS, FEATURES))
        x = broadcast_mul.sum(dim=-1) + linear2_bias
        return self.dequant(self.linear3(x))


def float_model(rows: int = ROWS) -> SmallModel:
    """Return the seeded float network; a few weights of linear2 are far out, as the document's are."""
    torch.manual_seed(0)
    model = SmallModel(rows)
    with torch.no_grad():
        weight = model.linear2.weight
        weight.normal_(0.0, 0.08)
        far = torch.randint(0, weight.numel(), (weight.numel() // 200,))
        weight.view(-1)[far] *= 60.0
        model.linear3.weight.mul_(0.06)
    return model.eval()


def example(rows: int = ROWS) -> Any:
    """Return the seeded input."""
    return torch.randn(BATCH, rows, FEATURES, generator=torch.Generator().manual_seed(1))


def broadcast_model(source: SmallModel) -> BroadcastModel:
    """Return the rewritten network with the trained weights of `source`: nothing is trained again."""
    state = source.state_dict()
    model = BroadcastModel(state["linear2.weight"], state["linear2.bias"], source.rows)
    model.load_state_dict(state, strict=False)
    return model.eval()


def linear2_setter(weight: Any, inputs: Any) -> ModuleNameQconfigSetter:
    """Give linear2 these dtypes, and an int16 output."""
    qconfig = get_qconfig(observer=MinMaxObserver, in_dtype=inputs, weight_dtype=weight, out_dtype=qint16)
    return ModuleNameQconfigSetter({"linear2": qconfig})


def prepared(variant: str, source: SmallModel, data: Any) -> Any:
    """Return the variant's prepared model; int8 weights and int16 activations where nothing else is said."""
    set_march(MARCH)
    if variant == "all":
        # The products have outliers, which the default observer (MSE) would clip: take their extremes.
        product = get_qconfig(observer=MinMaxObserver, weight_dtype=None, out_dtype=qint16)
        setters = (ModuleNameQconfigSetter({"mul": product}), weight8_act16)
        return prepare(broadcast_model(source), data, qconfig_setter=setters)
    chosen = {
        "input_output": (weight8_act16,),
        "weight_output": (linear2_setter(qint16, qint8), weight8_act16),
        "double_int16": (linear2_setter(qint16, qint16), weight8_act16),
    }
    return prepare(source, data, qconfig_setter=chosen[variant])


def calibrate(model: Any, data: Any) -> Any:
    """Calibrate with the example and return the model in VALIDATION."""
    model.eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(data)
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    return model


@dataclass(frozen=True)
class Outcome:
    """What one variant gave: outputs of the three models, the compiled program, latency in µs."""

    variant: str
    floats: Any
    calibrated: Any
    simulated: Any
    program: Program
    latency_us: float

    @property
    def deviation(self) -> float:
        """Largest difference of calibrated to float."""
        return float((self.calibrated - self.floats).abs().max())


def outcome(variant: str, rows: int = ROWS) -> Outcome:
    """Prepare, calibrate, export, compile, simulate one variant; raises OpenbpuError where it is refused."""
    source, data = float_model(rows), example(rows)
    with torch.no_grad():
        floats = source(data)
        calib_model = calibrate(prepared(variant, source, data), data)
        calibrated = calib_model(data)
    program = compile_model(export(calib_model, data), march=MARCH.value)
    session = Session(program)
    (simulated,) = session.run({session.inputs[0].name: data.numpy()}).outputs.values()
    return Outcome(variant, floats, calibrated, simulated, program, session.latency.bpu_us)


def main() -> None:
    """Run the variants asked for and print them side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", nargs="*", default=list(VARIANTS), help=", ".join(VARIANTS))
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the input; fewer are quicker")
    arguments = parser.parse_args()
    names = ("Variant", "Largest deviation", "Simulated − calibrated", "BPU µs")
    made = table(*names, numbers=names[1:])
    for variant in arguments.variant:
        try:
            found = outcome(variant, arguments.rows)
        except (OpenbpuError, TypeError, ValueError) as error:  # a refusal is a result
            print(f"{variant}: {error}\n")
            continue
        difference = np.abs(found.simulated - found.calibrated.numpy()).max()
        latency = f"{found.latency_us:.1f}"
        add_row(made, variant, f"{found.deviation:.5f}", f"{difference:.6f}", latency)
        print(f"=== {variant}\nfloat: {found.floats}\ncalibrated: {found.calibrated}")
        show(placement_table(found.program.placement), placement_summary(found.program.placement))
    show(made)


if __name__ == "__main__":
    main()
