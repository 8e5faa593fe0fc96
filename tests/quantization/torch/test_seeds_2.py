"""Document 2: the QAT workflow on MobileNetV2 with a YOLOv3 head, and the states it warns about."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.compiler import compile as compile_model  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.runtime import Session  # noqa: E402
from quantization.torch.recipes import recipe  # noqa: E402

SMALL = {"size": 32, "images": 48, "test_images": 4, "epochs": 1, "qat_epochs": 1, "width": 0.1}


def script() -> Any:
    return recipe("mobilenetv2_yolov3/mobilenetv2_yolov3.py")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Waiting threads use processor time on a busy machine; their number rounds sums, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def small() -> Any:
    """The whole workflow, too short to learn anything."""
    return script().workflow(script().Settings(**SMALL))


@functools.cache
def calibrated() -> Any:
    settings = script().Settings(**SMALL)
    train, _ = script().data_of(settings)
    torch.manual_seed(0)
    return script().calibrated(script().train_float(settings, train), train)


def test_the_workflow_runs_from_float_to_the_simulator() -> None:
    assert list(small().scores) == ["float", "calibrated", "qat", "converted", "simulated"]


def test_every_node_is_on_the_bpu_in_one_segment() -> None:
    assert {row.on for row in small().program.placement} == {"BPU"}
    assert len(small().program.segments) == 1


def test_converted_and_simulated_outputs_are_the_same_bits() -> None:
    _, test = script().data_of(script().Settings(**SMALL))
    images = torch.from_numpy(test.images)
    quantized = small().quantized
    with torch.no_grad():
        converted = [quantized(image[None]) for image in images]
    simulated = script().simulated(small().program)(images)
    for level, maps in enumerate(simulated):
        assert torch.equal(torch.cat([c[level] for c in converted]), maps)


def test_the_image_enters_with_the_fixed_scale() -> None:
    model = calibrated()
    assert model.backbone.quant.activation_post_process.scale.item() == 1 / 128


def test_every_level_has_a_dequant_stub_and_high_precision_output() -> None:
    head = calibrated().bbox_head
    assert len(head.dequant) == len(head.convs_pred) == 3
    for conv in head.convs_pred:
        text = repr(conv)
        assert "(weight_fake_quant): FakeQuantize(" in text
        assert "\n  (activation_post_process): FakeQuantize(" not in text
    inner = repr(head.convs_bridge[0].conv)
    assert "ConvBNReLU2d(" in inner or "ConvReLU2d(" in inner
    assert "\n  (activation_post_process): FakeQuantize(" in inner
    assert "quant_min=-128, quant_max=127, dtype=qint8" in inner


def test_no_scale_is_left_at_one_after_calibration() -> None:
    with torch.no_grad():
        calibrated()(torch.zeros(1, 3, 32, 32))  # InitialScaleWarning would be an error here
    quantizers = [m for m in calibrated().modules() if isinstance(m, bpu.FakeQuantize)]
    assert len(quantizers) > 50
    assert not [q for q in quantizers if torch.all(q.scale == 1)]


@pytest.mark.parametrize(
    "parts", ["conv bn", "conv relu", "conv add", "conv bn relu", "conv bn add", "conv bn add relu"]
)
def test_all_six_forms_of_fusion_keep_the_float_result_and_round_once(parts: str) -> None:
    names = parts.split()

    class Net(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            if "bn" in names:
                self.bn = nn.BatchNorm2d(4)
                self.bn.running_mean.uniform_(-1, 1)
                self.bn.running_var.uniform_(0.5, 2)
            if "relu" in names:
                self.relu = nn.ReLU()
            if "add" in names:
                self.add = bpu.FloatFunctional()

        def forward(self, x: Any) -> Any:
            x = self.quant(x)
            y = self.conv(x)
            y = self.bn(y) if "bn" in names else y
            y = self.add.add(y, x) if "add" in names else y
            return self.dequant(self.relu(y) if "relu" in names else y)

    torch.manual_seed(0)
    bpu.set_march(bpu.March.BAYES)
    model, data = Net().eval(), torch.randn(2, 4, 8, 8)
    expected = model(data)
    bpu.fuse_modules(model, names, inplace=True, fuser_func=bpu.fuse_known_modules)
    assert torch.allclose(model(data), expected, atol=1e-5)
    model.qconfig = bpu.get_default_qat_qconfig()
    qat = bpu.prepare_qat(model).eval()
    bpu.set_fake_quantize(qat, bpu.FakeQuantState.CALIBRATION)
    qat(data)
    qat.eval()
    bpu.set_fake_quantize(qat, bpu.FakeQuantState.VALIDATION)
    assert (qat(data) - expected).abs().max() < expected.abs().max() * 0.03
    last = qat.add if "add" in names else qat.conv
    assert qat(data).unique().numel() <= 256
    assert hasattr(last, "activation_post_process")
    assert "add" not in names or not hasattr(qat.conv, "activation_post_process")


def test_prepare_qat_fx_takes_the_documents_dictionary() -> None:
    settings = script().Settings(**SMALL)
    torch.manual_seed(0)
    model = recipe("mobilenetv2_yolov3/network.py").Detector(3, settings.width, settings.depth)
    bpu.set_march(bpu.March.BAYES)
    out = bpu.default_calib_out_8bit_fake_quant_qconfig
    names = [(f"bbox_head.convs_pred.{i}", out) for i in range(3)]
    calib_model = bpu.prepare_qat_fx(
        model, {"": bpu.default_calib_8bit_fake_quant_qconfig, "module_name": names}
    )
    calib_model.eval()
    bpu.set_fake_quantize(calib_model, bpu.FakeQuantState.CALIBRATION)
    with torch.no_grad():
        calib_model(torch.rand(2, 3, 32, 32) * 2 - 1)
        calib_model.eval()
        bpu.set_fake_quantize(calib_model, bpu.FakeQuantState.VALIDATION)
        maps = calib_model(torch.rand(1, 3, 32, 32) * 2 - 1)
    assert [tuple(m.shape[2:]) for m in maps] == [(1, 1), (2, 2), (4, 4)]
    pred = calib_model.get_submodule("bbox_head.convs_pred.0")
    assert not hasattr(pred, "activation_post_process")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_qat_and_calibration_steps_cost_at_most_two_and_a_half_float_steps() -> None:
    steps = recipe("../benchmarks/torch_steps.py")
    taken = steps.measure(steps.Settings(batch=8, rounds=5))
    for name in (steps.QAT, steps.MSE, steps.EXTREMES):
        assert steps.ratios(taken, name).used <= 2.5


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_workflow_learns_and_keeps_what_it_learned_to_the_simulator() -> None:
    scores = script().workflow(script().Settings()).scores
    assert scores["float"] > 0.2  # it learned: 0.26 on a processor without VNNI, above 0.3 on others
    assert min(scores.values()) > scores["float"] - 0.1  # 100 images: good to about 0.03
    assert scores["simulated"] == pytest.approx(scores["qat"], abs=0.02)
    assert scores["converted"] == scores["simulated"]


def test_spreading_the_channels_changes_no_float_output() -> None:
    settings = script().Settings(**SMALL)
    train, _ = script().data_of(settings)
    model, images = script().train_float(settings, train), torch.from_numpy(train.images[:4])
    spread = recipe("mobilenetv2_yolov3/recovery.py").uneven(model, 4.0, seed=0)
    with torch.no_grad():
        for expected, maps in zip(model(images), spread(images), strict=True):
            torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    one, other = model.backbone.layers[1][0].project.bn.weight, spread.backbone.layers[1][0].project.bn.weight
    assert not torch.allclose(one, other, rtol=0.5)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_qat_recovers_at_least_half_of_what_ptq_lost() -> None:
    recovery = recipe("mobilenetv2_yolov3/recovery.py")
    fewer = replace(recovery.SETTINGS, images=2048, test_images=300)
    rows = [recovery.scores(replace(fewer, seed=10 * seed)) for seed in range(3)]
    for row in rows:
        assert row["float"] > 0.3
        assert row["float"] - row["calibrated"] > 0.05  # enough to measure a part of it
    assert recovery.recovered(rows) >= 0.5


class Deployed(nn.Module):  # type: ignore[misc]
    """The document's DeployModel: a plain module around the parts of a converted one."""

    def __init__(self, backbone: Any, neck: Any, bbox_head: Any) -> None:
        super().__init__()
        self.backbone, self.neck, self.bbox_head = backbone, neck, bbox_head

    def forward(self, image: Any) -> Any:
        return self.bbox_head(self.neck(self.backbone(image)))


