"""Models and inputs that cannot work: each error names module, source line and what to do."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.arch.errors import OpenbpuError  # noqa: E402
from openbpu.compat.deploy import check_model, compile_model  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between, calibrated  # noqa: E402

STATE = bpu.FakeQuantState
DATA = torch.linspace(-1, 1, 1 * 4 * 6 * 6).reshape(1, 4, 6, 6)
LIST: Any = [1]
TEXT: Any = "qat"
LINE = r"test_bad_input\.py:\d+\)"


@pytest.fixture(autouse=True)
def march() -> None:
    bpu.set_march(bpu.March.NASH_M)


def conv() -> Any:
    return nn.Conv2d(4, 4, 3, padding=1)


class FloatBranch(Between):
    """Branches on what the DeQuantStub gave: Python can, a compiled model cannot."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if y.max() > 0.1:
            return y + 1
        return y


class Grows(Between):
    """A loop whose length may change from forward to forward."""

    turns = 1

    def forward(self, x: Any) -> Any:
        y = self.function(self.quant(x))
        for _ in range(self.turns):
            y = y * 2
        return self.dequant(y)


class TwoInputs(Between):
    """Takes two tensors."""

    def forward(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return self.dequant(self.function(self.quant(x)) + self.quant(y))


class NoStub(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """Computes, and nothing is quantized."""

    def forward(self, x: Any) -> Any:
        return torch.relu(x) * 2


class NoQuant(nn.Module):  # type: ignore[misc]
    """A convolution on what no QuantStub has quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dequant = conv(), bpu.DeQuantStub()

    def forward(self, x: Any) -> Any:
        return self.dequant(self.conv(x))


class Raises(Between):
    """Stops with an error of its own."""

    def forward(self, x: Any) -> Any:
        raise ValueError(f"no good: {x.shape}")


def prepared(model: Any, inputs: Any = DATA, **options: Any) -> Any:
    return bpu.prepare(model.eval(), inputs, **options)


def by_fx(model: Any) -> Any:
    return bpu.prepare_qat_fx(model, {"": bpu.default_calib_8bit_fake_quant_qconfig})


REFUSED: dict[str, tuple[Any, str]] = {
    "wrong channels": (
        lambda: prepared(Between(conv()), torch.ones(1, 5, 6, 6)),
        r"function \(.*networks\.py:\d+\): example_inputs must be .*not float32\[1, 5, 6, 6\].*4 channels",
    ),
    "an argument too few": (lambda: prepared(TwoInputs(conv())), rf"TwoInputs \(.*{LINE}.*argument: 'y'"),
    "an argument too many": (
        lambda: prepared(Between(conv()), (DATA, DATA)),
        rf"Between \(.*{LINE}: example_inputs must .*takes 2 positional arguments",
    ),
    "an integer input": (lambda: prepared(Between(conv()), DATA.long()), r"float tensor, not torch\.int64"),
    "a float64 input": (
        lambda: prepared(Between(conv()), DATA.double()),
        r"float32 tensor, not torch.float64",
    ),
    "an array": (lambda: prepared(Between(conv()), DATA.numpy()), r"networks\.py:\d+\).*not a ndarray"),
    "no input": (lambda: prepared(Between(conv()), None), "example_inputs must be given"),
    "an error in forward": (lambda: prepared(Raises(conv())), rf"Raises \(.*{LINE}: .*ValueError: no good"),
    "nothing quantized": (
        lambda: prepared(NoStub()),
        "NoStub: some .* must be quantized, not none.*QuantStub",
    ),
    "no model": (lambda: bpu.prepare(len, DATA), "must be an nn.Module, not builtin_function_or_method"),
    "prepared twice": (lambda: prepared(prepared(Between(conv()))), "not one that is prepared already"),
    "a setter that is none": (
        lambda: prepared(Between(conv()), qconfig_setter="int8"),
        "qconfig_setter must be a function of a Place, not 'int8'",
    ),
    "a qconfig that is none": (
        lambda: prepared(Between(conv()), qconfig_setter=lambda _: 5),
        "quant: the qconfig must be a QConfig of openbpu or None, not 5",
    ),
    "fx: a branch": (lambda: by_fx(FloatBranch(conv())), rf"FloatBranch \(.*{LINE}.*control flow"),
    "fx: no stub": (
        lambda: by_fx(NoQuant()),
        rf"conv \(.*{LINE}: some tensor .* quantized, not none; put a Q",
    ),
    "a method that is none": (
        lambda: prepared(Between(conv()), method="eager"),
        r"method must be one of PrepareMethod\.EAGER, .* not 'eager'",
    ),
    "compile: no such folder": (
        lambda: compile_model(calibrated(Between(conv()), DATA), [DATA], hbm="/proc/none/model.hbm"),
        "hbm must be a path that can be written, not '/proc/none/model.hbm'",
    ),
    "fx: no qconfig": (
        lambda: bpu.prepare_qat_fx(Between(conv()), {}),
        "Between: some module must be quantized, not none",
    ),
    "fx: a list": (lambda: bpu.prepare_qat_fx(Between(conv()), LIST), r"qconfig_dict must be .*not \[1\]"),
    "fuse: an unknown name": (
        lambda: bpu.fuse_modules(Between(conv()), ["function", "bn"]),
        r"must be a module of Between \(quant, dequant, function\), not 'bn'",
    ),
    "export: wrong channels": (
        lambda: bpu.export(calibrated(Between(conv()), DATA), torch.ones(1, 5, 6, 6)),
        r"function \(.*networks\.py:\d+\): example_inputs must be",
    ),
    "export: a branch": (
        lambda: bpu.export(calibrated(FloatBranch(conv()), DATA), DATA),
        rf"FloatBranch \(.*{LINE}: a value decides .*data-dependent control flow.*torch\.where",
    ),
    "export: a float model": (lambda: bpu.export(Between(conv()), DATA), "call prepare and calibrate first"),
    "convert: a float model": (lambda: bpu.convert(Between(conv())), "call prepare and calibrate first"),
    "convert: not calibrated": (lambda: bpu.convert(prepared(Between(conv()))), "never observed .*quant"),
    "check: a float model": (lambda: check_model(Between(conv()), DATA), "call prepare"),
    "compile: a float model": (lambda: compile_model(Between(conv()), [DATA]), "call prepare"),
    "state: a float model": (
        lambda: bpu.set_fake_quantize(Between(conv()), STATE.QAT),
        "no fake quantizers; call prepare first",
    ),
    "state: a string": (
        lambda: bpu.set_fake_quantize(prepared(Between(conv())), TEXT),
        "state must be a FakeQuantState, not 'qat'",
    ),
    "state: a converted model": (
        lambda: bpu.set_fake_quantize(bpu.convert(calibrated(Between(conv()), DATA)), STATE.CALIBRATION),
        "a converted model must be in FakeQuantState.VALIDATION",
    ),
    "statistics: an argument too many": (
        lambda: bpu.statistics_table(Between(conv()), (DATA, DATA)),
        rf"Between \(.*{LINE}: example_inputs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_what_and_where(case: str, capfd: Any) -> None:
    call, text = REFUSED[case]
    with pytest.raises(OpenbpuError, match=text):
        call()
    assert "def forward" not in capfd.readouterr().err  # torch's exporter dumps graphs


def test_a_path_that_prepare_did_not_take_is_named_at_its_line() -> None:
    model = calibrated(Grows(conv()), DATA)
    model.turns = 2
    with pytest.raises(bpu.PrepareError, match=rf"Grows \(.*{LINE}: 'mul' on QTensors was not met"):
        model(DATA)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_calibration_data_that_are_not_finite_are_refused(value: float) -> None:
    model = prepared(Between(conv())).eval()
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    with pytest.raises(
        bpu.PrepareError, match=r"Between \(.*networks\.py:\d+\): observed values must be finite"
    ):
        model(torch.full_like(DATA, value))


@pytest.mark.parametrize("options", [{"observer": "mse"}, {"fix_scale": 0.0}, {"fix_scale": float("nan")}])
def test_a_qconfig_says_what_is_wrong(options: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"get_qconfig: {next(iter(options))} must be"):
        bpu.get_qconfig(**options)


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), "1/128"])
def test_a_stubs_scale_is_a_number_above_zero(scale: Any) -> None:
    with pytest.raises(ValueError, match="QuantStub: scale must be a number above 0"):
        bpu.QuantStub(scale=scale)


@pytest.mark.parametrize(
    "call",
    [
        lambda qconfig: bpu.prepare_qat_fx(
            Between(conv()), {"": qconfig, "module_name": {"funktion": qconfig}}
        ),
        lambda qconfig: prepared(
            Between(conv()),
            qconfig_setter=(
                bpu.ModuleNameQconfigSetter({"funktion": qconfig}),
                bpu.default_calibration_qconfig_setter,
            ),
        ),
        lambda qconfig: prepared(
            Between(conv()),
            qconfig_setter=bpu.QconfigSetter(qconfig, [bpu.ModuleNameTemplate({"funktion": bpu.qint16})]),
        ),
    ],
)
def test_a_qconfig_for_a_name_that_does_not_exist_is_told(call: Any) -> None:
    text = rf"{LINE}: .*'funktion', which is no module of the model; the nearest is 'function'"
    with pytest.warns(bpu.UnknownModuleWarning, match=text):
        call(bpu.get_qconfig())


def test_an_operator_of_the_models_own_forward_is_prepared_by_fx() -> None:
    class Doubled(Between):
        def forward(self, x: Any) -> Any:
            y = self.function(self.quant(x))
            return self.dequant(y + y * 2)

    model = by_fx(Doubled(conv()).eval())
    assert {"_generated_mul_0", "_generated_add_0"} <= dict(model.named_children()).keys()
    model.eval()
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    with torch.no_grad():
        model(DATA)
    model.eval()
    bpu.set_fake_quantize(model, STATE.VALIDATION)
    assert model(DATA).shape == DATA.shape
