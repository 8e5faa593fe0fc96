"""Gives every module of a prepared model its quantizers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType, qint8, qint16
from openbpu.quantization.torch.errors import PrepareError, UnknownModuleWarning
from openbpu.quantization.torch.fake_quantize import FakeQuantize, ModelState, fake_quantizers
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.hidden import Fill
from openbpu.quantization.torch.observers import FixedScaleObserver, MinMaxObserver
from openbpu.quantization.torch.qat import Decomposed, Weighted
from openbpu.quantization.torch.qat.constant import GivenForm
from openbpu.quantization.torch.qat.simple import PReLU
from openbpu.quantization.torch.qconfig import QConfig, fake_quant
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import warn_about
from openbpu.quantization.torch.setters import Place, Setter, first_answer
from openbpu.quantization.torch.stubs import QATDeQuantStub, QATQuantStub


def assign(
    model: nn.Module, setters: Iterable[Setter], outputs: Iterable[int] = (), kinds: Any = None
) -> None:
    """Ask the setters for every quantizable module and attach what they say.

    `outputs`: ids of modules whose results only DeQuantStubs read; `kinds`: id → name of what it computes.
    Raises PrepareError for a module that is to be quantized and got a plain tensor.
    """
    chosen = tuple(setters)
    leaving, names = frozenset(outputs), kinds or {}
    inside: dict[int, Decomposed] = {}
    for _, module in model.named_modules():
        if isinstance(module, Decomposed):
            inside.update({id(m): module for m in module.modules() if m is not module})
    for path, module in list(model.named_modules()):
        if not isinstance(module, Quantized) or isinstance(module, QATDeQuantStub):
            continue
        kind = "weighted" if isinstance(module, Weighted) else names.get(id(module), _kind(module))
        place = Place(path, module, kind, id(module) in leaving)
        own = "qconfig" in module.__dict__
        config = module.qconfig if own else first_answer(chosen, place)
        if config is not None and not isinstance(config, QConfig):
            fix = "use get_qconfig, a default_…_qconfig, or None for float"
            raise PrepareError(must(path, "the qconfig", "a QConfig of openbpu or None", repr(config), fix))
        part = inside[id(module)].part_dtype(module) if id(module) in inside else None
        config = _of_dtype(config, part or module.result_dtype)
        if module.hiding is not None or module.observed_as is not None:
            config = _of_extremes(config)
        module.bpu_path = module.bpu_path or path
        _attach(module, config)
    if not fake_quantizers(model):
        fix = "put a QuantStub in front of the first operator, and give the modules a qconfig"
        raise PrepareError(must(type(model).__name__, "some module", "quantized", "none", fix))
    _warn_unknown(model, chosen)
    share_state(model)


def _warn_unknown(model: nn.Module, setters: Sequence[Setter]) -> None:
    """Name what setters speak of and the model does not have."""
    paths = [path for path, _ in model.named_modules()]
    sources = [part for setter in setters for part in (setter, *getattr(setter, "templates", ()))]
    for name in dict.fromkeys(name for part in sources for name in getattr(part, "names", ())):
        if name in paths:
            continue
        near = difflib.get_close_matches(name, paths, n=1, cutoff=0.5)
        meant = f"; the nearest is '{near[0]}'" if near else ""
        text = f"a qconfig is given for '{name}', which is no module of the model{meant}"
        warn_about(model, text, UnknownModuleWarning)


def _kind(module: nn.Module) -> str:
    return str(getattr(module, "function", "") or type(module).__name__.lower())


def share_state(model: nn.Module) -> None:
    """Let all fake quantizers of a model know one state."""
    state = ModelState()
    for _, module in model.named_modules():
        config = getattr(module, "qconfig", None)
        state.calibrating |= isinstance(config, QConfig) and config.calibration
    found = fake_quantizers(model)
    state.members = len(found)
    for _, quantizer in found:
        quantizer.shared = state


def _of_dtype(config: QConfig | None, dtype: QDType | None) -> QConfig | None:
    """Replace the dtype of the result, where an operator or a part of one needs another."""
    if config is None or config.activation is None or dtype is None:
        return config
    factory = config.activation
    keywords = {**getattr(factory, "keywords", {}), "dtype": dtype}
    return replace(config, activation=partial(getattr(factory, "func", factory), **keywords))


def _of_extremes(config: QConfig | None) -> QConfig | None:
    """Let a result that is masked, or makes a mask, be observed by its extremes: none of them may be cut."""
    factory = None if config is None else config.activation
    keywords = getattr(factory, "keywords", {})
    if config is None or factory is None or keywords.get("observer") is FixedScaleObserver:
        return config
    extremes = {**keywords, "observer": MinMaxObserver}
    return replace(config, activation=partial(getattr(factory, "func", factory), **extremes))


def _attach(module: Quantized, config: QConfig | None) -> None:
    module.qconfig = config
    if config is None:
        return
    if module.unquantized_at:
        raise PrepareError(
            f"{module.unquantized_at}: the input of '{module.bpu_path}' must be quantized, not a plain "
            "tensor; put a QuantStub in front of it, or set its qconfig to None"
        )
    if isinstance(module, Decomposed):
        for name in module.constants:
            module.add_module(f"{name}_fake_quant", _constant_quantizer(module))
        if not isinstance(module, FloatFunctional):
            return
    if isinstance(module, PReLU):
        module.add_module("weight_fake_quant", fake_quant(MinMaxObserver, qint8)())
    if isinstance(module, Weighted):
        module.attach_weight(None if config.weight is None else config.weight())
        module.attach_input(None if config.input is None else config.input())
    if config.activation is None or module.raw:
        return
    if isinstance(module, QATQuantStub) and module.scale is not None:
        module.attach_output(config.activation(scale=module.scale))
    elif isinstance(module, (Quantized, FloatFunctional)):
        module.attach_output(config.activation())
    quantizer = module.output_quantizer
    if quantizer is not None and module.observed_as is not None:
        quantizer.observed_as = module.observed_as(quantizer.dtype.max)


def _constant_quantizer(module: Decomposed) -> FakeQuantize:
    made = fake_quant(MinMaxObserver, qint16)()
    if isinstance(module, GivenForm):
        made.observed_as = Fill(qint16.max)
    return made