def test_the_parts_of_a_converted_model_are_deployed_in_a_new_one() -> None:
    quantized = bpu.convert(calibrated())
    deployed = Deployed(quantized.backbone, quantized.neck, quantized.bbox_head)
    image = torch.zeros(1, 3, 32, 32)
    proto = bpu.export(deployed.eval(), image)
    program = compile_model(proto, march="bayes")
    found = Session(program).run({proto.graph.input[0].name: image.numpy()}).outputs
    with torch.no_grad():
        for simulated, expected in zip(found.values(), deployed(image), strict=True):
            assert torch.equal(torch.from_numpy(simulated), expected)


def test_one_head_is_calibrated_while_the_rest_stays_as_it_is() -> None:
    model = deepcopy(calibrated())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    bpu.set_fake_quantize(model, bpu.FakeQuantState.VALIDATION)
    bpu.set_fake_quantize(model.bbox_head, bpu.FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(torch.randn(256, 3, 32, 32) * 30)  # enough that is new to move a range found over all batches
    changed = {n.split(".")[0] for n, b in model.named_buffers() if not torch.equal(b, before[n])}
    assert changed == {"bbox_head"}
    with pytest.raises(bpu.ExportError, match=r"must be .*VALIDATION, not .*CALIBRATION \(bbox_head\."):
        bpu.export(model, torch.zeros(1, 3, 32, 32))


FAKE_QUANTIZE = """FakeQuantize(fake_quant_enabled=tensor([1], dtype=torch.uint8),
observer_enabled=tensor([1], dtype=torch.uint8), quant_min=-128, quant_max=127, dtype=qint8, """
WEIGHT = (
    FAKE_QUANTIZE
    + """qscheme=torch.per_channel_symmetric, ch_axis=0,
scale=tensor([{ones}]), zero_point=tensor([{zeros}])(activation_post_process):
MovingAveragePerChannelMinMaxObserver(min_val=tensor([]), max_val=tensor([])))"""
)
HIGH_PRECISION = f"""Conv2d(64, 3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)(weight_fake_quant):
{WEIGHT.format(ones="1.,1.,1.", zeros="0,0,0")})"""
INT8 = f"""ConvReLU2d(64, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)(weight_fake_quant):
{WEIGHT.format(ones=",".join(["1."] * 64), zeros=",".join(["0"] * 64))}(activation_post_process):
{FAKE_QUANTIZE}qscheme=torch.per_tensor_symmetric, ch_axis=-1, scale=tensor([1.]), zero_point=tensor([0])
(activation_post_process): MovingAverageMinMaxObserver(min_val=tensor([]), max_val=tensor([]))))"""


def test_int8_and_high_precision_convolutions_print_as_in_the_document() -> None:
    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
            inner, last = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 3, 3, padding=1)
            self.layers = nn.Sequential(nn.Sequential(inner, nn.ReLU(inplace=True)), nn.Sequential(last))

        def forward(self, x: Any) -> Any:
            return self.dequant(self.layers(self.quant(x)))

    bpu.set_march(bpu.March.BAYES)
    model = Net()
    bpu.fuse_modules(model.layers[0], ["0", "1"], inplace=True, fuser_func=bpu.fuse_known_modules)
    model.qconfig = bpu.get_default_qat_qconfig()
    model.layers[1][0].qconfig = bpu.get_default_qat_out_qconfig()
    qat_model = bpu.prepare_qat(model)
    for found, expected in ((qat_model.layers[1][0], HIGH_PRECISION), (qat_model.layers[0][0], INT8)):
        assert "".join(repr(found).split()) == "".join(expected.split())
