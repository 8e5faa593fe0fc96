"""PrepareMethod.JIT_STRIP: the exported model begins at its QuantStubs and ends at its DeQuantStubs.

before:  images → normalise → QuantStub → … → DeQuantStub → softmax → argmax
after:                    quant → … → DeQuantStub
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from openbpu.quantization.torch.errors import ExportError
from openbpu.quantization.torch.scope import Stripped, stripping


class _Core(nn.Module):
    """The model as a function of what its QuantStubs read; its own inputs are those of the example."""

    def __init__(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        super().__init__()
        self.model = model
        leaves, self.tree = pytree.tree_flatten(args)
        self.leaves = leaves
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, torch.Tensor):
                self.register_buffer(f"example{i}", leaf, persistent=False)

    def forward(self, *given: Any) -> Any:
        """Run the model with these in place of what its QuantStubs would read."""
        leaves = [getattr(self, f"example{i}", leaf) for i, leaf in enumerate(self.leaves)]
        left, found = list(given), list[Any]()

        def end(value: Any) -> Any:
            found.append(value)
            return value

        def begin(stub: Any, x: Any) -> Any:
            del stub, x
            return left.pop(0)

        with stripping(Stripped(begin, end)):
            self.model(*pytree.tree_unflatten(leaves, self.tree))  # what nobody reads is left out
        return tuple(found)


def stripped(model: nn.Module, args: tuple[Any, ...]) -> tuple[nn.Module, tuple[Any, ...], list[str]]:
    """(the model between its stubs, the inputs that it then has, their names); raises ExportError."""
    inputs, names, ends = list[Any](), list[str](), list[Any]()

    def begin(stub: Any, x: Any) -> Any:
        inputs.append(x.detach().clone())
        names.append(stub.bpu_path)
        return x

    def end(value: Any) -> Any:
        ends.append(value)
        return value

    with stripping(Stripped(begin, end)), torch.no_grad():
        model(*args)
    if not inputs or not ends:
        raise ExportError("export: a stripped model must have a QuantStub and a DeQuantStub that are called")
    unique = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
    return _Core(model, args), tuple(inputs), unique
