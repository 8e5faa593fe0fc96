"""Runs a model on example inputs; what goes wrong there is told with the module, the line and the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.arch.errors import OpenbpuError, QuantizationError, must
from openbpu.quantization.torch.scope import where


def run(model: nn.Module, example_inputs: Any) -> Any:
    """Call a model on example inputs: a tuple or list of arguments, or one argument."""
    if isinstance(example_inputs, (tuple, list)):
        return model(*example_inputs)
    return model(example_inputs)


def attempt(caller: str, model: nn.Module, example_inputs: Any, kind: type[QuantizationError]) -> Any:
    """As `run`; an error that is not openbpu's own becomes `kind`, with module path, line and inputs."""
    try:
        return run(model, example_inputs)
    except OpenbpuError:
        raise
    except Exception as error:
        raise kind(
            must(
                where(error, model),
                "example_inputs",
                f"what the model's forward takes ({caller} runs it once)",
                f"{shapes(example_inputs)}: {type(error).__name__}: {first_line(error)}",
                "give a tensor, or a tuple of arguments, of the shape and dtype the model was made for",
            )
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def shapes(value: Any) -> str:
    """Inputs in short: `float32[1, 3, 224, 224]`, nests as they are."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(shapes(v) for v in value)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {shapes(v)}" for k, v in value.items()) + "}"
    return type(value).__name__
