"""Gives every module of a prepared model its quantizers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.torch.dtype import QDType, qint8, qint16
from openbpu.quantization.torch.errors import PrepareError, UnknownModuleWarning
from openbpu.quantization.torch.fake_quantize import FakeQuantize, ModelState, fake_quantizers
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.hidden import Fill
from openbpu.quantization.torch.observers import MinMaxObserver
from openbpu.quantization.torch.prepare.agree import Asked, agree
from openbpu.quantization.torch.qat import Decomposed, Weighted
from openbpu.quantization.torch.qat.constant import GivenForm
from openbpu.quantization.torch.qat.simple import PReLU
from openbpu.quantization.torch.qat_mode import QATMode, get_qat_mode
from openbpu.quantization.torch.qconfig import QConfig, changed, fake_quant, is_fixed
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.scope import warn_about
from openbpu.quantization.torch.setters import Setter
from openbpu.quantization.torch.stubs import QATDeQuantStub, QATQuantStub


def assign(
    model: nn.Module, setters: Iterable[Setter], outputs: Iterable[int] = (), kinds: Any = None
) -> None:
    """Ask the setters for every quantizable module and attach what they say.

    `outputs`: ids of modules whose results only DeQuantStubs read; `kinds`: id → name of what it computes.
    Raises PrepareError for a module that is to be quantized and got a plain tensor.
    """
    asked = Asked(tuple(setters), frozenset(outputs), kinds or {})
    inside: dict[int, Decomposed] = {}
    for _, module in model.named_modules():
        if isinstance(module, Decomposed):
            inside.update({id(m): module for m in module.modules() if m is not module})
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, Quantized) and not isinstance(module, QATDeQuantStub)
    ]
    configs = {id(module): asked.of(path, module) for path, module in found}
    agree(model, found, configs, asked)
    for path, module in found:
        config = configs[id(module)]
        whole = inside.get(id(module))
        config = _of_dtype(
            config, (None if whole is None else whole.part_dtype(module)) or module.result_dtype
        )
        if whole is not None and config is not None:
            config = replace(config, input=None)
        if module.hiding is not None or module.observed_as is not None:
            config = _of_extremes(config)
        module.bpu_path = module.bpu_path or path
        _attach(module, config)
    if get_qat_mode() is QATMode.FuseBN:
        for _, module in found:
            if isinstance(module, Weighted) and "bn" in module._modules:  # noqa: SLF001 - torch's own attribute
                module.settle(trains=True)
    if not fake_quantizers(model):
        fix = "put a QuantStub in front of the first operator, and give the modules a qconfig"
        raise PrepareError(must(type(model).__name__, "some module", "quantized", "none", fix))
    _warn_unknown(model, asked.setters)
    share_state(model)


def _warn_unknown(model: nn.Module, setters: Sequence[Setter]) -> None:
    """Name what setters speak of and the model does not have."""
    paths = [path for path, _ in model.named_modules()]
    sources = [part for setter in setters for part in (setter, *getattr(setter, "templates", ()))]
    for name in dict.fromkeys(name for part in sources for name in getattr(part, "names", ())):
        if name in paths:
            continue
        text = f"a qconfig is given for '{name}', which is no module of the model{_meant(name, paths)}"
        warn_about(model, text, UnknownModuleWarning)


def _meant(name: str, paths: Sequence[str]) -> str:
    """The nearest name, and those that operators between modules have."""
    near = difflib.get_close_matches(name, paths, n=1, cutoff=0.5)
    nearest = f"; the nearest is '{near[0]}'" if near else ""
    word = name.rpartition(".")[2].strip("_").rstrip("0123456789").rstrip("_")
    made = [path for path in paths if path.rpartition(".")[2].startswith("_generated_")]
    same = [path for path in made if word and word in path.rpartition(".")[2]] or made
    if not same or (near and near[0] in same[:1]):
        return nearest
    more = ", …" if len(same) > 5 else ""
    return f"{nearest}; operators between modules are called {', '.join(same[:5])}{more}"


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
    return replace(config, activation=changed(config.activation, dtype=dtype))


def _of_extremes(config: QConfig | None) -> QConfig | None:
    """Let a result that is masked, or makes a mask, be observed by its extremes: none of them may be cut."""
    factory = None if config is None else config.activation
    if config is None or factory is None or is_fixed(factory):
        return config
    return replace(config, activation=changed(factory, observer=MinMaxObserver))


def _attach(module: Quantized, config: QConfig | None) -> None:
    module.qconfig = config
    if config is None:
        return
    if module.unquantized_at:
        raise PrepareError(
            f"{module.unquantized_at}: the input of '{module.bpu_path}' must be quantized, not a plain "
            "tensor; put a QuantStub in front of it, or set its qconfig to None"
        )
    if not (isinstance(module, FloatFunctional) and module.takes_raw):
        _attach_inputs(module, config)
    if isinstance(module, Decomposed):
        for name in module.constants:
            module.add_module(f"{name}_fake_quant", _constant_quantizer(module))
        if not isinstance(module, FloatFunctional):
            return
    _attach_weight(module, config)
    if config.activation is None or module.raw:
        return
    if isinstance(module, QATQuantStub) and module.scale is not None:
        module.attach_output(config.activation(scale=module.scale))
    elif isinstance(module, (Quantized, FloatFunctional)):
        module.attach_output(config.activation())
    quantizer = module.output_quantizer
    if quantizer is not None and module.observed_as is not None:
        quantizer.observed_as = module.observed_as(quantizer.dtype.max)


def _attach_weight(module: Quantized, config: QConfig) -> None:
    if isinstance(module, PReLU):
        module.add_module("weight_fake_quant", fake_quant(MinMaxObserver, qint8)())
    if isinstance(module, Weighted):
        module.attach_weight(None if config.weight is None else config.weight())


def _attach_inputs(module: Quantized, config: QConfig) -> None:
    """Quantizers in front; a module of several operators takes them in front of all."""
    factories = _of_inputs(module, config)
    if factories is None or isinstance(module, QATQuantStub):
        return
    module.attach_input(factories)
    if isinstance(module, Decomposed) and not isinstance(module, FloatFunctional):
        module.register_forward_pre_hook(_before, with_kwargs=True)


def _of_inputs(module: Quantized, config: QConfig) -> Any:
    """What the inputs are rounded by: as the qconfig says, or as the operator needs its inputs."""
    if config.input is not None or not module.input_dtypes:
        return config.input
    factory = config.activation or fake_quant(MinMaxObserver, qint16)
    if is_fixed(factory):
        factory = fake_quant(MinMaxObserver, qint16)
    return tuple(changed(factory, dtype=dtype) for dtype in module.input_dtypes)


def _before(module: Any, args: Any, kwargs: Any) -> Any:
    return module.requantized(args), module.requantized(kwargs)


def _constant_quantizer(module: Decomposed) -> FakeQuantize:
    made = fake_quant(MinMaxObserver, qint16)()
    if isinstance(module, GivenForm):
        made.observed_as = Fill(qint16.max)
    return made
