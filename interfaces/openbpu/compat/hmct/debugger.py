"""`hmct.quantizer.debugger`: which nodes cost the outputs most, by openbpu.evaluation.analysis."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from openbpu.arch.errors import InputError, must
from openbpu.compat.hmct.inputs import float_of, given_data
from openbpu.compat.hmct.pages import (
    get_channelwise_data_distribution,
    plot_acc_error,
    plot_distribution,
    runall,
)
from openbpu.compat.screen import say, table
from openbpu.compat.stages import read
from openbpu.evaluation.analysis import Analyzer, Sensitivity, sensitivity

__all__ = [
    "get_channelwise_data_distribution",
    "get_sensitivity_of_nodes",
    "plot_acc_error",
    "plot_distribution",
    "runall",
    "sensitivity_analysis",
]

_METRICS = {"cosine-similarity": "cosine", "cosine": "cosine", "mse": "mse", "sqnr": "sqnr"}
_COLUMNS = {"cosine": "cosine-similarity", "mse": "mse", "sqnr": "sqnr"}


def get_sensitivity_of_nodes(
    model_or_file: Any,
    metrics: str | Sequence[str] = "cosine-similarity",
    calibrated_data: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    output_node: str | None = None,
    node_type: str | None = None,
    data_num: int | None = None,
    verbose: bool = False,
    *,
    float_model: Any = None,
) -> dict[str, dict[str, float]]:
    """Return {node: {metric: value}}, the node first that costs the outputs most when it alone is quantized.

    model_or_file: the calibrated model; beside it lies the float model,
    `<prefix>_optimized_float_model.onnx`, or it is `float_model` · metrics: cosine-similarity, mse
    or sqnr, one or several; the first one sorts ·
    calibrated_data: a mapping of inputs to arrays or folders, or a folder with one of each ·
    node_type: "node" or None · verbose: print the table. Raises InputError for what it lacks.
    """
    if node_type not in {None, "node"}:
        fix = "inputs and weights are judged together with their node; `openbpu analyze` tells them apart"
        raise InputError(must("get_sensitivity_of_nodes", "node_type", '"node"', f"'{node_type}'", fix))
    names = [_metric(m) for m in ([metrics] if isinstance(metrics, str) else metrics)]
    quantized, original = read(model_or_file), read(float_of(model_or_file, float_model))
    data = given_data(calibrated_data, original)
    analyzer = Analyzer(original, quantized)
    found = [sensitivity(analyzer, data, by=name, samples=data_num, until=output_node) for name in names]
    rows = _rows(found, names)
    if verbose:
        columns = [_COLUMNS[name] for name in names]
        say(table(["node", *columns], [[n, *(f"{v[c]:.6f}" for c in columns)] for n, v in rows.items()]))
    return rows


def sensitivity_analysis(
    model_or_file: Any,
    calibrated_data: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    pick_threshold: float = 0.999,
    data_num: int | None = 1,
    sensitive_nodes: Sequence[str] = (),
    verbose: bool = False,
    *,
    float_model: Any = None,
) -> dict[str, dict[str, float]]:
    """Return the nodes whose cosine is below `pick_threshold`, and `sensitive_nodes`, as the one above."""
    rows = get_sensitivity_of_nodes(
        model_or_file, "cosine-similarity", calibrated_data, data_num=data_num, float_model=float_model
    )
    kept = {
        name: row
        for name, row in rows.items()
        if row["cosine-similarity"] < pick_threshold or name in sensitive_nodes
    }
    if verbose:
        say(
            table(
                ["node", "cosine-similarity"], [[n, f"{v['cosine-similarity']:.6f}"] for n, v in kept.items()]
            )
        )
    return kept


def _metric(name: str) -> str:
    if name not in _METRICS:
        raise InputError(
            must("get_sensitivity_of_nodes", "metrics", f"among {', '.join(_METRICS)}", f"'{name}'")
        )
    return _METRICS[name]


def _rows(found: Sequence[Sequence[Sensitivity]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    values = [{row.node: row.value for row in rows} for rows in found]
    return {
        row.node: {_COLUMNS[name]: of[row.node] for name, of in zip(names, values, strict=True)}
        for row in sorted(found[0], key=lambda row: (-row.loss, row.index))
    }
