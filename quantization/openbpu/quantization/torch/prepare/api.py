"""prepare, prepare_qat and prepare_qat_fx."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from enum import Enum
from typing import Any

import torch
from torch import nn

from openbpu.arch.errors import must
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.fake_quantize import fake_quantizers
from openbpu.quantization.torch.march import get_march
from openbpu.quantization.torch.prepare.assign import assign
from openbpu.quantization.torch.prepare.check import check_qat_model
from openbpu.quantization.torch.prepare.finish import finish, swap_all
from openbpu.quantization.torch.prepare.record import record
from openbpu.quantization.torch.prepare.watch import watch
from openbpu.quantization.torch.qconfig import QConfig
from openbpu.quantization.torch.quantized import Quantized
from openbpu.quantization.torch.setters import (
    PASS,
    Answer,
    ModuleNameQconfigSetter,
    Place,
    Setter,
    default_calibration_qconfig_setter,
)


class PrepareMethod(Enum):
    """How operators between modules are found.

    SYMBOLIC, JIT and JIT_STRIP run the model once on example inputs; EAGER takes modules only, and the model
    says what is fused (fuse_modules) and uses FloatFunctional. JIT_STRIP: the exported model is what stands
    between the stubs; its inputs are what the QuantStubs read.
    """

    EAGER = "eager"
    SYMBOLIC = "symbolic"
    JIT = "jit"
    JIT_STRIP = "jit-strip"


def prepare(
    model: nn.Module,
    example_inputs: Any = None,
    qconfig_setter: Setter | Sequence[Setter] | None = None,
    method: PrepareMethod = PrepareMethod.SYMBOLIC,
    inplace: bool = False,
    *,
    report_dir: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Return a copy of a float model that observes and fake-quantizes; call set_march first.

    example_inputs: what the model takes: one argument (a tensor, a dict, …) or a tuple of arguments.
    qconfig_setter: one or several; the first answer counts. Every module
    that computes, and every operator on quantized tensors in a forward, gets a scale of its own; convolution,
    BatchNorm, addition and ReLU that follow one another are fused. report_dir: a folder to write
    model_check_result.txt and qconfig_info.txt to (see check_qat_model); not in eager mode.
    Raises PrepareError, QTensorError.
    """
    get_march()
    _check_model("prepare", model)
    way: Any = method
    if not isinstance(way, PrepareMethod):
        allowed = ", ".join(f"PrepareMethod.{m.name}" for m in PrepareMethod)
        raise PrepareError(must("prepare", "method", f"one of {allowed}", repr(way)))
    setters = _setters(qconfig_setter)
    prepared = model if inplace else deepcopy(model)
    if method is PrepareMethod.EAGER:
        return _eager(prepared, setters)
    if example_inputs is None:
        raise PrepareError("prepare: example_inputs must be given (only PrepareMethod.EAGER works without)")
    swap_all(prepared)
    finish(prepared, record(prepared, example_inputs), setters)
    prepared.stripped = method is PrepareMethod.JIT_STRIP
    asked = [report_dir, *(getattr(setter, "save_dir", None) for setter in setters)]
    for folder in dict.fromkeys(folder for folder in asked if folder is not None):
        check_qat_model(prepared, example_inputs, save_results=True, out_dir=folder)
    return prepared


def prepare_qat(model: nn.Module, inplace: bool = False, mapping: Any = None) -> nn.Module:
    """Prepare in eager mode by the `qconfig` attributes of the modules; a container's holds for its children.

    Modules whose qconfig is None, or that have none, stay float.
    """
    del mapping
    get_march()
    _check_model("prepare_qat", model)
    if not any("qconfig" in m.__dict__ for m in model.modules()):
        raise PrepareError(
            "prepare_qat: no module has a qconfig; set model.qconfig = get_default_qat_qconfig()"
        )
    prepared = model if inplace else deepcopy(model)
    return _eager(prepared, (_Inherited(_by_attribute(prepared)),))


def prepare_qat_fx(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any] | QConfig,
    example_inputs: Any = None,
    hybrid: bool = False,
) -> nn.Module:
    """Prepare by a dictionary {"": default QConfig, "module_name": [(path, QConfig), …] or {path: QConfig}}.

    Without example_inputs the operators are found by torch.fx; with them, by running the model.
    """
    del hybrid
    _check_model("prepare_qat_fx", model)
    given: Any = qconfig_dict
    if not isinstance(given, (QConfig, Mapping)):
        allowed = 'a QConfig or a dictionary {"": QConfig, "module_name": …}'
        raise PrepareError(must("prepare_qat_fx", "qconfig_dict", allowed, repr(given)))
    names = {"": qconfig_dict} if isinstance(qconfig_dict, QConfig) else _by_name(qconfig_dict)
    for path, module in model.named_modules():
        if "qconfig" in module.__dict__:
            names.setdefault(path, module.__dict__["qconfig"])
    setter = ModuleNameQconfigSetter(names)
    if example_inputs is not None:
        return prepare(model, example_inputs, (setter, _none))
    from openbpu.quantization.torch.prepare.symbolic import prepare_symbolic  # noqa: PLC0415 - loads torch.fx

    get_march()
    return prepare_symbolic(deepcopy(model), (setter, _none))


def _none(place: Place) -> Answer:
    del place
    return None


def _by_name(qconfig_dict: Mapping[str, Any]) -> dict[str, QConfig | None]:
    names: dict[str, QConfig | None] = {}
    if "" in qconfig_dict:
        names[""] = qconfig_dict[""]
    listed = qconfig_dict.get("module_name", {})
    names.update(dict(listed.items() if isinstance(listed, Mapping) else listed))
    unknown = set(qconfig_dict) - {"", "module_name"}
    if unknown:
        raise PrepareError(f'prepare_qat_fx: keys must be "" and "module_name", not {sorted(unknown)}')
    return names


class _Inherited:
    """The setter of eager mode: the qconfig attribute of the nearest module above."""

    def __init__(self, names: Mapping[str, QConfig | None]) -> None:
        self.by_name = ModuleNameQconfigSetter(names)

    def __call__(self, place: Place) -> Answer:
        answer = self.by_name(place)
        return None if answer is PASS else answer


def _by_attribute(model: nn.Module) -> dict[str, QConfig | None]:
    return {path: m.__dict__["qconfig"] for path, m in model.named_modules() if "qconfig" in m.__dict__}


def _setters(given: Any) -> tuple[Setter, ...]:
    if given is None:
        return (default_calibration_qconfig_setter,)
    setters = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    for setter in setters:
        if not callable(setter):
            fix = "give a setter such as default_calibration_qconfig_setter, or a tuple of them"
            raise PrepareError(must("prepare", "qconfig_setter", "a function of a Place", repr(setter), fix))
    return setters


def _check_model(caller: str, model: Any) -> None:
    """Refuse what is no float model: something else, a TorchScript, a model that is prepared already."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        fix = "give the Python model"
        raise PrepareError(must(caller, "the model", "an nn.Module", type(model).__name__, fix))
    if fake_quantizers(model):
        fix = "give the float model, or use this one as it is"
        raise PrepareError(must(caller, "the model", "a float model", "one that is prepared already", fix))


# --- the two ways -----------------------------------------------------------------------------------------


def _eager(model: nn.Module, setters: Sequence[Setter]) -> nn.Module:
    swap_all(model)
    for module in model.modules():
        if "qconfig" in module.__dict__ and not isinstance(module, Quantized):
            module.qconfig = module.__dict__["qconfig"]
    assign(model, setters)
    watch(model)
    return model
