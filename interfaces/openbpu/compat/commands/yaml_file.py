"""A YAML file with the lines that its keys stand on, checked against a schema."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded
from openbpu.compat.commands.schema import short
from openbpu.quantization.onnx.config.text import as_mapping

MAX_BYTES = 1 << 20
"""A larger file is no list of options."""

_DEPTH = 3
"""Keys deeper than this have the line of the one that they lie in."""

_TOLD = 20
"""Mistakes that a message lists."""

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the keys of a file stand."""

    file: str
    at: Mapping[Place, int] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """Return "file, line 7", the line of the innermost key that has one."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.at:
                return f"{self.file}, line {self.at[place[:end]]}"
        return self.file

    def wrong(self, place: Place, allowed: str, actual: object, fix: str = "") -> InputError:
        """Return the error of a value: where, what is allowed, what it is, what to do."""
        return InputError(must(self.where(place), ".".join(place) or "the file", allowed, actual, fix))


def read(path: Path, schema: type[Model]) -> tuple[Model, Lines]:
    """Return what a file says and where; raises InputError, for all that is wrong at once."""
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}); check the path") from None
    except ValueError:
        raise InputError(must(str(path), "the configuration", "text in UTF-8", "other bytes")) from None
    data, lines = as_mapping(text, str(path), "the configuration"), Lines(str(path), _lines(text))
    try:
        return schema.model_validate(data), lines
    except ValidationError as error:
        told = list(dict.fromkeys(_told(wrong, lines, schema) for wrong in error.errors()))
        more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
        raise InputError("; also ".join([*told[:_TOLD], *more])) from None


def _lines(text: str) -> dict[Place, int]:
    found: dict[Place, int] = {}

    def walk(node: Any, place: Place) -> None:
        if not isinstance(node, yaml.MappingNode) or len(place) >= _DEPTH:
            return
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*place, str(key.value))
                found[inner] = key.start_mark.line + 1
                walk(value, inner)

    walk(yaml.compose(text, yaml.SafeLoader), ())
    return found


def _told(wrong: Any, lines: Lines, schema: type[BaseModel]) -> str:
    place = tuple(str(part) for part in wrong["loc"])
    if wrong["type"] == "extra_forbidden":
        known = _keys(schema, place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.6)
        fix = f"did you mean '{close[0]}'?" if close else "take it out"
        return must(lines.where(place), ".".join(place), f"one of {', '.join(known)}", "unknown", fix)
    if wrong["type"] == "missing":
        return must(lines.where(place), ".".join(place), "given", "missing")
    if wrong["type"] == "must":
        said = wrong["ctx"]
        return must(lines.where(place), ".".join(place), said["allowed"], said["actual"], said["fix"])
    return must(lines.where(place), ".".join(place), f"right ({wrong['msg']})", short(wrong["input"]))


def _keys(schema: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that may stand at a place."""
    for part in place:
        found = next((f for n, f in schema.model_fields.items() if part in {n, f.alias}), None)
        kind = None if found is None else found.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        schema = kind
    return [f.alias or n for n, f in schema.model_fields.items()]
