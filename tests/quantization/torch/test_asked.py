"""What a script asks of single modules is done, or it is said that it is not."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.torch.errors import FusedQconfigWarning  # noqa: E402
from quantization.torch.networks import Between, calibrated  # noqa: E402

IMAGE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
INT16 = bpu.default_calib_16bit_fake_quant_qconfig


class Residual(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
        self.a, self.norm, self.act = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.c, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Any) -> Any:
        x = self.act(self.norm(self.a(self.quant(x))))
        return self.dequant(self.last(torch.relu(self.c(x) + x)))


def kinds(model: Any) -> dict[str, tuple[str, float]]:
    """Path of each result → (dtype, scale)."""
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, bpu.FakeQuantize)]
    return {
        n.removesuffix(".activation_post_process"): (str(m.dtype), float(m.scale.max()))
        for n, m in found
        if n.endswith("activation_post_process")
    }


def templates(*given: Any) -> Any:
    return bpu.QconfigSetter(bpu.get_qconfig(bpu.MinMaxObserver), given)


def named(**names: Any) -> Any:
    return templates(bpu.ModuleNameTemplate({n.replace("__", "."): v for n, v in names.items()}))


@pytest.mark.parametrize(
    ("setter", "path"),
    [
        (
            (bpu.ModuleNameQconfigSetter({"c": INT16}), bpu.default_calibration_qconfig_setter),
            "_generated_relu_0",
        ),
        (named(c=bpu.qint16), "_generated_relu_0"),
        (named(norm=bpu.qint16), "a"),
        (named(act={"dtype": "qint16"}), "a"),
        (templates(bpu.SensitivityTemplate([["c", "activation"]], 1)), "_generated_relu_0"),
    ],
)
def test_int16_of_a_part_holds_for_the_whole_that_shares_one_rounding(setter: Any, path: str) -> None:
    found = kinds(calibrated(Residual(), IMAGE, setter))
    assert {name for name, (dtype, _) in found.items() if dtype == "qint16"} == {path}


def test_a_narrower_dtype_of_a_part_is_said_to_have_no_effect() -> None:
    with pytest.warns(FusedQconfigWarning, match=r"the qconfig of 'c' \(qint8\) has no effect"):
        calibrated(Residual(), IMAGE, named(c=bpu.qint8, _generated_relu_0=bpu.qint16))


def test_a_threshold_is_the_largest_value() -> None:
    wanted = {
        "": bpu.qint8,
        "quant": {"dtype": bpu.qint8, "threshold": 1.0},
        "a": {"dtype": bpu.qint16, "threshold": {"output": 4.0}},
        "c": {"threshold": 2.0},
    }
    found = kinds(calibrated(Residual(), IMAGE, templates(bpu.ModuleNameTemplate(wanted))))
    assert found["quant"] == ("qint8", 1 / 128)
    assert found["a"] == ("qint16", 4 / 32768)
    assert found["_generated_relu_0"] == ("qint8", 2 / 128)


def test_each_operand_has_the_dtype_that_is_asked_for() -> None:
    class Product(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
        def forward(self, x: Any) -> Any:
            return torch.matmul(x, x.transpose(1, 2))

    data = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    for given in (bpu.qint8, [bpu.qint8, bpu.qint8], (bpu.qint16, bpu.qint8)):
        sixteen = bpu.ModuleNameTemplate({"": bpu.qint16})
        setter = templates(sixteen, bpu.MatmulDtypeTemplate(input_dtypes=given, output_dtype=bpu.qint8))
        model = calibrated(Between(Product()), data, setter)
        nodes = bpu.export(model, data).graph.node
        made = {o: n for n in nodes for o in n.output}
        product = next(n for n in nodes if n.op_type == "MatMul")
        weights = {i.name: i.data_type for i in bpu.export(model, data).graph.initializer}
        types = []
        for name in product.input:
            node = made[name]
            while node.op_type != "DequantizeLinear":
                node = made[node.input[0]]
            types.append(weights[node.input[2]])
        wanted = {"qint8": 3, "qint16": 5}
        each = given if isinstance(given, (list, tuple)) else [given] * 2
        assert types == [wanted[str(d)] for d in each]


def test_a_fixed_scale_is_a_flag() -> None:
    for flag in (True, False):
        qconfig = bpu.get_qconfig(bpu.MovingAverageMinMaxObserver, fix_scale=flag)
        model = calibrated(Residual(), IMAGE, bpu.QconfigSetter(qconfig))
        before = kinds(model)
        model.train()
        bpu.set_fake_quantize(model, bpu.FakeQuantState.QAT)
        model(IMAGE * 10)
        assert (kinds(model) == before) is flag
        assert before["quant"][1] < 0.1


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: bpu.FakeQuantize(bpu.MinMaxObserver, averaging=0.1), "averaging"),
        (lambda: bpu.MinMaxObserver(quant_min=-64), "quant_min"),
        (lambda: bpu.MinMaxObserver(qscheme=torch.per_tensor_affine), "qscheme"),
        (lambda: bpu.get_default_qconfig(weight_observer="mse"), "weight_observer"),
        (lambda: calibrated(Residual(), IMAGE, named(c={"treshold": 1})), "treshold"),
        (lambda: calibrated(Residual(), IMAGE, named(c={"threshold": -1})), "threshold"),
        (lambda: calibrated(Residual(), IMAGE, named(c={"threshold": {"weight": 1}})), "weight"),
        (lambda: calibrated(Residual(), IMAGE, named(c=torch.float16)), "float16"),
        (lambda: bpu.SensitivityTemplate([], sensitive_type="bias"), "sensitive_type"),
        (lambda: bpu.convert(None, fast=True), "fast"),
        (lambda: bpu.fuse_modules(nn.Identity(), [], speed=1), "speed"),
    ],
)
def test_what_is_unknown_is_refused_by_name(call: Any, word: str) -> None:
    with pytest.raises((TypeError, ValueError, bpu.PrepareError), match=word):
        call()


def test_a_qconfig_of_torch_is_taken_as_it_is() -> None:
    from torch.ao import quantization as theirs

    activation = theirs.FakeQuantize.with_args(
        observer=theirs.MovingAverageMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_tensor_symmetric,
    )
    ours = bpu.FakeQuantize.with_args(observer=bpu.MinMaxObserver, dtype=bpu.qint16, saturate=True)
    weight = theirs.default_per_channel_weight_fake_quant
    model = Residual()
    model.qconfig = theirs.QConfig(activation=activation, weight=weight)
    model.quant.qconfig = theirs.QConfig(activation=ours, weight=None)
    model.last.qconfig = theirs.QConfig(activation=nn.Identity, weight=weight)
    bpu.set_march("nash-e")
    found = bpu.prepare_qat(model)
    assert found.quant.output_quantizer.dtype is bpu.qint16
    assert type(found.a.output_quantizer.activation_post_process) is bpu.MovingAverageMinMaxObserver
    assert found.a.weight_fake_quant.scale.shape == (4,)
    assert found.last.output_quantizer is None
    model.quant.qconfig = theirs.get_default_qat_qconfig("x86")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        bpu.prepare_qat(model)
    assert any("quint8" in str(w.message) for w in said)


def test_operators_between_modules_are_offered_by_their_names() -> None:
    with pytest.warns(bpu.UnknownModuleWarning, match="are called _generated_relu_0"):
        calibrated(Residual(), IMAGE, named(relu=bpu.qint16))
