"""horizon_plugin_pytorch: a small network is calibrated, looked at, exported and compiled."""

import copy
import sys
from pathlib import Path

import torch
from hbdk4.compiler import March, compile, convert  # noqa: A004
from horizon_plugin_profiler import featuremap_similarity
from horizon_plugin_pytorch import set_march
from horizon_plugin_pytorch.quantization import (
    DeQuantStub,
    FakeQuantState,
    QuantStub,
    prepare,
    set_fake_quantize,
)
from horizon_plugin_pytorch.quantization.hbdk4 import export
from horizon_plugin_pytorch.quantization.qconfig_template import default_calibration_qconfig_setter
from torch import nn


class Net(nn.Module):
    """Two convolutions between the stubs."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores, as floats."""
        return self.dequant(self.body(self.quant(x)))


def main(folder: Path) -> None:
    """Calibrate, compare, export, compile, and run the binary."""
    set_march("nash-e")
    torch.manual_seed(0)
    model, example = Net().eval(), torch.randn(1, 3, 16, 16)
    calibrated = prepare(copy.deepcopy(model), example, qconfig_setter=default_calibration_qconfig_setter)
    calibrated.eval()
    set_fake_quantize(calibrated, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for _ in range(4):
            calibrated(torch.randn(1, 3, 16, 16))
    calibrated.eval()
    set_fake_quantize(calibrated, FakeQuantState.VALIDATION)
    featuremap_similarity(model, calibrated, example, out_dir=str(folder))
    module = export(calibrated, (example,), name="net")
    hbm = compile(convert(module, March.NASH_E), str(folder / "net.hbm"), opt=2)
    graph = hbm.graphs[0]
    made = graph.feed({graph.flatten_inputs[0].name: example.numpy()})[graph.flatten_outputs[0].name]
    with torch.no_grad():
        gap = float((torch.as_tensor(made) - calibrated(example)).abs().max())
    print(f"largest difference between the binary and the calibrated model: {gap:.2g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
