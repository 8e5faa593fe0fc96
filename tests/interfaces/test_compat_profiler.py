"""`horizon_plugin_profiler`: the files and columns it writes, and that the damaged layer is named first."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.arch.errors import QuantizationError  # noqa: E402
from openbpu.compat import profiler  # noqa: E402
from openbpu.compat.hbdk import Hbm, compile, convert  # noqa: A004, E402
from openbpu.compat.hbdk.plugin import export  # noqa: E402
from openbpu.compat.names import target_of  # noqa: E402
from openbpu.compat.profiler.stepwise import step_rows  # noqa: E402
from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.layers import COLUMNS  # noqa: E402
from openbpu.quantization.torch.profiler import comparable  # noqa: E402
from quantization.torch.networks import Between, calibrated, network  # noqa: E402

DAMAGED = "blocks.1.conv1"


@pytest.fixture(scope="module")
def stages() -> tuple[Any, Any, Any]:
    """The float network, the calibrated one, and an input."""
    torch.manual_seed(0)
    model, x = network()
    return model, calibrated(model, x), x


def damaged(model: Any, layer: str = DAMAGED) -> Any:
    """A copy with other weights in one layer (in the middle, fused with BatchNorm and ReLU)."""
    bad = copy.deepcopy(model)
    weight = bad.get_submodule(layer).weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * weight.std())
    return bad


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def analysed(
    baseline: Any, model: Any, x: Any, place: Path, kind: str = "fake_quant"
) -> list[dict[str, str]]:
    """Run the vendor's sequence and return the abnormal layers."""
    analysis = profiler.QuantAnalysis(baseline, model, kind, out_dir=place)
    analysis.set_bad_case(x)
    analysis.run()
    analysis.compare_per_layer()
    return table(place / "abnormal_layer_advisor.csv")


