"""JSON or YAML text to a mapping, with keys as they are written and none of them twice."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from openbpu.arch.errors import InputError, must
from openbpu.quantization.onnx.config.keys import once

MAX_DEPTH = 100
"""Brackets within each other: a YAML parser needs minutes for thousands of them."""

_TURN = {"[": 1, "{": 1, "]": -1, "}": -1}


def as_mapping(text: str, where: str, what: str = "the quant_config") -> dict[str, Any]:
    """Return what the file `where` holds; raises InputError for text that is neither JSON nor YAML.

    what: how the file is called in messages.
    """
    try:
        data = _parsed(text)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        told = f"{where}: {what} is neither JSON nor YAML ({said}); correct it there"
        raise InputError(told) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(must(where, what, "a mapping", type(data).__name__))
    return data


def _parsed(text: str) -> Any:
    if max(accumulate(_TURN.get(c, 0) for c in text), default=0) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} brackets within each other")
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=once)
        except json.JSONDecodeError:
            pass  # YAML has braces too
    from openbpu.quantization.onnx.config.yaml_loader import yaml_data  # noqa: PLC0415  # most have JSON or nothing

    return yaml_data(text)
