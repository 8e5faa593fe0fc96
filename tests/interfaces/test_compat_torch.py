"""Facts about `openbpu.compat` with PyTorch: scripts run with the imports they were written with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

QUANTIZE = """\
import torch
import torch.nn as nn
from horizon_plugin_pytorch import set_march, March
set_march(March.NASH_M)
from horizon_plugin_pytorch.quantization import prepare, set_fake_quantize, FakeQuantState
from horizon_plugin_pytorch.quantization import QuantStub
from horizon_plugin_pytorch.quantization.hbdk4 import export
from horizon_plugin_pytorch.quantization.qconfig_template import (
    calibration_8bit_weight_16bit_act_qconfig_setter, ModuleNameQconfigSetter)
from horizon_plugin_pytorch.quantization.qconfig import get_qconfig, MSEObserver, MinMaxObserver
from horizon_plugin_pytorch.dtype import qint8, qint16
from torch.quantization import DeQuantStub
from horizon_plugin_pytorch.quantization import hbdk4 as hb4
from hbdk4.compiler import convert, save, hbm_perf, visualize, compile


class SmallModel(nn.Module):
    def __init__(self):
        super(SmallModel, self).__init__()
        self.linear = nn.Linear(16, 8)
        self.relu = nn.ReLU()
        self.quant = QuantStub()
        self.dequant = DeQuantStub()

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.relu(self.linear(x)))


torch.manual_seed(0)
example_input = torch.randn(4, 16)
model = SmallModel()
output = model(example_input)
calib_model = prepare(model.eval(), example_input,
                      qconfig_setter=(calibration_8bit_weight_16bit_act_qconfig_setter,),)
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
calib_model(example_input)
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
print("NEAR", bool((calib_model(example_input) - output).abs().max() < 0.05))
qat_bc = export(calib_model, example_input)
save(qat_bc, "qat.bc")
hb_quantized_model = convert(qat_bc, March.NASH_M)
compile(hb_quantized_model, "model.hbm", March.NASH_M)
hbm_perf("model.hbm", "perf")
"""

TRACE = """\
import torch
import torch.nn as nn
from horizon_plugin_pytorch.march import March, set_march
from horizon_plugin_pytorch.quantization import (
    QuantStub, prepare_qat, convert, check_model, compile_model, perf_model, get_default_qat_qconfig,
    get_default_qat_out_qconfig, set_fake_quantize, FakeQuantState, fuse_known_modules)
from torch.quantization import DeQuantStub


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = QuantStub(scale=1 / 128)
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.activate = nn.ReLU()
        self.pred = nn.Conv2d(16, 8, 1)
        self.dequant = DeQuantStub()

    def forward(self, x):
        return self.dequant(self.pred(self.activate(self.bn(self.conv(self.quant(x))))))


model = Net()
set_march(March.BAYES)
torch.quantization.fuse_modules(model, ["conv", "bn", "activate"], inplace=True,
                                fuser_func=fuse_known_modules)
model.qconfig = get_default_qat_qconfig()
model.pred.qconfig = get_default_qat_out_qconfig()
calib_model = prepare_qat(model)
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
calib_model(torch.rand(4, 3, 32, 32))
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
quantized_model = convert(calib_model.eval())
example_input = torch.randn(size=(1, 3, 32, 32))
traced_model = torch.jit.trace(quantized_model.eval(), example_input)
traced_model.to(torch.device("cpu"))
try:
    torch.jit.save(traced_model, "model.pt")
except Exception as error:
    print(error)
