"""Which vendor module holds which openbpu names, and what to say about a name that openbpu does not have."""

from __future__ import annotations

import difflib
import importlib
import re
from types import ModuleType
from typing import Any

from openbpu.compat.registry import ROWS, refusal

_TORCH = "openbpu.quantization.torch"
_DEPLOY = "openbpu.compat.deploy"
_PREPARE = "openbpu.compat.prepare"
_NAMES = "openbpu.compat.plugin_names"
_HBDK = "openbpu.compat.hbdk"
_PROFILER = "openbpu.compat.profiler"
_LOW = "openbpu.quantization.torch.lowlevel"

TORCH = ("torch.quantization", "torch.ao.quantization")
"""Provided only where torch has dropped them."""

_PLUGIN = (
    "",
    ".dtype",
    ".march",
    ".qat_mode",
    ".qtensor",
    ".version",
    ".functional",
    ".fx",
    ".fx.jit_scheme",
    ".nn",
    ".nn.qat",
    ".nn.qat.segment_lut",
    ".nn.qat.functional_modules",
    ".nn.qat.linear",
    ".nn.qat.conv2d",
    ".nn.quantized",
    ".nn.quantized.functional",
    ".nn.functional",
    ".quantization",
    ".quantization.fake_quantize",
    ".quantization.convert",
    ".quantization.fuse_modules",
    ".quantization.fx",
    ".quantization.observer",
    ".quantization.prepare",
    ".quantization.qat_mode",
    ".quantization.observer_v2",
    ".quantization.qconfig",
    ".quantization.qconfig_setter",
    ".quantization.qconfig_template",
    ".quantization.quantize",
    ".quantization.quantize_fx",
    ".quantization.stubs",
    ".utils",
    ".utils.fx_helper",
    ".utils.quant_profiler",
    ".utils.onnx_helper",
)

_QAT = tuple(f"{_TORCH}.qat.{name}" for name in ("weighted", "simple", "norm"))

MODULES: dict[str, tuple[str, ...]] = {
    **{
        f"horizon_plugin_pytorch{name}": (
            _PREPARE,
            _TORCH,
            _DEPLOY,
            _NAMES,
            *(_QAT if name.startswith(".nn.qat") else ()),
        )
        for name in _PLUGIN
    },
    "horizon_plugin_pytorch.quantization.hbdk4": (f"{_HBDK}.plugin", _TORCH, _NAMES),
    "horizon_plugin_profiler": (_PROFILER, _TORCH, _DEPLOY),
    "horizon_plugin_profiler.model_profilerv2": (_PROFILER, _TORCH, _DEPLOY),
    "horizon_plugin_profiler.utils": (_PROFILER, _TORCH, _DEPLOY),
    "hbdk4": (),
    "hbdk4.compiler": (_HBDK,),
    "hbdk4.compiler.onnx": (f"{_HBDK}.onnx",),
    "hbdk4.compiler.march": ("openbpu.compat.march",),
    "hbdk4.compiler.overlay": (_HBDK,),
    "hbdk4.compiler.hbm": (f"{_HBDK}.hbm",),
    "hbdk4.compiler.hbm_tools": (f"{_HBDK}.tools",),
    "hbdk4.compiler.version": (f"{_HBDK}.version",),
    "hbdk4.march": ("openbpu.compat.march",),
    "hmct": (),
    "hmct.api": ("openbpu.compat.hmct.api",),
    "hmct.ir": (),
    "hmct.quantizer": (),
    "hmct.quantizer.debugger": ("openbpu.compat.hmct.debugger",),
    "hbm_runtime": ("openbpu.compat.hbm_runtime",),
    "hobot_dnn": (),
    "hobot_dnn.pyeasy_dnn": ("openbpu.compat.pyeasy_dnn",),
    "horizon_tc_ui": ("openbpu.compat.hb_runtime",),
    "horizon_tc_ui.hb_runtime": ("openbpu.compat.hb_runtime",),
    "horizon_tc_ui.utils": (),
    "horizon_tc_ui.utils.tool_utils": ("openbpu.compat.tool_utils",),
    "pytorch_quantization": (_LOW,),
    "pytorch_quantization.tensor_quant": (_LOW,),
    "pytorch_quantization.calib": (_LOW,),
    "pytorch_quantization.nn": (_LOW,),
    "pytorch_quantization.nn.modules": (_LOW,),
    "pytorch_quantization.nn.modules.tensor_quantizer": (_LOW,),
    **dict.fromkeys(TORCH, (_TORCH,)),
}
"""Vendor module → the openbpu modules in which its names are looked up, in this order."""

