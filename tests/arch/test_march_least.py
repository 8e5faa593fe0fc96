"""From which value on a march file may state each number: a change is to be seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from conftest import Golden
from openbpu.arch.errors import MarchError
from openbpu.arch.march import get_march, load_march
from openbpu.arch.march.march import Chip

MARCH = get_march("nash-e")
SECTIONS = [f.name for f in dataclasses.fields(MARCH) if dataclasses.is_dataclass(getattr(MARCH, f.name))]


def is_read(path: Path, section: str, name: str, value: int) -> bool:
    entry = {"value": value, "unit": "1", "source": "a rumour", "confidence": "assumed"}
    path.write_text(json.dumps({"name": "mine", "based_on": "nash-e", section: {name: entry}}))
    try:
        load_march(path)
    except MarchError:
        return False
    return True


@pytest.mark.parametrize("section", SECTIONS)
def test_numbers_of_a_march_are_read_from_where_they_were(
    section: str, tmp_path: Path, golden: Golden
) -> None:
    names = [f.name for f in dataclasses.fields(getattr(MARCH, section))]
    tried = range(-1, 3)
    read = {n: [v for v in tried if is_read(tmp_path / "mine.json", section, n, v)] for n in names}
    golden("march_least", read, entry=section)


def test_every_section_of_a_march_is_tried() -> None:
    assert Chip.__name__.lower() in SECTIONS
    assert len(SECTIONS) >= 6
