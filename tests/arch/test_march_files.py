"""Facts about march files that are wrong: a MarchError that names the key, never anything else."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbpu.arch import march as march_package
from openbpu.arch.errors import MarchError
from openbpu.arch.march import build_march, get_march

Json = dict[str, Any]

COMPLETE: Json = json.loads((Path(march_package.__file__).parent / "nash-e.json").read_text(encoding="utf-8"))


def without(section: str, key: str) -> Callable[[Json], object]:
    return lambda data: data[section].pop(key)


def put(section: str, key: str, part: str, value: object) -> Callable[[Json], object]:
    def change(data: Json) -> None:
        data[section][key][part] = value

    return change


def replaced(key: str, value: object) -> Callable[[Json], object]:
    return lambda data: data.update({key: value})


WRONG = [
    (without("chip", "clock_hz"), r"chip\.clock_hz: the entry must be an object with the keys value, unit"),
    (without("limits", "rank_max"), r"limits\.rank_max: the entry must be"),
    (put("tae", "input_lanes", "value", 0), r"tae\.input_lanes: the value must be a whole number in 1\.\."),
    (put("tae", "input_lanes", "value", "16"), r"tae\.input_lanes: .*not '16'"),
    (put("tae", "input_lanes", "value", 1.5), r"tae\.input_lanes: .*not 1\.5"),
    (put("tae", "input_lanes", "value", True), r"tae\.input_lanes: .*not True"),
    (put("tae", "input_lanes", "value", 1 << 60), r"tae\.input_lanes: .*2\^48"),
    (put("tae", "input_lanes", "confidence", "sure"), r"one of published, fitted, assumed, not 'sure'"),
    (put("tae", "input_lanes", "source", 3), r"tae\.input_lanes\.source: the value must be a string"),
    (put("cpu", "name", "value", 3), r"cpu\.name: the value must be a string, not 3"),
    (replaced("tae", {"lanes": 3}), r"tae: a key must be one of input_lanes, .*not 'lanes'"),
    (replaced("tae", 3), r"tae must be a dict, not 3"),
    (replaced("target", "yes"), r"target must be a bool, not 'yes'"),
    (replaced("name", None), r"name must be a str, not absent"),
    (replaced("engines", {"value": ["TAE", "GPU"], "unit": "e", "source": "s", "confidence": "assumed"}),
     r"engines: an entry must be one of LOAD, .*not 'GPU'"),
    (replaced("conv_pairs", {"value": ["int8"], "unit": "u", "source": "s", "confidence": "assumed"}),
     r"conv_pairs: an entry must be input×weight"),
    (replaced("conv_pairs", {"value": ["int8×int7"], "unit": "u", "source": "s", "confidence": "assumed"}),
     r"conv_pairs: an entry must be one of int8, .*not 'int7'"),
    (replaced("quantize_on_bpu", {"value": [], "unit": "u", "source": "s", "confidence": "assumed"}),
     r"quantize_on_bpu: the value must be a bool"),
    (replaced("cpu_ops", {"Softmax": {"when": "never"}}), r"cpu_ops\.Softmax: the entry must be"),
    (replaced("cpu_ops", {"Softmax": {"when": "never", "source": "s", "confidence": "assumed"}}),
     r"cpu_ops\.Softmax: an entry must be one of always, default, not 'never'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_file_is_refused_by_key(change: Callable[[Json], object], message: str) -> None:
    data = copy.deepcopy(COMPLETE)
    change(data)
    with pytest.raises(MarchError, match=message):
        build_march(data, "my.json")


def test_complete_file_is_accepted() -> None:
    assert build_march(copy.deepcopy(COMPLETE), "my.json").name == "nash-e"


def test_a_march_that_is_no_target_must_say_why() -> None:
    with pytest.raises(MarchError, match="reason must be a str, not absent"):
        build_march({**COMPLETE, "target": False}, "my.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MarchError, match=r"absent\.json: the march file cannot be read"):
        get_march(str(tmp_path / "absent.json"))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"name": "\ud800"}', "[" * 100_000])
def test_text_that_is_no_march(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MarchError, match=r"bad\.json"):
        get_march(path)


def test_directory_is_no_march(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(MarchError, match=r"folder\.json"):
        get_march(tmp_path / "folder.json")


def test_unknown_top_level_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "typo.json"
    path.write_text(json.dumps({"based_on": "nash-e", "chips": {}}))
    with pytest.raises(MarchError, match="not 'chips'"):
        get_march(path)


def test_files_based_on_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"based_on": "b.json"}')
    (tmp_path / "b.json").write_text('{"based_on": "a.json"}')
    with pytest.raises(MarchError, match="leads back to this file"):
        get_march(tmp_path / "a.json")


def test_based_on_must_be_a_name(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"based_on": 3}')
    with pytest.raises(MarchError, match="based_on must be the name of a march or a path, not 3"):
        get_march(tmp_path / "c.json")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
leaves = st.sampled_from([(s, k) for s, part in COMPLETE.items() if isinstance(part, dict) for k in part])


def is_accepted_or_refused(data: Json) -> bool:
    try:
        build_march(data, "my.json")
    except MarchError as error:
        return "my.json" in str(error)
    return True


@given(where=leaves, value=anything)
def test_any_value_anywhere_is_accepted_or_refused_but_never_crashes(
    where: tuple[str, str], value: object
) -> None:
    data = copy.deepcopy(COMPLETE)
    data[where[0]][where[1]] = value
    assert is_accepted_or_refused(data)


@given(where=st.sampled_from(sorted(COMPLETE)), value=anything)
def test_any_section_is_accepted_or_refused_but_never_crashes(where: str, value: object) -> None:
    assert is_accepted_or_refused({**COMPLETE, where: value})
