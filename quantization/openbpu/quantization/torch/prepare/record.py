"""One forward pass of a model whose classes are prepared, written down."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.attempt import attempt
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.prepare.control import ControlFlow, plain_tensors
from openbpu.quantization.torch.qtensor.tensor import qtensors
from openbpu.quantization.torch.scope import recording, scope, user_line
from openbpu.quantization.torch.trace import Recorder


def record(model: nn.Module, example_inputs: Any) -> Recorder:
    """Run the model in eval() on example inputs and return its steps; raises PrepareError, QTensorError."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    with (
        torch.no_grad(),
        recording(Recorder(line=user_line)) as recorder,
        ControlFlow(plain_tensors(example_inputs)) as flow,
    ):
        scope.varies = flow.varies
        try:
            result = attempt("prepare", model, example_inputs, PrepareError)
        finally:
            scope.varies = None
        recorder.note("output", "", None, qtensors(result), ())
    for module, mode in modes:
        module.training = mode
    return recorder
