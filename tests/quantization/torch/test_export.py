"""The exported model: standard QDQ ONNX that says where each node comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.networks import Between, calibrated, network  # noqa: E402
from witness import ort  # noqa: E402


@pytest.fixture(scope="module")
def exported() -> tuple[Any, Any, Any]:
    model, data = network()
    prepared = calibrated(model, data)
    return bpu.export(prepared, data), prepared, data


def test_onnx_runtime_computes_what_the_prepared_model_does(exported: tuple[Any, Any, Any]) -> None:
    proto, prepared, data = exported
    (found,) = ort.run(proto, {proto.graph.input[0].name: data.numpy()}).values()
    expected = prepared(data).detach().numpy()
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_are_int8_constants_with_a_scale_per_channel(exported: tuple[Any, Any, Any]) -> None:
    graph = exported[0].graph
    constants = {i.name: i for i in graph.initializer}
    makers = {o: n for n in graph.node for o in n.output}
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 5
    for node in convolutions:
        dequantize = makers[node.input[1]]
        codes, scale = constants[dequantize.input[0]], constants[dequantize.input[1]]
        assert codes.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [codes.dims[0]]


def test_batch_norms_are_folded(exported: tuple[Any, Any, Any]) -> None:
    assert "BatchNormalization" not in {n.op_type for n in exported[0].graph.node}


def test_nodes_keep_module_path_and_source_line(exported: tuple[Any, Any, Any]) -> None:
    node = next(n for n in exported[0].graph.node if n.op_type == "Sigmoid")
    said = {p.key: p.value for p in node.metadata_props}
    assert "networks.py" in said["pkg.torch.onnx.stack_trace"]
    assert "quantization/torch/functional.py" not in said["pkg.torch.onnx.stack_trace"].replace("tests/", "")
    conv = next(n for n in exported[0].graph.node if n.op_type == "Conv" and "conv1" in str(n.metadata_props))
    assert "blocks.0.conv1" in str(conv.metadata_props)


def test_int16_activations_are_int16_in_onnx() -> None:
    model, data = network()
    proto = bpu.export(calibrated(model, data, bpu.calibration_8bit_weight_16bit_act_qconfig_setter), data)
    kinds = {i.data_type for i in proto.graph.initializer}
    assert onnx.TensorProto.INT16 in kinds


def test_export_writes_a_file_and_names_the_ends(tmp_path: Any) -> None:
    model, data = network()
    path = tmp_path / "model.onnx"
    bpu.export(calibrated(model, data), data, path, input_names=["image"], output_names=["scores"])
    graph = onnx.load(path).graph
    assert [graph.input[0].name, graph.output[0].name] == ["image", "scores"]


def test_a_path_that_cannot_be_written_is_an_export_error_and_leaves_nothing(
    tmp_path: Any, exported: tuple[Any, Any, Any]
) -> None:
    _, prepared, data = exported
    with pytest.raises(bpu.ExportError, match=r"the output must be writable, not .*Is a directory"):
        bpu.export(prepared, data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_strings_of_the_script_are_no_outputs() -> None:
    class Named(Between):
        def forward(self, x: Any) -> Any:
            y = super().forward(x)
            return {"a": y, "stride": 8, "name": "p3", "rest": (None, [y + 1, 2.5]), "none": {"b": True}}

    model = calibrated(Named(torch.nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8))
    assert len(bpu.export(model, torch.randn(1, 3, 8, 8)).graph.output) == 2


class Ends(Between):
    """Normalisation in front of the stubs, and an answer behind them."""

    def forward(self, x: Any) -> Any:
        return torch.softmax(super().forward(x / 255 - 0.5), 1).argmax(1)


def test_a_stripped_model_begins_and_ends_at_its_stubs() -> None:
    data = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    bpu.set_march(bpu.March.NASH_M)
    whole = Ends(torch.nn.Conv2d(3, 4, 3)).eval()
    for method in (bpu.PrepareMethod.JIT, bpu.PrepareMethod.JIT_STRIP):
        model = bpu.prepare(whole, data, method=method)
        model.eval()
        bpu.set_fake_quantize(model, bpu.FakeQuantState.CALIBRATION)
        assert model(data).shape == (1, 6, 6)  # in PyTorch it is whole
        model.eval()
        bpu.set_fake_quantize(model, bpu.FakeQuantState.VALIDATION)
        graph = bpu.export(model, data).graph
        kinds = {node.op_type for node in graph.node}
        assert ({"Softmax", "ArgMax", "Sub"} <= kinds) is (method is bpu.PrepareMethod.JIT)
    assert [v.name for v in graph.input] == ["quant"]
    found = ort.run(bpu.export(model, data), {"quant": (data / 255 - 0.5).numpy()})
    wanted = Between.forward(model, data / 255 - 0.5)
    np.testing.assert_allclose(np.ravel(next(iter(found.values()))), np.ravel(wanted.detach()), atol=0.05)


def test_an_adaptive_pool_whose_windows_differ_is_refused_by_its_sizes() -> None:
    pool = Between(torch.nn.AdaptiveAvgPool3d((2, 4, 3)))
    data = torch.randn(1, 2, 4, 6, 6)
    with pytest.raises(bpu.ExportError, match=r"input \[4, 6, 6\], not \[2, 4, 3\]; use avg_pool3d"):
        bpu.export(calibrated(pool, (data,)), (data,))
