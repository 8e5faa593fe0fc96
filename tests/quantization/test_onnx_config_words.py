"""Every key of a quant_config with values of every kind: what they are taken for, how others are refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from conftest import Golden
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, OpenbpuError
from openbpu.quantization.onnx import Corrections, read_config, with_node_types
from openbpu.quantization.onnx.api import METHODS
from openbpu.quantization.onnx.classes import data_inputs
from openbpu.quantization.onnx.config import base_types, corrections_of, methods_of
from openbpu.quantization.onnx.config.text import MAX_DEPTH, as_mapping

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 2048, 2049, -1, 0.5, 0.49, 1.01, 0.999, "", "int8", "int16", "float",
    "float32", "float16", "int4", "max", "kl", "mse", "mix", "percentile", "cosine", "cosine-similarity",
    "sqnr", "a", [], ["max", "kl"], ["max", "x"], [0.9, 1], [0.9, 2], [True, False], [1], ["a", ""], {},
    {"a": 1}, {"qtype": "int8"}, {"qtype": "float"}, {"input0": "int16"}, {"input0": "int16", "input12":
    "int8", "qtype": "int8"}, {"input1234": "int8"}, {"inputs": ["a"], "outputs": "b", "qtype": "int8"},
    {"a": {"qtype": "int8"}}, {"num_sample": 3}, {"num_sample": 0, "metric": "l1"}, DType.INT8,
    DType.FLOAT32, DType.INT32,
)  # fmt: skip
ACTIVATION = ("calibration_type", "max_percentile", "num_bin", "per_channel", "asymmetric")
KEYS: dict[str, Any] = {
    "section": lambda v: {"model_config": v},
    "ops": lambda v: {"op_config": v},
    "nodes": lambda v: {"node_config": v},
    "subgraphs": lambda v: {"subgraph_config": v},
    "all_node_type": lambda v: {"model_config": {"all_node_type": v}},
    "model_output_type": lambda v: {"model_config": {"model_output_type": v}},
    "search": lambda v: {"model_config": {"search": {"metric": v}}},
    "op": lambda v: {"op_config": {"Conv": v}},
    "op type": lambda v: {"op_config": {"Conv": {"qtype": v}}},
    "node": lambda v: {"node_config": {"n": v}},
    "node input": lambda v: {"node_config": {"n": {"input3": v}}},
    "subgraph": lambda v: {"subgraph_config": {"s": v}},
    "ends": lambda v: {"subgraph_config": {"s": {"inputs": v, "outputs": v, "qtype": "int8"}}},
    "unknown": lambda v: {"others": v},
    **{key: lambda v, key=key: {"model_config": {"activation": {key: v}}} for key in ACTIVATION},
    **{
        key: lambda v, key=key: {"model_config": {"weight": {key: v}}}
        for key in ("bias_correction", "equalisation", "adaptive_rounding")
    },
}


def result(given: Any, **more: Any) -> str:
    try:
        config = read_config(given)
        return repr(config.model_dump(exclude_defaults=True))
    except OpenbpuError as error:
        return f"refused: {error}"


def test_a_value_is_taken_for_what_it_was(golden: Golden) -> None:
    golden("config_values", {key: {repr(v): result(of(v)) for v in VALUES} for key, of in KEYS.items()})


def test_many_mistakes_are_told_at_once_up_to_a_limit() -> None:
    def told(count: int, kind: str) -> str:
        wrong = {f"n{k}": {"qtype": "x"} for k in range(count)}
        return result(
            {"node_config": wrong} if kind == "values" else {"op_config": {"Conv": dict.fromkeys(wrong)}}
        )

    assert told(100, "values").count("; also ") == 99
    assert "more" not in told(100, "values")
    assert told(101, "values").endswith("; and 1 more")
    assert "more" not in told(20, "keys")
    assert " and 1 more" in told(21, "keys")


def chosen(kinds: Any, shares: Any, method: str) -> Any:
    given = {k: v for k, v in (("calibration_type", kinds), ("max_percentile", shares)) if v is not None}
    try:
        return methods_of(read_config({"model_config": {"activation": given}}), method, METHODS)
    except OpenbpuError as error:
        return str(error)


def test_methods_are_those_of_the_command_or_of_the_config(golden: Golden) -> None:
    every = itertools.product((None, "max", "kl", ["mse", "kl"], "mix", ["kl", "mix"]), (None, 1, [0.999, 1]))
    golden("config_methods", {f"{k} {s}": {m: chosen(k, s, m) for m in METHODS} for k, s in every})


def test_mix_is_every_other_method() -> None:
    assert methods_of(read_config(None), "mix", METHODS) == ("max", "percentile", "mse", "kl")
    assert methods_of(read_config(None), "kl", METHODS) == ("kl",)


@pytest.mark.parametrize("every", [None, "int8", "int16", "float"])
@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
@pytest.mark.parametrize("tail", [DType.INT8, DType.INT16])
def test_a_type_for_all_nodes_is_that_of_the_tail_too_where_it_is_int8(
    every: str | None, activation: DType, tail: DType
) -> None:
    config = read_config({} if every is None else {"model_config": {"all_node_type": every}})
    if (every, activation) == ("int8", DType.INT16):
        with pytest.raises(OpenbpuError, match=r"must be left out or int16, as --int16 says, not int8"):
            base_types(config, activation, tail)
        return
    expected = {"int8": (DType.INT8, DType.INT8), "int16": (DType.INT16, tail)}.get(every or "")
    assert base_types(config, activation, tail) == (expected or (activation, tail))


@pytest.mark.parametrize("by", ["command", "config"])
@pytest.mark.parametrize("which", range(4))
def test_corrections_are_those_of_the_command_and_of_the_config(by: str, which: int) -> None:
    flags = [which == n for n in range(3)]
    keys: tuple[tuple[str, Any], ...] = (
        ("equalisation", True),
        ("adaptive_rounding", True),
        ("bias_correction", {}),
    )
    asked = {key: value for (key, value), is_on in zip(keys, flags, strict=True) if is_on and by == "config"}
    given = Corrections(*flags) if by == "command" else Corrections()
    expected = given if by == "command" else Corrections(flags[0], flags[1], flags[2] or None)
    assert corrections_of(read_config({"model_config": {"weight": asked}}), given) == expected
    denied = Corrections(bias_correction=False)
    assert corrections_of(read_config({"model_config": {"weight": dict(keys[2:])}}), denied) == denied
    off = read_config({"model_config": {"weight": {"equalisation": False, "adaptive_rounding": False}}})
    assert corrections_of(off, Corrections()) == Corrections()


def test_a_node_has_one_type_on_the_command_line() -> None:
    twice = {DType.INT8: ["a", "b"], DType.INT16: ["b"]}
    with pytest.raises(InputError, match=r"^node 'b': its type must be one, not int8 and int16$"):
        with_node_types(read_config(None), twice)
    first = with_node_types(read_config(None), {DType.INT8: ["a", "a"]})
    both = with_node_types(first, {DType.INT16: ["a", "c"]})
    assert {name: of.qtype for name, of in both.options.items()} == {"a": DType.INT16, "c": DType.INT16}


TEXTS = {
    "": {}, "# nothing": {}, "{}": {}, '{"a": 1}': {"a": 1}, "{a: 1}": {"a": 1}, "1: x": {"1": "x"},
    "a: {b: [1, 2]}": {"a": {"b": [1, 2]}}, "[" * MAX_DEPTH + "]" * MAX_DEPTH: "must be a mapping, not list",
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): f"more than {MAX_DEPTH} brackets within each other",
    '{"a": 1, "a": 2}': "the key 'a' stands there twice", "a: 1\na: 2": "the key 'a' stands there twice",
    "text": "must be a mapping, not str", "a: [": "is neither JSON nor YAML (", "}{" * 200: "neither JSON",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: repr(t[:12]))
def test_a_text_is_read_as_json_or_yaml(text: str) -> None:
    expected = TEXTS[text]
    if isinstance(expected, dict):
        assert as_mapping(text, "f") == expected
        return
    with pytest.raises(InputError) as refused:
        as_mapping(text, "f")
    assert str(refused.value).startswith("f: ")
    assert str(expected) in str(refused.value)


def test_a_file_of_other_bytes_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"a\.json: the quant_config must be text in UTF-8, not other bytes"):
        read_config(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json: the quant_config cannot be read \(No such file"):
        read_config(tmp_path / "b.json")


def test_operands_are_those_that_a_row_names_and_that_are_there() -> None:
    assert data_inputs(helper.make_node("Conv", ["x", "w", "b"], ["y"])) == ["x", "w"]
    assert data_inputs(helper.make_node("Conv", ["x"], ["y"])) == ["x"]
    assert data_inputs(helper.make_node("Where", ["c", "", "b"], ["y"])) == ["b"]
    assert data_inputs(helper.make_node("Concat", ["a", "", "b"], ["y"])) == ["a", "b"]
    assert data_inputs(helper.make_node("Foreign", ["a", "", "b"], ["y"])) == ["a", "b"]