_ANY_QCONFIG = r"\w*qconfig\w*"
_STAR = {
    "": r"set_march|get_march|with_march|March|QTensor",
    ".dtype": r"q(int\d+|info)|QDType",
    ".march": r"set_march|get_march|with_march|March",
    ".qat_mode": r"QATMode|[sg]et_qat_mode",
    ".qtensor": r"QTensor",
    ".functional": r"FloatFunctional|SegmentLUT",
    ".nn.functional": r"FloatFunctional|SegmentLUT",
    **dict.fromkeys(
        (".nn", ".nn.qat", ".nn.qat.linear", ".nn.qat.conv2d", ".nn.quantized"), r"(?!Any$)[A-Z]\w+"
    ),
    ".fx": r"Tracer",
    ".fx.jit_scheme": r"Tracer",
    ".utils.fx_helper": r"wrap",
    ".quantization.convert": r"convert|convert_fx",
    ".quantization.fake_quantize": r"\w*FakeQuant\w*|set_fake_quantize",
    ".quantization.fuse_modules": r"fuse_\w+",
    ".quantization.fx": r"fuse_fx|prepare_qat_fx|convert_fx",
    ".quantization.hbdk4": r"export|pre_export|get_hbir_\w+",
    ".quantization.observer": r"\w+Observer",
    ".quantization.observer_v2": r"\w+Observer",
    ".quantization.prepare": r"prepare\w*|PrepareMethod",
    ".quantization.qat_mode": r"QATMode|[sg]et_qat_mode",
    ".quantization.qconfig": f"QConfig|{_ANY_QCONFIG}(?<!_setter)",
    ".quantization.qconfig_setter": r"\w*QconfigSetter|\w+Template|PASS|Place",
    ".quantization.qconfig_template": rf"{_ANY_QCONFIG}_setter|\w*QconfigSetter|\w+Template",
    ".quantization.quantize": r"prepare_qat|convert",
    ".quantization.quantize_fx": r"prepare_qat_fx|convert_fx|fuse_fx",
    ".quantization.stubs": r"(De)?QuantStub",
    ".quantization": r"(?!export$|pre_export$|wrap$|Tracer$|get_hbir_)\w+",
}
STAR = {f"horizon_plugin_pytorch{name}": re.compile(names) for name, names in _STAR.items()}
"""Which names a star import brings of a module that knows more: it must not hide those of other packages."""

REFUSED = frozenset(row.module for row in ROWS if not row.name and "." not in row.module)
"""Packages that are refused as a whole."""

REFUSAL = "openbpu.compat: "
"""How every message about a name begins."""

_RENAMED = {"_tensor_quant": "tensor_quant"}
"""Vendor name → the openbpu name of the same thing."""


def target_of(module: str, name: str) -> Any:
    """Return what `module.name` is in openbpu, None when there is no such thing.

    Raises ImportError, with what to install, when the openbpu module behind it cannot be imported.
    """
    for source in MODULES[module]:
        try:
            found = importlib.import_module(source)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "torch":
                raise
            need = "this needs PyTorch: pip install 'openbpu[torch]'"
            raise ImportError(f"{module}.{name}: {need}", name=module) from error
        target = getattr(found, _RENAMED.get(name, name), None)
        if target is not None and not isinstance(target, ModuleType):
            return target
    return None


def answer(module: str, name: str) -> str:
    """Say that `module.name` is not there, and what openbpu has instead, if anything."""
    start = f"{REFUSAL}{'.'.join(filter(None, (module, name)))} is not provided"
    why = refusal(module, name)
    if why:
        return f"{start}: {why}"
    if module.startswith("horizon_plugin_pytorch.nn"):
        fused = _FUSED.fullmatch(name)
        if fused:
            plain = f"horizon_plugin_pytorch.nn.qat.{fused[1]}{fused[2] or ''}"
            return f"{start}; use {plain} instead: it holds what is fused"
        if _in_torch(name):
            return f"{start}; use torch.nn.{name} instead: prepare gives it its quantizers"
    close = difflib.get_close_matches(name, sorted(_offered(module) - {name}), n=1, cutoff=0.75)
    if close:
        return f"{start}; the nearest name here is {close[0]}"
    return f"{start}, and openbpu has no equivalent; `dir({module})` lists what there is"


_FUSED = re.compile(r"(Conv|ConvTranspose|Linear)(?:BN|Add|ReLU6?)+([123]d)?")
"""The vendor's names of layers with what is fused into them."""


def _in_torch(name: str) -> bool:
    try:
        return hasattr(importlib.import_module("torch.nn"), name)
    except ImportError:
        return False


def _offered(module: str) -> set[str]:
    offered: set[str] = set()
    for source in MODULES.get(module, ()):
        try:
            found = importlib.import_module(source)
        except ImportError:
            continue
        offered.update(getattr(found, "__all__", dir(found)))
    prefix = f"{module}."
    return offered | {m[len(prefix) :] for m in MODULES if m.startswith(prefix)}
