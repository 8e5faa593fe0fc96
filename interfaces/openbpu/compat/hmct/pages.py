"""`hmct.quantizer.debugger`'s pictures: each call writes the page of `openbpu analyze`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import write_text
from openbpu.compat.hmct.inputs import float_of, given_data
from openbpu.compat.screen import say
from openbpu.compat.stages import read
from openbpu.evaluation.analysis import Analysis, Analyzer, sensitivity
from openbpu.report.analysis import analysis_csv, sentences
from openbpu.report.page import analysis_page
from openbpu.report.page.frame import About

__all__ = ["get_channelwise_data_distribution", "plot_acc_error", "plot_distribution", "runall"]

Path_ = str | os.PathLike[str]
Data = Mapping[str, Any] | Path_


def plot_distribution(
    save_dir: Path_,
    model_or_file: Any,
    calibrated_data: Data,
    nodes_list: Sequence[str] | str = (),
    *,
    float_model: Any = None,
) -> Path:
    """Write `analysis.html` and `analysis.csv` into `save_dir`: a histogram of every node's values and codes.

    nodes_list: nodes whose rows are printed. Returns the page's path; raises InputError for what it lacks.
    """
    return _written(save_dir, model_or_file, calibrated_data, nodes_list, float_model)


def get_channelwise_data_distribution(
    save_dir: Path_,
    model_or_file: Any,
    calibrated_data: Data,
    nodes_list: Sequence[str] | str = (),
    axis: int | None = None,
    *,
    float_model: Any = None,
) -> Path:
    """Write the same page: how uneven the channels of every node are, and the weights by channel."""
    del axis
    return _written(save_dir, model_or_file, calibrated_data, nodes_list, float_model)


def plot_acc_error(
    save_dir: Path_,
    calibrated_data: Data,
    model_or_file: Any,
    quantize_node: Any = None,
    non_quantize_node: Any = None,
    metric: str = "cosine-similarity",
    average_mode: bool = False,
    *,
    float_model: Any = None,
) -> Path:
    """Write the same page: the error as it adds up from node to node, and that of every node alone.

    Raises InputError for nodes that are to be (or not to be) quantized: their sensitivity is asked for by
    get_sensitivity_of_nodes.
    """
    del metric, average_mode
    if quantize_node or non_quantize_node:
        fix = "get_sensitivity_of_nodes quantizes one node after another"
        raise InputError(
            must("plot_acc_error", "quantize_node and non_quantize_node", "left out", "given", fix)
        )
    return _written(save_dir, model_or_file, calibrated_data, (), float_model)


def runall(
    model_or_file: Any,
    calibrated_data: Data,
    save_dir: Path_ = ".",
    *,
    float_model: Any = None,
    **ignored: Any,
) -> Path:
    """Write the page with everything, the sensitivity of every node as well."""
    del ignored
    return _written(save_dir, model_or_file, calibrated_data, (), float_model, felt=True)


def _written(
    save_dir: Path_, model: Any, data: Any, nodes: Sequence[str] | str, given: Any, *, felt: bool = False
) -> Path:
    if _is_model(data) and not _is_model(model):  # the vendor's functions differ in what comes first
        model, data = data, model
    quantized, original = read(model), read(float_of(model, given))
    analyzer, samples = Analyzer(original, quantized), given_data(data, original)
    found = analyzer.analyze(samples)
    sensed = sensitivity(analyzer, samples) if felt else ()
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "analysis.html"
    write_text(page, analysis_page(found, sensed, "cosine", About()))
    write_text(page.with_suffix(".csv"), analysis_csv(found, "order", sensed))
    _told(found, [nodes] if isinstance(nodes, str) else nodes)
    say(f"wrote {page}")
    return page


def _is_model(value: Any) -> bool:
    return isinstance(value, ModelProto) or str(value).endswith(".onnx")


def _told(found: Analysis, nodes: Sequence[str]) -> None:
    rows = {row.node: row for row in found.rows}
    for name in nodes:
        if name not in rows:
            fix = "`openbpu analyze --all` lists them"
            raise InputError(must("the debugger", "nodes_list", "nodes of the model", f"'{name}'", fix))
        row = rows[name]
        say(f"{name}: {row.least:.6g} … {row.largest:.6g}, cosine so far {row.so_far.cosine:.6f}")
    for sentence in sentences(found):
        say(sentence)