def test_files_and_columns_are_the_vendors(
    stages: tuple[Any, Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, q, x = stages
    analysis = profiler.QuantAnalysis(model, q, "fake_quant", out_dir=tmp_path / "out")
    batches = [torch.randn(x.shape) for _ in range(3)]
    batches[1] *= 8
    analysis.auto_find_bad_case(batches, metric="L1")
    assert (tmp_path / "out" / "badcase.txt").read_text().splitlines()[-1].split()[-1] == "1"
    analysis.set_bad_case(x)
    analysis.run()
    analysis.compare_per_layer()
    analysis.sensitivity(metric="L1")
    rows = table(tmp_path / "out" / "compare_per_layer_out.csv")
    assert list(rows[0]) == list(COLUMNS)
    by_name = {row["mod_name"]: row for row in rows}
    assert {
        "quant",
        "stem",
        "blocks.0.conv1",
        "blocks.0._generated_add_0",
        "_generated_cat_0",
        "head",
    } <= set(by_name)
    fused = by_name["blocks.0.conv1"]
    assert (fused["quant_dtype"], fused["shape"]) == ("qint8", "1x8x8x8")
    assert float(fused["Cosine"]) > 0.99
    assert float(fused["base_model_min"]) == 0  # the ReLU behind is part of it, in the float model too
    assert (tmp_path / "out" / "compare_per_layer_out.txt").read_text().split()[: len(COLUMNS)] == list(
        COLUMNS
    )
    assert table(tmp_path / "out" / "abnormal_layer_advisor.csv") == []
    text = (tmp_path / "out" / "output_0_L1_sensitive_ops.txt").read_text()
    assert text.split()[:5] == ["op_name", "sensitive_type", "op_type", "L1", "flops"]
    saved = torch.load(tmp_path / "out" / "output_0_L1_sensitive_ops.pt")
    losses = [row[3] for row in saved]
    assert losses == sorted(losses, reverse=True)
    setter = bpu.sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(saved, topk=1)
    better = calibrated(model, x, (setter, bpu.default_calibration_qconfig_setter))
    assert any(
        quantizer.dtype is bpu.qint16
        for quantizer in better.modules()
        if isinstance(quantizer, bpu.FakeQuantize)
    )
    assert "mod_name" in capsys.readouterr().out


def test_the_damaged_layer_is_named_first_against_the_float_model(
    stages: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    model, q, x = stages
    bad = damaged(q)
    first = analysed(model, bad, x, tmp_path)[0]
    assert first["mod_name"] == DAMAGED
    assert first["advice"].startswith("its weights are not the baseline's")
    rows = profiler.compare_weights(model, bad, example_inputs=x, out_dir=tmp_path)
    assert rows[0][0] == DAMAGED
    assert rows[0][3] < 0.5
    assert rows[1][3] > 0.999
    assert profiler.compare_weights(model, bad, out_dir=tmp_path)[0][0] == DAMAGED  # BatchNorm not folded
    analysis = profiler.QuantAnalysis(model, bad, out_dir=tmp_path)
    analysis.set_bad_case(x)
    for metric in ("L1", "Cosine", "SQNR"):
        (found,) = analysis.sensitivity(metric=metric)
        assert found[0][:2] == (DAMAGED, "weight")
        assert (tmp_path / f"output_0_{metric}_sensitive_ops.pt").exists()


def test_the_damaged_layer_is_named_first_between_calibration_and_training(
    stages: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    model, q, x = stages
    qat = calibrated(model, x, bpu.default_qat_qconfig_setter)
    bad = damaged(qat)
    bad.train()
    bpu.set_fake_quantize(bad, bpu.FakeQuantState.QAT)
    scales = [m.scale.clone() for m in bad.modules() if isinstance(m, bpu.FakeQuantize)]
    assert analysed(q, bad, x, tmp_path)[0]["mod_name"] == DAMAGED
    after = [m.scale for m in bad.modules() if isinstance(m, bpu.FakeQuantize)]
    assert all(torch.equal(a, b) for a, b in zip(scales, after, strict=True))
    assert bad.training
    assert analysed(q, qat, x, tmp_path / "good") == []


@pytest.mark.slow  # torch exports twice
def test_the_damaged_layer_is_named_first_between_conversion_and_the_binary(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 8, 8)
    convs = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
    q = calibrated(Between(nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.Sigmoid(), convs[2])), x)
    exact, module = bpu.convert(q), export(q, x)
    bad = damaged(q, "function.2")
    other = export(bad, x)
    for name, one in (("good", module), ("bad", other)):
        compile(convert(one, "nash-m"), tmp_path / f"{name}.hbm", "nash-m")
    assert analysed(exact, tmp_path / "good.hbm", x, tmp_path / "same", "convert") == []
    rows = table(tmp_path / "same" / "compare_per_layer_out.csv")
    assert len(rows) >= 4
    assert all(float(row["Atol"]) < 1e-5 for row in rows)
    for k, model in enumerate((tmp_path / "bad.hbm", Hbm(tmp_path / "bad.hbm"), other, other.model)):
        first = analysed(module, model, x, tmp_path / str(k), "export")[0]
        assert first["mod_name"] == "function.2"
        assert first["advice"].startswith("it computes something else here")
    assert analysed(q, exact, x, tmp_path / "exact", "pre_export") == []


def test_features_statistics_similarity_and_the_page(stages: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, q, x = stages
    found = profiler.get_raw_features(q, x, prefixes=("stem", "blocks.0"))
    assert {f["module_name"] for f in found} == {
        "stem", "blocks.0.conv1", "blocks.0.conv2", "blocks.0._generated_add_0", "blocks.0.relu2"
    }  # fmt: skip
    codes = profiler.get_raw_features(q, x, prefixes=("blocks.0.conv1",), preserve_int=True)[0]
    assert torch.equal(codes["data"], q_codes(q, x))
    rows = profiler.profile_featuremap(found, out_dir=tmp_path)
    data = found[1]["data"]
    assert rows[1][3:7] == pytest.approx(
        (data.min().item(), data.max().item(), data.mean().item(), data.double().var(correction=0).item()),
        rel=1e-5,
    )
    text = (tmp_path / "statistic.txt").read_text()
    assert text.count("Module Index") == 2
    similar = profiler.featuremap_similarity(model, q, x, out_dir=tmp_path)
    assert all(row[3] > 0.99 for row in similar)
    by_own = profiler.featuremap_similarity(model, q, x, lambda a, b: (a - b).abs().max(), out_dir=tmp_path)
    assert [row[3] for row in by_own] == pytest.approx([row[5] for row in similar])
    path = profiler.model_profiler(model, q, x, mode="FvsQ", out_dir=tmp_path)
    page = Path(path).read_text()
    assert "blocks.0.conv1" in page
    for title in ("Step by step", "By layer", "Calls", "QConfig: Results", "Devices"):
        assert title in page
    assert (tmp_path / "model0_statistic.txt").read_text().count("Module Index") == 2
    with profiler.ModelProfiler(q, tmp_path / "recorded") as recorded:
        q(x)
    assert len(recorded.get_info_manager().table()) > 10


def test_quantization_step_by_step_ends_in_the_whole_model(stages: tuple[Any, Any, Any]) -> None:
    model, q, x = stages
    with torch.no_grad():
        want = q(x)
    rows = step_rows(comparable(q, x), x, "module")
    names = [row[1] for row in rows]
    assert names[0] == "quant"
    assert len(names) == len(set(names)) > 5
    assert rows[-1][3] == sum(row[2] for row in rows)
    assert rows[0][5] < rows[-1][5]  # L1 grows
    by_kind = step_rows(comparable(q, x), x, "kind")
    assert by_kind[-1][4:] == rows[-1][4:]  # all is quantized at the end
    with torch.no_grad():
        assert torch.equal(q(x), want)  # the model is as before
    assert step_rows(comparable(model, x), x, "kind") == []


def q_codes(q: Any, x: Any) -> Any:
    kept = []
    handle = q.get_submodule("blocks.0.conv1").register_forward_hook(
        lambda _m, _a, y: kept.append(y.int_repr())
    )
    with torch.no_grad():
        q(x)
    handle.remove()
    return kept[0].int()


def test_checks_answer_for_a_prepared_model(stages: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, q, x = stages
    counts = profiler.get_module_called_count(model, x)
    assert counts["blocks.0.conv1"] == counts["head"] == 1
    assert profiler.check_unfused_operations(model, x) == []
    outputs, weights, unusual = profiler.check_qconfig(
        q, x, prefixes=("head",), custom_check_func=lambda m: "linear" if isinstance(m, nn.Linear) else None,
        out_dir=tmp_path,
    )  # fmt: skip
    assert [row[0] for row in outputs] == [row[0] for row in weights] == ["head"]
    assert unusual == [("head", "linear")]
    assert (tmp_path / "qconfig_info.txt").exists()
    data = torch.randn(1, 4)
    small = calibrated(Between(nn.Linear(4, 4)), data)
    rows = profiler.check_deploy_device(small, data, out_dir=tmp_path)
    assert {device for _, device, _ in rows} == {"BPU"}
    assert "nodes on the BPU" in (tmp_path / "deploy_device.txt").read_text()


def test_a_module_called_twice_has_a_row_per_call() -> None:
    class Twice(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Any) -> Any:
            return self.conv(self.conv(x))

    counts = profiler.get_module_called_count(Twice(), torch.randn(1, 3, 4, 4))
    assert counts == {"conv": 2, "unused": 0}
    names = [f["module_name"] for f in profiler.get_raw_features(Twice(), torch.randn(1, 3, 4, 4))]
    assert names == ["conv", "conv(1)"]


def test_what_is_wrong_is_said(stages: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, q, x = stages
    with pytest.raises(QuantizationError, match=r"analysis_type must be fake_quant or pre_export or"):
        profiler.QuantAnalysis(model, q, "float")
    with pytest.raises(QuantizationError, match=r"analysis_model must be a PyTorch model, .* not int"):
        profiler.QuantAnalysis(model, 3)
    with pytest.raises(QuantizationError, match=r"the sample must be known, not not set; call set_bad_case"):
        profiler.QuantAnalysis(model, q, out_dir=tmp_path).run()
    analysis = profiler.QuantAnalysis(model, q, out_dir=tmp_path)
    with pytest.raises(QuantizationError, match=r"the samples must be at least one, not none"):
        analysis.auto_find_bad_case([])
    with pytest.raises(QuantizationError, match=r"metric must be L1, .* not 'bleu'"):
        analysis.auto_find_bad_case([x], metric="bleu")
    with pytest.raises(QuantizationError, match=r"layers in common"):
        analysed(nn.Sequential(nn.ReLU()), q, x, tmp_path)
    with pytest.raises(QuantizationError, match=r"similarity_func must be"):
        profiler.featuremap_similarity(model, q, x, "PSNR")
    with pytest.raises(QuantizationError, match=r"mode must be FvsQ or QvsQ or CvsQ"):
        profiler.model_profiler(model, q, x, mode="AvsB")


def test_every_name_is_found_under_the_vendors_module() -> None:
    for name in profiler.__all__:
        assert target_of("horizon_plugin_profiler", name) is getattr(profiler, name)


def test_transformers_nests_of_outputs_and_several_inputs_are_looked_into(tmp_path: Path) -> None:
    class Two(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.out = bpu.QuantStub(), bpu.QuantStub(), bpu.DeQuantStub()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.side, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Any, y: Any) -> Any:
            mixed = self.layer(self.first(x)) + self.side(self.second(y))
            return {"head": self.out(self.head(mixed)), "mixed": (self.out(mixed),)}

    torch.manual_seed(0)
    model, data = Two().eval(), (torch.randn(2, 5, 8), torch.randn(2, 5, 4))
    q = calibrated(model, data)
    bad = damaged(q, "layer.linear1")
    assert analysed(model, q, data, tmp_path / "good") == []
    assert analysed(model, bad, data, tmp_path)[0]["mod_name"] == "layer.linear1"
    analysis = profiler.QuantAnalysis(model, bad, out_dir=tmp_path)
    analysis.set_bad_case(data)
    for found in analysis.sensitivity():
        assert found[0][:2] == ("layer.linear1", "weight")
    assert (tmp_path / "output_1_L1_sensitive_ops.txt").exists()
