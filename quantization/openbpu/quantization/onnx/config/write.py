"""A `quant_config` as the text of a file: what `read_config` reads, as short as it can be said."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.config.names import is_pattern
from openbpu.quantization.onnx.config.schema import OfNode, QuantConfig

_NAMES = {DType.INT8: "int8", DType.INT16: "int16", DType.FLOAT32: "float"}


def config_mapping(config: QuantConfig, names: Iterable[str] = ()) -> dict[str, Any]:
    """Return `config` as plain dicts, lists, texts and numbers, without what says nothing.

    names: of the model's nodes. Types from the command line win over those of the file; so that they still
    do when all are in one section, its patterns are written out.
    """
    made = {"model_config": _plain(config.model.model_dump(exclude_none=True, exclude_defaults=True))}
    made["op_config"] = _plain({op: {"qtype": of.qtype} for op, of in config.ops.items()})
    made["subgraph_config"] = _plain(
        {k: {"inputs": s.inputs, "outputs": s.outputs, "qtype": s.qtype} for k, s in config.subgraphs.items()}
    )
    nodes = {**config.nodes, **_written_out(config.options, list(names))}
    made["node_config"] = {name: _of_node(of) for name, of in nodes.items()}
    return {section: content for section, content in made.items() if content}


def config_text(mapping: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """Return a mapping of `config_mapping` as YAML, behind lines of comment."""
    import yaml  # noqa: PLC0415  # most configs are read, few are written

    head = "".join(f"# {line}\n" if line else "#\n" for line in comments)
    text = yaml.safe_dump(
        dict(mapping), sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000
    )
    return head + str(text)


def _written_out(options: Mapping[str, OfNode], names: Sequence[str]) -> dict[str, OfNode]:
    """Return types by name: a name wins over a pattern, and what is no pattern is a name."""
    known = set(names)
    patterns = {name for name in options if is_pattern(name) and name not in known}
    found = {
        name: options[pattern]
        for pattern in options
        if pattern in patterns
        for name in names
        if fnmatch.fnmatchcase(name, pattern)
    }
    return found | {name: of for name, of in options.items() if name not in patterns}


def _of_node(of: OfNode) -> dict[str, str]:
    whole = {} if of.qtype is None else {"qtype": _NAMES[of.qtype]}
    return whole | {f"input{place}": _NAMES[dtype] for place, dtype in sorted(of.inputs.items())}


def _plain(value: Any) -> Any:
    if isinstance(value, DType):
        return _NAMES[value]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return _plain(value[0]) if len(value) == 1 else [_plain(inner) for inner in value]
    return value
