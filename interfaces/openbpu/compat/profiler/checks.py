"""What a prepared model is set to: what could be fused, how often modules run, qconfigs, devices."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from openbpu.arch.files import write_text
from openbpu.compat.deploy import placed
from openbpu.compat.placement import placement_text
from openbpu.compat.profiler.files import as_text, folder
from openbpu.compat.screen import say


def checked(model: Any, example_inputs: Any) -> Any:
    """Return what openbpu.quantization.torch.check_qat_model finds."""
    return importlib.import_module("openbpu.quantization.torch").check_qat_model(model, example_inputs)


def get_module_called_count(
    model: Any, example_inputs: Any, check_leaf_module: Any = None, print_tree: bool = False
) -> dict[str, int]:
    """Return how often a forward calls each layer, 0 for those that it does not reach; prints the table."""
    del check_leaf_module, print_tree
    profiler = importlib.import_module("openbpu.quantization.torch.profiler")
    counts: dict[str, int] = profiler.called(model, example_inputs)
    say(as_text(("name", "called times"), list(counts.items())))
    return counts


def check_unfused_operations(
    model: Any, example_inputs: Any, print_tabulate: bool = True
) -> list[list[tuple[str, str]]]:
    """Return the groups of layers that could share one rounding and do not, each as (name, type).

    Of a prepared model as it is; a float one is prepared first, and what then is left unfused is told.
    """
    profiler = importlib.import_module("openbpu.quantization.torch.profiler")
    prepared = profiler.comparable(model, example_inputs).model
    groups: list[list[tuple[str, str]]] = [[]]
    for name, kind in checked(prepared, example_inputs).fusable:
        if name:
            groups[-1].append((name, kind))
        else:
            groups.append([])
    found = [group for group in groups if group]
    if print_tabulate:
        rows = [row for group in found for row in (*group, ("", ""))]
        say(as_text(("name", "type"), rows) if rows else "Every layer that can be fused is fused.")
    return found


def check_qconfig(
    model: Any,
    example_inputs: Any,
    prefixes: Sequence[str] = (),
    types: Sequence[type] = (),
    custom_check_func: Callable[[Any], Any] | None = None,
    out_dir: str | os.PathLike[str] | None = None,
    **ignored: Any,
) -> tuple[list[Any], list[Any], list[Any]]:
    """Write `qconfig_info.txt` and return its two tables and what custom_check_func found unusual.

    custom_check_func: called with every layer; what it returns, unless None, is unusual.
    """
    del ignored
    found = checked(model, example_inputs)
    write_text(folder(out_dir) / "qconfig_info.txt", found.qconfig_info())
    say(found.qconfig_info())

    def wanted(row: Sequence[Any]) -> bool:
        path = str(row[0]).partition("(")[0]
        module = model.get_submodule(path)
        by_name = not prefixes or path.startswith(tuple(prefixes))
        return by_name and (not types or isinstance(module, tuple(types)))

    unusual = []
    if custom_check_func is not None:
        answers = ((name, custom_check_func(module)) for name, module in model.named_modules())
        unusual = [answer for answer in answers if answer[1] is not None]
    return [r for r in found.outputs if wanted(r)], [r for r in found.weights if wanted(r)], unusual


def check_deploy_device(
    model: Any,
    example_inputs: Any = None,
    print_tabulate: bool = True,
    out_dir: str | os.PathLike[str] | None = None,
    march: Any = None,
    **ignored: Any,
) -> list[tuple[str, str, str]]:
    """Return (node, device, reason) of every node of a model; writes `deploy_device.txt`.

    model: a prepared or converted one with example_inputs, or what `hbdk4.compiler` loads. march: that of
    `set_march` unless given.
    """
    del ignored
    rows = placed(model, example_inputs, march)
    if print_tabulate:
        say(placement_text(rows))
    write_text(folder(out_dir) / "deploy_device.txt", placement_text(rows) + "\n")
    return [(row.node, row.on, row.reason) for row in rows]


def set_preserve_qat_mode(model: Any, prefixes: Any = None, types: Any = None, value: bool = True) -> None:
    """Nothing: what is looked at here always computes as the prepared model does."""
    del model, prefixes, types, value
