"""Fitted numbers in march files: put there with date and source, and into the marches that take them over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import fidelity_data as data

SOURCE = "benchmarks/fidelity.py, public latencies of model zoos"
FOLDER = data.ROOT / "arch" / "openbpu" / "arch" / "march"


def write(march: str, values: Mapping[str, int], date: str) -> None:
    """Put fitted numbers into the march's file, those that it holds itself, and let other files follow."""
    path = FOLDER / f"{march}.json"
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        section, _, name = key.partition(".")
        if name not in json.loads(text).get(section, {}):
            continue
        entry = {"value": value, "source": f"{SOURCE}, {date}", "confidence": "fitted"}
        text = _with(text, section, name, entry)
    path.write_text(text, encoding="utf-8")
    follow()


def follow() -> None:
    """Give numbers whose source says "as MARCH, fitted there" the value that they have there."""
    for path in sorted(FOLDER.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        for section, numbers in json.loads(text).items():
            for name, number in numbers.items() if isinstance(numbers, dict) else ():
                given = isinstance(number, dict) and re.search(
                    r"\bas ([\w-]+), fitted there", number["source"]
                )
                if given:
                    value = _value(given.group(1), section, name)
                    text = _with(text, section, name, {"value": value})
        path.write_text(text, encoding="utf-8")


def _value(march: str, section: str, name: str) -> Any:
    """Return a number as a march file has it, or the one that it is based on."""
    held = json.loads((FOLDER / f"{march}.json").read_text(encoding="utf-8"))
    number = held.get(section, {}).get(name)
    return number["value"] if number else _value(held["based_on"], section, name)


def _with(text: str, section: str, name: str, changed: Mapping[str, Any]) -> str:
    """Return the text of a march file with one number changed and every other byte as it is."""
    start = text.index(f'"{section}": {{')
    entry = json.loads(text)[section][name] | changed
    line = json.dumps(entry, ensure_ascii=False).replace("\\", "\\\\")
    tail = re.sub(rf'"{name}": \{{[^\n]*?\}}', f'"{name}": {line}', text[start:], count=1)
    return text[:start] + tail