print("TRACED", type(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))).__name__)
print("FLAG", check_model(traced_model, example_input, advice=1))
compile_model(traced_model, [example_input], opt=0, hbm="model.hbm")
perf_model(traced_model, [example_input], out_dir="perf", opt="O1")
"""

LOW_LEVEL = """\
import torch
from pytorch_quantization import tensor_quant
from pytorch_quantization.tensor_quant import QuantDescriptor, _tensor_quant
from pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
quant_desc = QuantDescriptor(num_bits=4, fake_quant=False, axis=(0), unsigned=True)
torch.manual_seed(12345)
x = torch.rand(10)
quant_x, scale = tensor_quant.tensor_quant(x, x.abs().max())
print(_tensor_quant(x, x.abs().max())[0])
print(TensorQuantizer(quant_desc)(x.reshape(2, 5)).max().item())
fake_quant_x = tensor_quant.fake_tensor_quant(x, x.abs().max())
print(fake_quant_x)
from pytorch_quantization.tensor_quant import *
print(QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW.axis, TensorQuantFunction.apply is not None)
"""

LINEAR = """\
import torch
from horizon_plugin_pytorch import set_march, March
set_march(March.NASH_M)
from horizon_plugin_pytorch.quantization import prepare, set_fake_quantize, FakeQuantState
from horizon_plugin_pytorch.quantization import QuantStub
from horizon_plugin_pytorch.quantization.hbdk4 import export
from horizon_plugin_pytorch.quantization.qconfig_template import (
    calibration_8bit_weight_16bit_act_qconfig_setter, ModuleNameQconfigSetter)
from horizon_plugin_pytorch.quantization.qconfig import get_qconfig, MSEObserver, MinMaxObserver
from horizon_plugin_pytorch.dtype import qint8, qint16
from torch.quantization import DeQuantStub
import torch.nn as nn
from horizon_plugin_pytorch.quantization import hbdk4 as hb4
from hbdk4.compiler import convert, save, hbm_perf, visualize, compile


class SmallModel(nn.Module):
    def __init__(self, linear2_weight, linear2_bias):
        super(SmallModel, self).__init__()
        self.linear1 = nn.Linear(256, 256)
        self.layernorm = nn.LayerNorm(256)
        self.relu = nn.ReLU()
        self.linear2_weight = linear2_weight
        self.linear2_bias = linear2_bias
        self.linear3 = nn.Linear(60, 60)
        self.quant = QuantStub()
        self.dequant = DeQuantStub()
        self.quant_linear2_weight = QuantStub()
        self.quant_linear2_bias = QuantStub()

    def forward(self, x):
        x = self.quant(x)
        linear2_weight = self.quant_linear2_weight(self.linear2_weight)
        linear2_bias = self.quant_linear2_bias(self.linear2_bias)
        x = self.linear1(x)
        x = self.layernorm(x)
        x = self.relu(x)
        broadcast_mul = x.reshape(2, 4, 1, 256) * linear2_weight.reshape(1, 1, 60, 256)
        sum_output = broadcast_mul.sum(dim=-1)
        x = sum_output + linear2_bias
        x = self.linear3(x)
        x = self.dequant(x)
        return x


float_ckpt_path = "float-checkpoint.ckpt"
linear2 = nn.Linear(256, 60)
torch.save({"linear2.weight": linear2.weight.data, "linear2.bias": linear2.bias.data}, float_ckpt_path)
float_state_dict = torch.load(float_ckpt_path)
for key, value in float_state_dict.items():
    if key == "linear2.weight":
        linear2_weight = value
    if key == "linear2.bias":
        linear2_bias = value
example_input = torch.randn(2, 4, 256)
model = SmallModel(linear2_weight, linear2_bias)
missing_keys, unexpected_keys = model.load_state_dict(float_state_dict, strict=False)
output = model(example_input)
set_march(March.NASH_M)
calib_model = prepare(model.eval(), example_input,
                      qconfig_setter=(calibration_8bit_weight_16bit_act_qconfig_setter,),)
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
calib_model(example_input)
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
calib_out = calib_model(example_input)
print("NEAR", bool((calib_out - output).abs().max() < 0.02))
qat_bc = export(calib_model, example_input)
hb_quantized_model = convert(qat_bc, March.NASH_M, advice=True)
"""

SENSITIVE = """\
from horizon_plugin_pytorch.nn.qat.segment_lut import SegmentLUT
from horizon_plugin_pytorch.nn.qat.linear import Linear
from horizon_plugin_pytorch.nn.qat.functional_modules import FloatFunctional
print(*(c.__name__ for c in (SegmentLUT, Linear, FloatFunctional)))
import horizon_plugin_pytorch.nn.qat as qat
import horizon_plugin_pytorch.nn as hnn
import horizon_plugin_profiler as profiler
for name in ["model_profiler", "QuantAnalysis", "featuremap_similarity", "compare_weights",
             "get_raw_features", "profile_featuremap", "get_module_called_count", "check_unfused_operations",
             "check_qconfig", "check_deploy_device"]:
    assert callable(getattr(profiler, name))
