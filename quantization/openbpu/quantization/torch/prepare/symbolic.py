"""prepare without example inputs: torch.fx finds the operators, symbolic values stand for QTensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from openbpu.arch.errors import OpenbpuError
from openbpu.quantization.torch.attempt import first_line
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.operands import traced
from openbpu.quantization.torch.prepare.finish import finish, swap_all
from openbpu.quantization.torch.qat import Weighted, is_leaf
from openbpu.quantization.torch.qtensor.dispatch import moves, operator_here
from openbpu.quantization.torch.qtensor.names import COMPUTES, REFLECTED, name_of
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import recording, scope, standing_in, user_line, where
from openbpu.quantization.torch.setters import Setter
from openbpu.quantization.torch.stubs import QATDeQuantStub, QATQuantStub
from openbpu.quantization.torch.trace import Recorder


def prepare_symbolic(model: nn.Module, setters: Sequence[Setter]) -> nn.Module:
    """Prepare `model` in place, its operators found by torch.fx; raises PrepareError."""
    swap_all(model)
    with recording(Recorder(line=user_line)) as recorder, standing_in(model):
        tracer = _Tracer(recorder)
        try:
            graph = tracer.trace(model)
        except OpenbpuError:
            raise
        except Exception as error:
            raise PrepareError(
                f"{where(error, model)}: torch.fx must be able to trace the model, not stop with "
                f"{type(error).__name__}: {first_line(error)}; no value or type may decide what the forward "
                "does; where only torch.fx is in the way, give prepare_qat_fx example_inputs: then the model "
                "is run instead"
            ) from error
        for node in graph.nodes:
            if node.op == "output":
                recorder.note("output", "", None, [_Value(n) for n in node.all_input_nodes], ())
    finish(model, recorder, setters)
    return model


_OPAQUE = (
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Embedding,
    nn.EmbeddingBag,
    _BatchNorm,
    _InstanceNorm,
)
"""Modules of torch whose forwards torch.fx cannot follow."""


class _Value:
    """A traced node as the recorder sees a QTensor."""

    def __init__(self, node: fx.Node) -> None:
        self.step = int(node.meta.get("step", -1))


class _Tracer(fx.Tracer):  # Any where torch is not installed
    """Traces with prepared modules as leaves and makes a FloatFunctional for every operator in between."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Prepared modules are leaves; containers are traced through, torch's own as well."""
        del module_qualified_name
        return is_leaf(m) or isinstance(m, _OPAQUE)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Note the operator, as its quantizer will see it."""
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        node = proxy.node
        reads = [_Value(n) for n in node.all_input_nodes if n.meta.get("quantized")]
        if kind == "call_module":
            self._module(node, self.root.get_submodule(target), reads)
        elif kind in {"call_function", "call_method"} and reads:
            name = str(target).strip("_") if kind == "call_method" else _function_name(target)
            self._operator(node, name, reads)
        return proxy

    def _module(self, node: fx.Node, module: nn.Module, reads: list[_Value]) -> None:
        leaves = isinstance(module, QATDeQuantStub)
        if isinstance(module, Weighted) and not reads:
            self.recorder.unquantized = self.recorder.unquantized or f"{module.bpu_path} ({user_line()})"
        if not isinstance(module, Quantized) or not (reads or isinstance(module, QATQuantStub)):
            node.meta["quantized"] = bool(reads)
            return
        name = "dequant" if leaves else str(getattr(module, "function", "")) or "conv"
        node.meta["step"] = self.recorder.note(name, module.bpu_path, module, reads, ())
        node.meta["quantized"] = not leaves

    def _operator(self, node: fx.Node, name: str, reads: list[_Value]) -> None:
        found: Quantized | None = None
        moved = moves(name, node.args, node.kwargs)
        if not moved and (name in COMPUTES or name in REFLECTED):
            owner = scope.owner
            name = name.removeprefix("r") if name in REFLECTED else name
            found = (
                owner if isinstance(owner, FloatFunctional) else operator_here(name, node.args, node.kwargs)
            )
        path = "" if found is None else found.bpu_path
        node.meta["quantized"] = found is not None or moved
        node.meta["step"] = step = self.recorder.note(name, path, found, reads, ())
        if found is not None:
            self.recorder.operands[step] = tuple(traced(a) for a in node.args)


def _function_name(target: Any) -> str:
    """`operator.add` and `torch.add` are both "add"."""
    return name_of(target)
