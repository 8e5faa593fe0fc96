"""The tables that say where precision is lost."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.torch.debug import SENSITIVITY_COLUMNS, STATISTICS_COLUMNS  # noqa: E402
from quantization.torch.networks import Between, calibrated  # noqa: E402


def outlier_linear() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 6), nn.Sigmoid())
    with torch.no_grad():
        model[2].weight[:, 0] = 40.0
        model[0].bias[0] = -50.0
    return Between(model)


def test_the_linear_with_outlying_weights_is_the_most_sensitive() -> None:
    data = torch.randn(2, 10, 16)
    model = calibrated(outlier_linear(), data)
    table = bpu.sensitivity_table(model, None, data)
    assert table.columns == SENSITIVITY_COLUMNS
    name, sort, kind, distance, dtype, flops = table[0]
    assert (name, sort, kind.__name__, dtype) == ("function.2", "weight", "Linear", bpu.qint8)
    assert distance > table[1][3]
    assert flops.startswith("1920(")
    assert str(table).splitlines()[0].split() == list(SENSITIVITY_COLUMNS)


def test_the_table_leaves_the_models_state_alone() -> None:
    data = torch.randn(2, 10, 16)
    model = calibrated(outlier_linear(), data)
    before = model(data)
    bpu.sensitivity_table(model, None, data)
    assert torch.equal(model(data), before)


def test_the_setter_takes_the_table() -> None:
    data = torch.randn(2, 10, 16)
    float_model = outlier_linear()
    table = bpu.sensitivity_table(calibrated(float_model, data), float_model, data)
    setters = (
        bpu.sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table, topk=1),
        bpu.default_calibration_qconfig_setter,
    )
    better = calibrated(float_model, data, setters)
    assert better.function[2].weight_fake_quant.dtype is bpu.qint16
    worse = calibrated(float_model, data)
    expected = float_model(data)
    assert (better(data) - expected).abs().mean() < (worse(data) - expected).abs().mean()


def test_statistics_name_operator_module_and_tensor() -> None:
    data = torch.randn(2, 10, 16)
    table = bpu.statistics_table(outlier_linear(), data)
    assert table.columns == STATISTICS_COLUMNS
    rows = [row for row in table if row[1] == "function.2"]
    assert [row[2] for row in rows] == ["input", "weight", "bias", "output"]
    assert rows[1][0] == "torch.nn.modules.linear.Linear"
    assert rows[1][4] == 40.0
    assert rows[3][7] == torch.Size([2, 10, 6])
