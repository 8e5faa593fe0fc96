"""A `quant_config` from a JSON or YAML file, or from a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded
from openbpu.quantization.onnx.config.schema import OfNode, QuantConfig
from openbpu.quantization.onnx.config.text import as_mapping

ConfigLike = QuantConfig | Mapping[str, Any] | str | os.PathLike[str]

MAX_BYTES = 16 << 20
"""A larger file is none of types: a network of 100,000 nodes has one of 8 MB."""

_TOLD = 100
"""Mistakes that a message lists."""


def read_config(given: ConfigLike | None) -> QuantConfig:
    """Return what a file or a mapping asks for; an empty one for None.

    Raises InputError for a file that cannot be read, and for keys and values that are not known, all at once.
    """
    if given is None:
        return QuantConfig()
    if isinstance(given, QuantConfig):
        return given
    where = "quant_config" if isinstance(given, Mapping) else os.fspath(given)
    data = _plain(given) if isinstance(given, Mapping) else as_mapping(_text(Path(where)), where)
    try:
        return QuantConfig.model_validate(data)
    except ValidationError as error:
        raise InputError(_told(where, error)) from None


def with_node_types(config: QuantConfig, wanted: Mapping[DType, Sequence[str]]) -> QuantConfig:
    """Return `config` with types of nodes, by name or pattern, that win over all it says.

    Raises InputError where one name is given two types.
    """
    made: dict[str, OfNode] = {}
    for dtype, names in wanted.items():
        for name in names:
            if name in made and made[name].qtype is not dtype:
                other = made[name].qtype
                raise InputError(
                    must(f"node '{name}'", "its type", "one", f"{other and other.value} and {dtype.value}")
                )
            made[name] = OfNode(qtype=dtype)
    return config.model_copy(update={"options": {**config.options, **made}})


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings of any class as dicts, with keys as text: a node may be called 17."""
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in given.items()}


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: the quant_config cannot be read ({error.strerror}); check the path"
        ) from None
    except ValueError:
        raise InputError(must(str(path), "the quant_config", "text in UTF-8", "other bytes")) from None


def _told(where: str, error: ValidationError) -> str:
    """Return all that is wrong, the first with the file's name."""
    every = error.errors()
    first = _one_told(f"{where}: ", every[0])
    return "; also ".join([first, *(_one_told("", wrong) for wrong in every[1:_TOLD])]) + _more(len(every))


def _more(found: int) -> str:
    return f"; and {found - _TOLD} more" if found > _TOLD else ""


def _one_told(where: str, wrong: ErrorDetails) -> str:
    place = [str(part) for part in wrong["loc"]]
    if place[-2:-1] == ["inputs"] and place[:1] == ["node_config"]:
        place[-2:] = [f"input{place[-1]}"]
    what, context = ".".join(place) or "the quant_config", wrong.get("ctx", {})
    if wrong["type"] == "must":
        allowed, actual, fix = context["allowed"], context["actual"], context["fix"]
    elif wrong["type"] == "missing":
        allowed, actual, fix = "given", "missing", ""
    else:
        allowed, actual, fix = wrong["msg"], repr(wrong["input"]), ""
    text = f"{where}{what} must be {allowed}, not {actual}"
    return f"{text}; {fix}" if fix else text
