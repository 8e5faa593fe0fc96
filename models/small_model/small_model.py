"""A mask times a feature, quantized in seven ways: `python models/small_model/small_model.py [VARIANT …]`.

The input holds three features and a 0/1 flag; the output keeps the features whose flag is set. How the flag
becomes a mask decides whether the quantized model still works, and where the multiplication runs:

    equals_one      mask = flag == 1: after quantization 1 reads 1.0007, so every mask is False
    logical_not     mask = not (flag == 0): right, but a bool mask puts Mul on the CPU
    int16_mask      the same as an int16 tensor: refused, a plain tensor does not meet a quantized one
    quantized_mask  the same as float through a QuantStub of its own: one BPU segment
    huge            quantized_mask with 70000 among the features: the step grows to 2.1363 and 1 becomes 0
    split_input     features and flag quantized apart, each with a step of its own
    split_bool      features and a bool mask as two inputs, the mask to float and quantized

Prints the float model's output, the calibrated model's, the simulator's, and the placement of every node.
"""

import argparse
from collections.abc import Callable
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
    March,
    QuantStub,
    export,
    prepare,
    set_fake_quantize,
    set_march,
)
from openbpu.quantization.torch import calibration_8bit_weight_16bit_act_qconfig_setter as weight8_act16
from openbpu.report.placement import placement_summary, placement_table
from openbpu.runtime import Session

MARCH = March.NASH_M


