"""What prepare makes of a model, and what it says about models that it cannot take."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between, Block, calibrated, network  # noqa: E402

STATE = bpu.FakeQuantState


@pytest.fixture(autouse=True)
def march() -> None:
    bpu.set_march(bpu.March.NASH_M)


def test_conv_bn_relu_share_one_rounding_and_so_do_conv_add_relu() -> None:
    model, data = network()
    block = bpu.prepare(model, data).blocks[0]
    shown = repr(block)
    assert "(conv1): ConvBNReLU2d(" in shown
    assert "(bn1): Identity()" in shown
    assert "(conv2): ConvBN2d(" in shown
    assert block.conv2.output_quantizer is None
    assert block._generated_add_0.output_quantizer is None
    assert block.relu2.output_quantizer is not None


def test_the_float_model_is_left_alone() -> None:
    model, data = network()
    before = repr(model), model(data)
    bpu.prepare(model, data)
    assert repr(model) == before[0]
    assert torch.equal(model(data), before[1])


def test_quantizers_print_as_the_vendors_do() -> None:
    shown = repr(bpu.prepare(Between(nn.Conv2d(2, 3, 1)), torch.randn(1, 2, 4, 4)).function)
    assert "(weight_fake_quant): FakeQuantize(" in shown
    assert (
        "fake_quant_enabled=tensor([1], dtype=torch.uint8), "
        "observer_enabled=tensor([1], dtype=torch.uint8), quant_min=-128, quant_max=127, dtype=qint8, "
        "qscheme=torch.per_channel_symmetric, ch_axis=0, "
        "scale=tensor([1., 1., 1.]), zero_point=tensor([0, 0, 0])"
    ) in shown.replace("observer_enabled=tensor([0]", "observer_enabled=tensor([1]")
    assert "MovingAveragePerChannelMinMaxObserver(min_val=tensor([]), max_val=tensor([]))" in shown


def test_a_last_convolution_keeps_high_precision() -> None:
    prepared = bpu.prepare(Between(nn.Conv2d(2, 3, 1)), torch.randn(1, 2, 4, 4))
    assert prepared.function.output_quantizer is None


@pytest.mark.parametrize("view", ["flatten", "ravel", "contiguous", "atleast_3d", "t"])
def test_a_last_product_keeps_high_precision_however_its_axes_are_named(view: str) -> None:
    class Viewed(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.linear = bpu.QuantStub(), bpu.DeQuantStub(), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            y = self.linear(self.quant(x))
            return self.dequant(torch.atleast_3d(y) if view == "atleast_3d" else getattr(y, view)())

    prepared = bpu.prepare(Viewed(), torch.randn(2, 4))
    assert prepared.linear.output_quantizer is None


def test_containers_dicts_and_tuples_pass_through() -> None:
    class Nest(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, sample: Any) -> Any:
            x = self.quant(sample["image"][0])
            y = self.conv(x)
            return {"sum": self.dequant(x + y), "pair": (self.dequant(y), sample["id"])}

    sample = {"image": [torch.randn(1, 2, 3, 3)], "id": 7}
    out = calibrated(Nest(), sample)(sample)
    assert set(out) == {"sum", "pair"}
    assert out["pair"][1] == 7


def test_a_training_step_moves_weights_and_scales() -> None:
    model, _ = network()
    torch.manual_seed(1)
    data = torch.randn(4, 3, 16, 16)
    prepared = bpu.prepare(model, data, qconfig_setter=bpu.default_qat_qconfig_setter).train()
    bpu.set_fake_quantize(prepared, STATE.QAT)
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05)
    losses = []
    for _ in range(8):
        loss = (prepared(data) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert float(prepared.quant.output_quantizer.scale) != 1.0


# --- misuses ----------------------------------------------------------------------------------------------


def prepared_block() -> tuple[Any, Any]:
    data = torch.randn(2, 4, 6, 6)
    return bpu.prepare(Between(Block(4)).eval(), data), data


LINE = r"Between \(.*test_prepare\.py:\d+\): "
"""Every warning names the model and the line that runs it."""


def test_calibrating_in_train_mode_is_named() -> None:
    model, data = prepared_block()
    model.train()
    with pytest.warns(bpu.CalibrationInTrainModeWarning, match=LINE + ".*call model.eval"):
        model(data)


def test_so_it_is_with_a_qconfig_for_training_when_no_gradient_is_wanted() -> None:
    model = Between(nn.Conv2d(4, 4, 3))
    model.qconfig = bpu.get_default_qat_qconfig()
    qat, data = bpu.prepare_qat(model), torch.randn(2, 4, 6, 6)
    qat(data)  # plain training: nothing to say
    with torch.no_grad(), pytest.warns(bpu.CalibrationInTrainModeWarning, match=LINE):
        qat(data)


def test_a_state_never_set_is_named() -> None:
    model, data = prepared_block()
    model.eval()
    with (
        pytest.warns(bpu.InitialScaleWarning, match=LINE),
        pytest.warns(bpu.StateNotSetWarning, match=LINE + ".*never called"),
    ):
        model(data)


def test_a_trained_model_is_evaluated_without_a_state() -> None:
    model = Between(nn.Conv2d(4, 4, 3))
    model.qconfig = bpu.get_default_qat_qconfig()
    qat, data = bpu.prepare_qat(model), torch.randn(2, 4, 6, 6)
    qat(data)
    qat.eval()
    first = qat(data)  # a warning would be an error
    assert not torch.equal(first, model.eval()(data))


def test_eval_after_the_state_is_named() -> None:
    model, data = prepared_block()
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    model.eval()
    with pytest.warns(bpu.EvalAfterStateWarning, match=LINE + ".*call eval"):
        model(data)


def test_evaluating_in_calibration_is_named() -> None:
    model, data = prepared_block()
    model.eval()
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    model(data)
    model.eval()
    with pytest.warns(bpu.FloatValidationWarning, match=LINE + ".*float"):
        model(data)


def test_evaluating_in_qat_is_named() -> None:
    model, data = prepared_block()
    bpu.set_fake_quantize(model, STATE.QAT)
    model.train()(data)
    with pytest.warns(bpu.QatEvaluationWarning, match=LINE + ".*VALIDATION"):
        model.eval()(data)


def test_converting_what_was_only_evaluated_in_calibration_is_named() -> None:
    model, data = prepared_block()
    model.eval()
    bpu.set_fake_quantize(model, STATE.CALIBRATION)
    model(data)
    with pytest.warns(bpu.FloatValidationWarning, match=LINE + ".*evaluated so far is the float model"):
        bpu.convert(model)


def test_scales_that_are_still_one_are_named() -> None:
    model, data = prepared_block()
    model.eval()
    bpu.set_fake_quantize(model, STATE.VALIDATION)
    with pytest.warns(bpu.InitialScaleWarning, match=LINE + r".*initial scale 1 \(quant, function"):
        model(data)


def test_the_right_order_says_nothing() -> None:
    model, data = network()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrated(model, data)(data)


def test_a_shared_module_is_named() -> None:
    class Twice(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Any) -> Any:
            return self.dequant(self.conv(self.conv(self.quant(x))))

    with pytest.warns(
        bpu.SharedModuleWarning, match=r"test_prepare\.py:\d+\): .*conv\(2\) in .*test_prepare\.py:\d+; use"
    ):
        bpu.prepare(Twice().eval(), torch.randn(1, 2, 3, 3))


# --- errors name module and line --------------------------------------------------------------------------


def refusal(function: Any) -> str:
    with pytest.raises(bpu.PrepareError) as caught:
        bpu.prepare(Between(function).eval(), torch.randn(1, 2, 3, 3))
    assert "test_prepare.py:" in str(caught.value)
    return str(caught.value)


def test_control_flow_by_values_is_refused() -> None:
    assert "data-dependent control flow" in refusal(lambda x: x if x.sum() > 0 else -x)
    assert "data-dependent control flow" in refusal(lambda x: x if x.sum() else -x)


def test_a_missing_stub_is_named() -> None:
    class Bare(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Any) -> Any:
            return self.conv(x)

    with pytest.raises(bpu.PrepareError, match=r"test_prepare.py:\d+.*'conv' must be quantized.*QuantStub"):
        bpu.prepare(Bare().eval(), torch.randn(1, 2, 3, 3))


def test_an_operator_without_a_rule_is_named() -> None:
    def gamma(x: Any) -> Any:
        return torch.lgamma(x)

    with pytest.raises(bpu.QTensorError, match=r"test_prepare.py:\d+.*'lgamma' has no rule"):
        bpu.prepare(Between(gamma).eval(), torch.rand(1, 2))


def test_writing_into_a_qtensor_is_refused() -> None:
    def write(x: Any) -> Any:
        x[:, 0] = 0
        return x

    with pytest.raises(bpu.QTensorError, match=r"torch\.cat"):
        bpu.prepare(Between(write).eval(), torch.rand(1, 2))


def test_an_operator_that_prepare_did_not_see_is_named() -> None:
    seen = [True]
    model = calibrated(Between(lambda x: torch.tanh(x) if seen[0] else torch.tanh(x) + x), torch.rand(1, 2))
    seen[0] = False
    with pytest.raises(bpu.PrepareError, match="'add' on QTensors was not met"):
        model(torch.rand(1, 2))


def test_an_empty_calibration_set_stops_the_export() -> None:
    model = bpu.prepare(Between(torch.tanh).eval(), torch.rand(1, 2)).eval()
    bpu.set_fake_quantize(model, STATE.VALIDATION)
    with pytest.raises(bpu.ExportError, match="never observed"):
        bpu.export(model, torch.rand(1, 2))


@pytest.mark.parametrize(
    ("train", "state", "word"), [(True, STATE.VALIDATION, "eval"), (False, STATE.QAT, "VALIDATION")]
)
def test_export_needs_eval_and_validation(train: bool, state: Any, word: str) -> None:
    model = calibrated(Between(torch.tanh), torch.rand(1, 2)).train(train)
    bpu.set_fake_quantize(model, state)
    with pytest.raises(bpu.ExportError, match=word):
        bpu.export(model, torch.rand(1, 2))
