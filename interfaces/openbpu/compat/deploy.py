"""From a prepared PyTorch model to placement, `.hbm` and latency in one call each."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbpu.arch.errors import CompileError, must
from openbpu.compat.level import level
from openbpu.compat.march import march_name
from openbpu.compat.placement import placement_text
from openbpu.compat.screen import say

if TYPE_CHECKING:
    import onnx

__all__ = ["check_model", "compile_model", "perf_model"]


def check_model(
    model: Any,
    example_inputs: Any,
    march: Any = None,
    advice: float | None = None,
    **ignored: Any,
) -> int:
    """Print where every node of a prepared or converted model would run, and why; returns 0.

    march: that of `set_march` unless given. advice: accepted as the vendor has it; reasons and fixes are
    printed in any case. Raises what `export` and `openbpu.compiler.check` raise.
    """
    del advice, ignored
    from openbpu.compiler import check  # noqa: PLC0415  # only when it is used

    say(placement_text(check(_exported(model, example_inputs), march=_march(march))))
    return 0


def compile_model(
    model: Any,
    example_inputs: Any,
    hbm: str = "model.hbm",
    march: Any = None,
    opt: int | str = 2,
    **ignored: Any,
) -> int:
    """Export, compile and write `hbm`; returns 0. `opt`: 0, 1, 2, with or without the vendor's letter O."""
    del ignored
    from openbpu.arch.hbm import write_hbm  # noqa: PLC0415
    from openbpu.compiler import compile as build  # noqa: PLC0415
    from openbpu.report.placement import placement_summary  # noqa: PLC0415

    program = build(_exported(model, example_inputs), march=_march(march), opt=level(opt))
    try:
        Path(hbm).parent.mkdir(parents=True, exist_ok=True)
        write_hbm(program, hbm)
    except OSError as error:
        raise CompileError(must("compile_model", "hbm", "a path that can be written", f"'{hbm}'")) from error
    say(f"{hbm}: {program.march}, {placement_summary(program.placement)}")
    return 0


def perf_model(
    model: Any,
    example_inputs: Any,
    march: Any = None,
    out_dir: str = ".",
    name: str = "model",
    hbm: str | None = None,
    opt: int | str = 2,
    **ignored: Any,
) -> dict[str, Any]:
    """Compile a model and simulate its latency: writes `out_dir`/NAME.hbm (or `hbm`) and the report's JSON.

    Prints the figures and returns the report; arguments and errors as in `compile_model`.
    """
    del ignored
    from openbpu.compat.hbdk.build import hbm_perf  # noqa: PLC0415  # only who asks for latency

    path = hbm if hbm is not None else str(Path(out_dir) / f"{name}.hbm")
    compile_model(model, example_inputs, hbm=path, march=march, opt=opt)
    return hbm_perf(path, out_dir)


def placed(model: Any, example_inputs: Any, march: Any = None) -> Any:
    """Return the placement of a PyTorch model, or of what `hbdk4.compiler` loads (then without inputs)."""
    from openbpu.compat.hbdk.module import Module  # noqa: PLC0415
    from openbpu.compiler import check  # noqa: PLC0415

    if isinstance(model, Module):
        return check(model.model, march=_march(march if march is not None else model.march))
    return check(_exported(model, example_inputs), march=_march(march))


def _march(march: Any) -> str:
    """Return the march given, or the one that `set_march` set (its MarchError says so when it was not)."""
    if march is not None:
        return march_name(march)
    return march_name(importlib.import_module("openbpu.quantization.torch").get_march())


def _exported(model: Any, example_inputs: Any) -> onnx.ModelProto:
    """Return the QDQ model; a list of inputs, as the vendor has it, is a tuple of them."""
    inputs = tuple(example_inputs) if isinstance(example_inputs, list) else example_inputs
    exported: onnx.ModelProto = importlib.import_module("openbpu.quantization.torch").export(model, inputs)
    return exported
