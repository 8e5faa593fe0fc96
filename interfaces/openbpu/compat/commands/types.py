"""Types and places of nodes as a configuration asks for them: one quant_config, and wishes for the BPU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto, defs

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError
from openbpu.compat.commands.calibration import found_path
from openbpu.compat.commands.schema import Configuration, NodeInfo
from openbpu.compat.commands.yaml_file import Lines
from openbpu.quantization.onnx import QuantConfig, read_config, with_node_types
from openbpu.quantization.onnx.config.write import config_mapping

_GROUP = "calibration_parameters"
_SET = re.compile(r"set_(\w+)_(input|output)_(int8|int16)")
_FIX = "like set_all_nodes_int16, set_Softmax_input_int16, set_model_output_int16; or use quant_config"


@dataclass(frozen=True, slots=True)
class Asked:
    """The types, and the operators and nodes that are asked onto the BPU."""

    config: QuantConfig
    bpu: tuple[str, ...]


def asked(config: Configuration, model: ModelProto, lines: Lines) -> Asked:
    """Return what a configuration asks for; raises InputError, by line, for names that the model has not."""
    of = config.calibration_parameters
    start = read_config(_given_config(of.quant_config, lines))
    made: dict[str, Any] = dict(config_mapping(start))
    infos = {**config.model_parameters.set_node_data_type, **config.model_parameters.node_info}
    names = {node.name for node in model.graph.node}
    for key, listed in (("run_on_cpu", of.run_on_cpu), ("run_on_bpu", of.run_on_bpu)):
        for name in listed:
            _check_node(name, names, lines, (_GROUP, key))
    for name in infos:
        _check_node(name, names, lines, ("model_parameters", "node_info"))
    bpu = [*of.run_on_bpu, *(n for n, info in infos.items() if info.on == "BPU")]
    bpu += _optimization(of.optimization, made, lines)
    if of.max_percentile is not None and of.calibration_type in {"max", "default"}:
        part = made.setdefault("model_config", {}).setdefault("activation", {})
        part.setdefault("max_percentile", of.max_percentile)
    _types_of_nodes(infos, model, made)
    floats = [*of.run_on_cpu, *(n for n, info in infos.items() if info.on == "CPU")]
    found = with_node_types(read_config(made), {DType.FLOAT32: floats} if floats else {})
    return Asked(found, tuple(dict.fromkeys(bpu)))


def _given_config(value: Any, lines: Lines) -> Any:
    """Return a quant_config: a mapping as it is, or the path of a file."""
    if value is None or isinstance(value, Mapping):
        return value
    path = found_path(str(value), lines)
    if not path.is_file():
        raise lines.wrong((_GROUP, "quant_config"), "a JSON or YAML file", f"'{value}', which is missing")
    return Path(path)


def _check_node(name: str, names: set[str], lines: Lines, place: tuple[str, ...]) -> None:
    if name not in names:
        import difflib  # noqa: PLC0415  # only for what is wrong

        close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
        fix = f"the nearest is '{close[0]}'" if close else "`openbpu check` lists the nodes"
        raise lines.wrong(place, "nodes of the model", f"'{name}'", fix)


def _optimization(words: Sequence[str], made: dict[str, Any], lines: Lines) -> list[str]:
    """Write the switches of `optimization` into a quant_config; returns operators asked onto the BPU."""
    bpu = []
    for word in words:
        found = _SET.fullmatch(word)
        part = made.setdefault("model_config", {})
        if word == "set_all_nodes_int16":
            part["all_node_type"] = "int16"
        elif word in {"set_model_output_int8", "set_model_output_int16"}:
            part["model_output_type"] = word.rpartition("_")[2]
        elif word == "bias_correction":
            part.setdefault("weight", {}).setdefault("bias_correction", {"num_sample": 32})
        elif word == "asymmetric":
            part.setdefault("activation", {})["asymmetric"] = True
        elif found and defs.has(found[1]):
            bpu.append(found[1])
            if found[2] == "input" or found[1] not in made.get("op_config", {}):
                made.setdefault("op_config", {})[found[1]] = {"qtype": found[3]}
        elif word != "run_fast":
            raise lines.wrong((_GROUP, "optimization"), "switches that are known", f"'{word}'", _FIX)
    return bpu


def _types_of_nodes(infos: Mapping[str, NodeInfo], model: ModelProto, made: dict[str, Any]) -> None:
    """Write InputType and OutputType into a quant_config: a result has the type that its readers read."""
    outputs = {value.name for value in model.graph.output}
    by_name = {node.name: node for node in model.graph.node}
    for name, info in infos.items():
        if info.input_type is not None:
            made.setdefault("node_config", {}).setdefault(name, {})["qtype"] = info.input_type
        if info.output_type is None:
            continue
        results = set(by_name[name].output)
        for reader in model.graph.node:
            for place, tensor in enumerate(reader.input):
                if tensor in results and reader.name:
                    of = made.setdefault("node_config", {}).setdefault(reader.name, {})
                    of.setdefault(f"input{place}", info.output_type)
        if results & outputs:
            made.setdefault("model_config", {})["model_output_type"] = info.output_type


def with_outputs(model: ModelProto, names: Sequence[str], lines: Lines) -> ModelProto:
    """Return the model cut behind the nodes or tensors that are its outputs; as it is for no names."""
    if not names:
        return model
    from onnx import shape_inference, utils  # noqa: PLC0415  # only where a model is cut

    by_node = {node.name: list(node.output) for node in model.graph.node}
    made = {tensor for node in model.graph.node for tensor in node.output}
    wanted: list[str] = []
    for name in names:
        if name not in by_node and name not in made:
            fix = "`openbpu check` lists the nodes"
            raise lines.wrong(
                ("model_parameters", "output_nodes"), "nodes or tensors of the model", f"'{name}'", fix
            )
        wanted += by_node.get(name, [name])
    inferred = shape_inference.infer_shapes(model)
    inputs = [value.name for value in model.graph.input]
    try:
        return utils.Extractor(inferred).extract_model(inputs, wanted)
    except Exception as error:  # onnx raises ValueError and KeyError for what it cannot type
        reason = " ".join(str(error).split())
        raise InputError(
            f"output_nodes: the model cannot be cut there ({reason}); choose other nodes"
        ) from error
