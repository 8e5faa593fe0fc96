"""model_check_result.txt and qconfig_info.txt: what is not fused, called twice, quantized to what."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402

DATA = torch.randn(1, 3, 8, 8)


class Head(nn.Module):  # type: ignore[misc]
    """A convolution with BatchNorm and ReLU, one called twice, and a last one."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = bpu.QuantStub(), bpu.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.shared, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.bn(self.conv(self.quant(x))))
        return self.dequant(self.last(self.shared(self.shared(x))))


def prepared(**options: Any) -> Any:
    bpu.set_march(bpu.March.NASH_M)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bpu.SharedModuleWarning)
        return bpu.prepare(Head().eval(), DATA, **options)


def rows(table: Any) -> dict[str, Any]:
    return {row[0]: row[1:] for row in table}


def test_results_and_weights_are_listed_in_the_order_of_the_forward() -> None:
    result = bpu.check_qat_model(prepared(), DATA)
    outputs = rows(result.outputs)
    assert list(outputs) == ["quant", "conv", "shared(2)", "last"]
    assert outputs["quant"][1:3] == ("torch.float32", "qint8")
    assert outputs["conv"][0].endswith("weighted.Conv2d")
    assert outputs["conv"][3:] == (-1, "MSEObserver")
    assert outputs["last"][1:3] == ("qint8", "torch.float32")  # high-precision output
    assert rows(result.weights)["last"][1:3] == ("qint8", 0)
    assert rows(result.called) == {"quant": (1,), "conv": (1,), "shared": (2,), "last": (1,), "dequant": (1,)}
    assert list(result.fusable) == []


def test_what_eager_mode_left_unfused_is_listed() -> None:
    bpu.set_march(bpu.March.NASH_M)
    model = Head().eval()
    model.qconfig = bpu.get_default_qat_qconfig()
    fusable = bpu.check_qat_model(bpu.prepare_qat(model), DATA).fusable
    assert [row[0] for row in fusable] == ["conv", "bn", ""]
    bpu.fuse_modules(model, ["conv", "bn", "relu"], inplace=True)
    assert list(bpu.check_qat_model(bpu.prepare_qat(model), DATA).fusable) == []


def test_prepare_writes_both_files_where_it_is_told(tmp_path: Path) -> None:
    prepared(report_dir=tmp_path / "new")
    result = (tmp_path / "new" / "model_check_result.txt").read_text(encoding="utf-8")
    for heading in (
        "Fusable modules are listed below:",
        "Each module called times:",
        "Each layer out qconfig:",
    ):
        assert heading in result
    info = (tmp_path / "new" / "qconfig_info.txt").read_text(encoding="utf-8")
    assert info in result
    assert "| shared(2) " in info
    assert len(info.splitlines()) == 1 + 2 + 4 + 1 + 1 + 2 + 3
    prepared()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]


def test_checking_observes_nothing_and_is_no_misuse() -> None:
    model = prepared().eval()
    bpu.set_fake_quantize(model, bpu.FakeQuantState.CALIBRATION)
    bpu.check_qat_model(model, DATA)
    assert model.conv.activation_post_process.initial
    model(DATA)  # a warning about eval() behind set_fake_quantize would be an error here
    assert not model.conv.activation_post_process.initial


def test_a_float_model_is_refused() -> None:
    with pytest.raises(bpu.PrepareError, match="no fake quantizers; call prepare first"):
        bpu.check_qat_model(Head(), DATA)


SCRIPT = """
import torch
from torch import nn
from horizon_plugin_pytorch.march import March, set_march
from horizon_plugin_pytorch.quantization import QuantStub, prepare
from torch.quantization import DeQuantStub

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant, self.conv = QuantStub(), DeQuantStub(), nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.dequant(self.conv(self.quant(x)))

set_march(March.NASH_E)
prepare(Net().eval(), torch.randn(1, 3, 8, 8))
"""


def test_a_vendor_script_finds_both_files_where_it_ran(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "openbpu.compat", "script.py"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "| conv " in (tmp_path / "qconfig_info.txt").read_text(encoding="utf-8")
    assert (tmp_path / "model_check_result.txt").is_file()
