"""Reading march files: JSON in which every number carries unit, source and confidence."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.errors import MarchError, must
from openbpu.arch.files import read_bounded
from openbpu.arch.march.limits import LIMITS
from openbpu.arch.march.march import (
    CONFIDENCES,
    Aae,
    Chip,
    Cpu,
    CpuOp,
    Ddr,
    March,
    Number,
    Spu,
    Tae,
    Trans,
    Vae,
    Vpu,
)
from openbpu.arch.march.names import march_of, what_is_meant

_HERE = Path(__file__).parent
_MOST = 4 << 20
"""Bytes of a march file; ours have 20,000."""
_NAMES = ("bayes-e", "bayes", "nash-e", "nash-m", "nash-p", "nash-h", "nash-b", "bernoulli2")
_SECTIONS: dict[str, type[Any]] = {
    "chip": Chip,
    "tae": Tae,
    "vae": Vae,
    "aae": Aae,
    "trans": Trans,
    "vpu": Vpu,
    "spu": Spu,
    "ddr": Ddr,
    "cpu": Cpu,
}
_FACTS: dict[str, type[Any]] = {
    "engines": list,
    "conv_pairs": list,
    "matmul_pairs": list,
    "high_precision": list,
    "quantize_on_bpu": bool,
}
_TOP = {"name", "product", "target", "reason", "based_on", "limits", "cpu_ops", *_FACTS, *_SECTIONS}
_LARGEST = 1 << 48
_SMALLEST = -(1 << 16)

Json = dict[str, Any]


def march_names() -> tuple[str, ...]:
    """Return the names of the marches that ship with openbpu."""
    return _NAMES


@lru_cache(maxsize=1)
def march_products() -> MappingProxyType[str, tuple[str, ...]]:
    """Return the products that each march is in, by its name: "nash-e" is in "J6E" and "S100"."""
    told = {name: _merged(_HERE / f"{name}.json", ())["product"] for name in _NAMES}
    return MappingProxyType({name: tuple(str(text).split(" / ")) for name, text in told.items()})


def find_march(text: str) -> str | None:
    """Return the name of the march that a user calls by its name or a product, in any spelling; else None."""
    return text if text in _NAMES else march_of(text, march_products())


def no_march(text: str) -> tuple[str, str]:
    """Return what may be given instead of a name that calls no march, and what to do."""
    return f"one of {', '.join(_NAMES)}", what_is_meant(text, march_products())


def get_march(name_or_path: str | Path) -> March:
    """Return a march by its name or a product ("S100"), in any spelling, or the one described by a JSON file.

    Raises MarchError for an unknown name (listing the known ones) and for a file that is missing or wrong
    (naming the key). A file may say `"based_on": "nash-e"` (or another file) and state only what differs.
    """
    text = str(name_or_path)
    name = None if text.endswith(".json") else find_march(text)
    if name is not None:
        return _kept(_HERE / f"{name}.json")
    if text.endswith(".json") or Path(text).is_file():
        return _kept(Path(text))
    allowed, fix = no_march(text)
    raise MarchError(must("march", "the name", allowed, repr(text), fix))


@lru_cache(maxsize=32)
def _kept(path: Path) -> March:
    return load_march(path)


def load_march(path: Path) -> March:
    """Read and check one march file; raises MarchError naming the file and the key."""
    return build_march(_merged(path, ()), str(path))


def with_values(march: March, values: dict[str, int]) -> March:
    """Return `march` with other numbers by their key ("tae.fill_cycles"); for fits and what-ifs."""
    changed: Json = {}
    numbers = dict(march.numbers)
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section not in _SECTIONS or key not in numbers:
            raise MarchError(must(f"march {march.name}", "the key", "a number of the march", repr(key)))
        part = changed.get(section, getattr(march, section))
        changed[section] = replace(part, **{name: value})
        numbers[key] = replace(numbers[key], value=value)
    return replace(march, **changed, numbers=MappingProxyType(numbers))


def _merged(path: Path, seen: tuple[Path, ...]) -> Json:
    """Return the JSON of a file laid over that of the march it is based on."""
    where = path.resolve()
    if where in seen:
        raise MarchError(f"{path}: based_on leads back to this file; remove it from one of them")
    data = _read(path)
    base = data.pop("based_on", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise MarchError(must(str(path), "based_on", "the name of a march or a path", repr(base)))
    parent = _HERE / f"{base}.json" if base in _NAMES else path.parent / base
    return _overlay(_merged(parent, (*seen, where)), data)


def _read(path: Path) -> Json:
    try:
        data = json.loads(read_bounded(path, _MOST).decode("utf-8"))
    except OSError as error:
        raise MarchError(
            f"{path}: the march file cannot be read ({error.strerror}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise MarchError(f"{path}: the march file is not JSON ({error}); correct it there") from error
    if not isinstance(data, dict):
        raise MarchError(must(str(path), "the file", "a JSON object", type(data).__name__))
    _known(data, sorted(_TOP), str(path))
    return data


def _overlay(base: Json, data: Json) -> Json:
    """Return base with data over it; sections merge key by key, a number is replaced whole."""
    merged = dict(base)
    for key, value in data.items():
        nested = key in _SECTIONS or key in ("limits", "cpu_ops")
        merged[key] = {**base.get(key, {}), **value} if nested and isinstance(value, dict) else value
    return merged


def build_march(data: Json, where: str) -> March:
    """Check the JSON of a complete march and return it; `where` names its file in errors."""
    numbers: dict[str, Number] = {}
    sections = {key: _section(data, key, cls, where, numbers) for key, cls in _SECTIONS.items()}
    facts = {key: _fact(data, key, kind, where, numbers) for key, kind in _FACTS.items()}
    target = _plain(data, "target", bool, where)
    return March(
        name=_plain(data, "name", str, where),
        product=_plain(data, "product", str, where),
        target=target,
        reason="" if target else _plain(data, "reason", str, where),
        engines=tuple(Engine[_word(e, Engine.__members__, f"{where}: engines")] for e in facts["engines"]),
        conv_pairs=_pairs(facts["conv_pairs"], f"{where}: conv_pairs"),
        matmul_pairs=_pairs(facts["matmul_pairs"], f"{where}: matmul_pairs"),
        high_precision=tuple(_dtype(d, f"{where}: high_precision") for d in facts["high_precision"]),
        quantize_on_bpu=facts["quantize_on_bpu"],
        limits=MappingProxyType(_limits(data, where, numbers)),
        cpu_ops=MappingProxyType(_cpu_ops(data, where)),
        numbers=MappingProxyType(numbers),
        **sections,
    )


def _plain(data: Json, key: str, kind: type[Any], where: str) -> Any:
    value = data.get(key)
    if not isinstance(value, kind):
        raise MarchError(must(where, key, f"a {kind.__name__}", "absent" if value is None else repr(value)))
    return value


def _section(data: Json, key: str, cls: type[Any], where: str, numbers: dict[str, Number]) -> Any:
    part = _plain(data, key, dict, where)
    names = [f.name for f in fields(cls)]
    _known(part, names, f"{where}: {key}")
    values: Json = {}
    for f in fields(cls):
        full = f"{key}.{f.name}"
        entry = _number(part.get(f.name), f"{where}: {full}")
        minimum = int(f.metadata.get("min", 1))
        values[f.name] = (
            _text(entry.value, f"{where}: {full}")
            if f.type == "str"
            else _integer(entry.value, minimum, f"{where}: {full}")
        )
        numbers[full] = entry
    return cls(**values)


def _known(part: Json, names: Sequence[str], where: str) -> None:
    unknown = sorted(set(part) - set(names))
    if unknown:
        raise MarchError(must(where, "a key", f"one of {', '.join(names)}", repr(unknown[0])))


def _number(entry: Any, where: str) -> Number:
    """Return one datum; its four keys must be there."""
    wanted = tuple(f.name for f in fields(Number) if f.default is MISSING)
    if not isinstance(entry, dict) or set(entry) != set(wanted):
        found = "absent" if entry is None else repr(entry)
        raise MarchError(must(where, "the entry", f"an object with the keys {', '.join(wanted)}", found))
    for name in ("unit", "source"):
        _text(entry[name], f"{where}.{name}")
    if entry["confidence"] not in CONFIDENCES:
        raise MarchError(
            must(where, "confidence", f"one of {', '.join(CONFIDENCES)}", repr(entry["confidence"]))
        )
    return Number(entry["value"], entry["unit"], entry["source"], entry["confidence"])


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MarchError(must(where, "the value", "a string", repr(value)))
    return value


def _integer(value: Any, minimum: int, where: str) -> int:
    whole = isinstance(value, int) or (
        isinstance(value, float) and math.isfinite(value) and value == int(value)
    )
    if isinstance(value, bool) or not whole or not minimum <= value <= _LARGEST:
        raise MarchError(must(where, "the value", f"a whole number in {minimum}..2^48", repr(value)))
    return int(value)


def _word(value: Any, allowed: Any, where: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise MarchError(must(where, "an entry", f"one of {', '.join(allowed)}", repr(value)))
    return value


def _dtype(value: Any, where: str) -> DType:
    return DType(_word(value, [d.value for d in DType], where))


def _fact(data: Json, key: str, kind: type[Any], where: str, numbers: dict[str, Number]) -> Any:
    entry = _number(data.get(key), f"{where}: {key}")
    if not isinstance(entry.value, kind):
        raise MarchError(must(f"{where}: {key}", "the value", f"a {kind.__name__}", repr(entry.value)))
    numbers[key] = entry
    return entry.value


def _pairs(values: list[Any], where: str) -> tuple[tuple[DType, DType], ...]:
    """Return "int8×int16" as (DType.INT8, DType.INT16)."""
    out = []
    for value in values:
        parts = value.split("×") if isinstance(value, str) else []
        if len(parts) != 2:
            raise MarchError(must(where, "an entry", 'input×weight, such as "int8×int16"', repr(value)))
        out.append((_dtype(parts[0], where), _dtype(parts[1], where)))
    return tuple(out)


def _limits(data: Json, where: str, numbers: dict[str, Number]) -> dict[str, int]:
    part = _plain(data, "limits", dict, where)
    _known(part, list(LIMITS), f"{where}: limits")
    out: dict[str, int] = {}
    for key in LIMITS:
        full = f"limits.{key}"
        entry = _number(part.get(key), f"{where}: {full}")
        out[key] = _integer(entry.value, _SMALLEST, f"{where}: {full}")
        numbers[full] = entry
    return out


def _cpu_ops(data: Json, where: str) -> dict[str, CpuOp]:
    out: dict[str, CpuOp] = {}
    for op, entry in _plain(data, "cpu_ops", dict, where).items():
        place = f"{where}: cpu_ops.{op}"
        if not isinstance(entry, dict) or set(entry) != {"when", "source", "confidence"}:
            raise MarchError(must(place, "the entry", "an object with when, source, confidence", repr(entry)))
        _word(entry["when"], ("always", "default"), place)
        _word(entry["confidence"], CONFIDENCES, place)
        out[op] = CpuOp(entry["when"], _text(entry["source"], place), entry["confidence"])
    return out