class Masked(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Base: quantize, mask, multiply; `seen` keeps what the document prints in between."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.dequant = DeQuantStub()
        self.seen: dict[str, Any] = {}

    def note(self, **values: Any) -> None:
        """Remember intermediate values of the last call."""
        self.seen.update(values)


class EqualsOne(Masked):
    """The mistake: comparing a quantized value with 1."""

    def forward(self, actors_input: Any) -> Any:
        """Keep the features whose flag is 1."""
        actors_input = self.quant(actors_input)
        actors_mask = actors_input[:, :, :, -1] == 1
        self.note(actors_input=actors_input, actors_mask=actors_mask)
        return self.dequant(actors_input * actors_mask[:, :, :, None])


class LogicalNot(Masked):
    """0 stays 0 in symmetric quantization, so compare with that."""

    def forward(self, actors_input: Any) -> Any:
        """Keep the features whose flag is not 0."""
        actors_input = self.quant(actors_input)
        actors_mask = torch.logical_not(actors_input[:, :, :, -1] == 0)
        self.note(actors_input=actors_input, actors_mask=actors_mask)
        return self.dequant(actors_input * actors_mask[:, :, :, None])


class Int16Mask(Masked):
    """A plain int16 mask: what the document warns of."""

    def forward(self, actors_input: Any) -> Any:
        """Keep the features whose flag is not 0."""
        actors_input = self.quant(actors_input)
        actors_mask = torch.logical_not(actors_input[:, :, :, -1] == 0).to(torch.int16)
        self.note(actors_input=actors_input, actors_mask=actors_mask)
        return self.dequant(actors_input * actors_mask[:, :, :, None])


class QuantizedMask(Masked):
    """Both operands of the multiplication quantized: it runs on the BPU."""

    def __init__(self) -> None:
        super().__init__()
        self.quant_mask = QuantStub()

    def forward(self, actors_input: Any) -> Any:
        """Keep the features whose flag is not 0."""
        actors_input = self.quant(actors_input)
        actors_mask = torch.logical_not(actors_input[:, :, :, -1] == 0).to(torch.float)
        actors_mask = self.quant_mask(actors_mask)
        self.note(actors_input=actors_input, actors_mask=actors_mask)
        return self.dequant(actors_input * actors_mask[:, :, :, None])


class SplitInput(Masked):
    """Features and flag leave the float world apart: neither step depends on the other's range."""

    def __init__(self) -> None:
        super().__init__()
        self.quant_mask = QuantStub()

    def forward(self, actors_input: Any) -> Any:
        """Multiply the features by their flag."""
        actors_mask = self.quant_mask(actors_input[:, :, :, -1])
        actors_data = self.quant(actors_input[:, :, :, :-1])
        self.note(actors_data=actors_data, actors_mask=actors_mask)
        return self.dequant(actors_data * actors_mask[:, :, :, None])


class SplitBool(Masked):
    """The mask is an input of its own, and bool."""

    def __init__(self) -> None:
        super().__init__()
        self.quant_mask = QuantStub()

    def forward(self, actors_input: dict[str, Any]) -> Any:
        """Multiply `actors_data` by `actors_mask`."""
        actors_mask = actors_input["actors_mask"]
        actors_data = self.quant(actors_input["actors_data"])
        self.note(actors_data=actors_data, actors_mask=actors_mask)
        return self.dequant(actors_data * self.quant_mask(actors_mask.to(torch.float)))


def example(largest: float = 60.5) -> Any:
    """The document's input; `largest` is the one feature that is out of scale."""
    rows = [
        [[0.2465, -0.4717, largest, 1.0], [-0.2124, 0.5660, -1.6637, 0.0]],
        [[0.3338, 1.6051, -1.5088, 1.0], [-0.9215, -0.5901, 1.4871, 0.0]],
        [[0.1650, -0.3785, 1.6710, 0.0], [-0.3752, 0.2337, 0.4186, 0.0]],
        [[-0.2221, -0.1745, -0.6064, 1.0], [0.9174, -0.6317, 0.6133, 1.0]],
    ]
    return torch.tensor(rows).reshape(1, 2, 4, 4)


def bool_example() -> dict[str, Any]:
    """Features and a bool mask, seeded as in the document."""
    torch.manual_seed(41)
    actors_data = torch.randn(1, 2, 4, 3)
    return {
        "actors_data": actors_data,
        "actors_mask": torch.randint(0, 2, (1, 2, 4, 1), dtype=torch.bool),
    }


@dataclass(frozen=True)
class Variant:
    """A model and the input that the document shows it with."""

    model: Callable[[], Masked]
    example: Callable[[], Any]


VARIANTS = {
    "equals_one": Variant(EqualsOne, example),
    "logical_not": Variant(LogicalNot, example),
    "int16_mask": Variant(Int16Mask, example),
    "quantized_mask": Variant(QuantizedMask, example),
    "huge": Variant(QuantizedMask, lambda: example(70000.0)),
    "split_input": Variant(SplitInput, lambda: example(70000.0)),
    "split_bool": Variant(SplitBool, bool_example),
}


def calibrate(model: Masked, data: Any) -> Any:
    """Return the calibrated model in VALIDATION: weights int8, activations int16."""
    set_march(MARCH)
    calib_model = prepare(model.eval(), data, qconfig_setter=(weight8_act16,))
    calib_model.eval()
    set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
    calib_model(data)
    calib_model.eval()
    set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
    return calib_model


def compiled(calib_model: Any, data: Any) -> Program:
    """Export and compile a calibrated model."""
    return compile_model(export(calib_model, data), march=MARCH.value)


def simulate(program: Program, data: Any) -> np.ndarray[Any, Any]:
    """Run the program on the document's input; a dict's values are its inputs in order."""
    session = Session(program, mode="exact")
    values = list(data.values()) if isinstance(data, dict) else [data]
    feed = {info.name: value.numpy() for info, value in zip(session.inputs, values, strict=True)}
    (output,) = session.run(feed).outputs.values()
    return output


def run(name: str) -> None:
    """Take one variant through the whole flow and print what the document prints."""
    variant = VARIANTS[name]
    model, data = variant.model(), variant.example()
    print(f"=== {name}")
    with torch.no_grad():
        print("float output:", model(data))
        calib_model = calibrate(model, data)
        output = calib_model(data)
    for key, value in calib_model.seen.items():
        print(f"{key}:", value)
    print("calib_model out:", output)
    program = compiled(calib_model, data)
    simulated = simulate(program, data)
    print("simulated out:", torch.from_numpy(simulated))
    print("largest difference to the calibrated model:", np.abs(simulated - output.numpy()).max())
    show(placement_table(program.placement), placement_summary(program.placement))


def explained(name: str) -> None:
    """Run one variant; a refusal is its result."""
    try:
        run(name)
    except (OpenbpuError, TypeError) as error:
        print(f"{name}: {error}")


def main() -> None:
    """Run the variants asked for, all of them unless told."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", nargs="*", default=list(VARIANTS), help=", ".join(VARIANTS))
    for name in parser.parse_args().variant:
        explained(name)


if __name__ == "__main__":
    main()