names = ["script_profile", "compare_script_models", "HbirModelProfiler", "show_cuda_memory_consumption"]
missing = [(qat, "ConvReLU2d"), (hnn, "LayerNorm"), *((profiler, name) for name in names)]
for module, name in missing:
    try:
        getattr(module, name)
    except AttributeError as error:
        print(error)
from horizon_plugin_profiler.model_profilerv2 import QuantAnalysis
"""

MISSING = """\
import torch.nn
from horizon_plugin_pytorch.quantization import export_hbir
"""


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "openbpu.compat", str(script)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=folder)


def test_a_calibration_script_runs_to_the_performance_report(tmp_path: Path) -> None:
    ran = run_script(tmp_path, QUANTIZE)
    assert ran.returncode == 0, ran.stderr
    assert "NEAR True" in ran.stdout
    assert "latency = " in ran.stdout
    assert (tmp_path / "qat.bc").is_file()
    assert (tmp_path / "perf" / "model.json").is_file()


def test_a_traced_model_is_checked_and_compiled(tmp_path: Path) -> None:
    ran = run_script(tmp_path, TRACE)
    assert ran.returncode == 0, ran.stderr
    assert "FLAG 0" in ran.stdout
    assert "TRACED TopLevelTracedModule" in ran.stdout
    assert "torch.jit.save: a model of openbpu has no TorchScript" in ran.stdout
    assert "int8/int32" in ran.stdout
    assert (tmp_path / "model.hbm").is_file()
    assert (tmp_path / "perf" / "model.json").is_file()


def test_pytorch_quantization_prints_what_its_document_prints(tmp_path: Path) -> None:
    ran = run_script(tmp_path, LOW_LEVEL)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (
        "tensor([126., 113., 127.,  59.,  11.,  23.,  47.,  73.,  43.,  27.])\n15.0\n"
        "tensor([0.9843, 0.8828, 0.9921, 0.4609, 0.0859, 0.1797, 0.3672, 0.5703, 0.3359,\n        0.2109])\n"
        "0 True\n"
    )


def test_the_broadcast_script_of_document_3_runs_with_its_products_on_the_bpu(tmp_path: Path) -> None:
    ran = run_script(tmp_path, LINEAR)
    assert ran.returncode == 0, ran.stderr
    assert "NEAR True" in ran.stdout
    places = [line.split()[1] for line in ran.stdout.splitlines() if " Mul " in line or " ReduceSum " in line]
    assert len(places) >= 2
    assert set(places) == {"BPU"}


def test_classes_of_the_sensitivity_table_exist_and_debug_tools_name_ours(tmp_path: Path) -> None:
    ran = run_script(tmp_path, SENSITIVE)
    assert ran.returncode == 0, ran.stderr
    first, *lines = ran.stdout.splitlines()
    assert first == "SegmentLUT Linear FloatFunctional"
    assert len(lines) == 6
    assert all("is not provided" in line and " use " in line for line in lines)
    assert "use horizon_plugin_pytorch.nn.qat.Conv2d instead" in lines[0]
    assert "use torch.nn.LayerNorm instead" in lines[1]


def test_a_name_of_the_plugin_that_is_missing_names_ours(tmp_path: Path) -> None:
    ran = run_script(tmp_path, MISSING)
    assert ran.returncode == 1
    assert "here use openbpu.quantization.torch.export" in ran.stderr
