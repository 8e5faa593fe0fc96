"""Facts about the instruction set: what is encoded is decoded, what does not fit is named."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbpu.arch import isa
from openbpu.arch.definition.instruction import operands
from openbpu.arch.isa import (
    ENGINES,
    HEADER_DTYPE,
    INSTRUCTIONS,
    ISA,
    RECORD_BYTES,
    RECORDS,
    EncodingError,
    Engine,
    Instr,
)
from openbpu.arch.program import OPERATORS

BY_NAME = pytest.mark.parametrize("cls", INSTRUCTIONS, ids=lambda c: c.__name__)
U32 = st.integers(0, 2**32 - 1)


def instances(cls: type[Instr]) -> st.SearchStrategy[Instr]:
    """Instructions of one class with any values that fit."""
    values: dict[str, st.SearchStrategy[Any]] = {"operator": U32, "wait": st.tuples(*[U32] * ENGINES)}
    for f in operands(cls):
        info = np.iinfo(f.metadata["kind"])
        one = st.integers(int(info.min), int(info.max))
        values[f.name] = st.tuples(*[one] * f.metadata["count"]) if f.metadata["count"] else one
    return st.builds(cls, **values)


def zero(cls: type[Instr], **operand: Any) -> Instr:
    """An instruction whose operands are all 0 but the given ones."""
    counts = {f.name: f.metadata["count"] for f in operands(cls)}
    zeros: dict[str, Any] = {name: (0,) * n if n else 0 for name, n in counts.items()}
    return cls(**{"operator": 0, **zeros, **operand})


programs = st.lists(st.one_of([instances(cls) for cls in INSTRUCTIONS]), max_size=12)


@given(program=programs)
def test_what_is_encoded_is_decoded(program: Sequence[Instr]) -> None:
    code = isa.encode(program)
    assert code.shape == (len(program), RECORD_BYTES)
    assert isa.decode(code) == list(program)


@given(program=programs)
def test_what_is_decoded_is_encoded_to_the_same_bytes(program: Sequence[Instr]) -> None:
    code = isa.encode(program)
    assert isa.encode(isa.decode(code)).tobytes() == code.tobytes()


@given(program=programs)
def test_header_is_readable_without_decoding(program: Sequence[Instr]) -> None:
    heads = isa.headers(isa.encode(program))
    assert heads["operator"].tolist() == [i.operator for i in program]
    assert [tuple(w) for w in heads["wait"].tolist()] == [i.wait for i in program]
    assert heads["opcode"].tolist() == [i.OPCODE for i in program]
    assert heads["engine"].tolist() == [i.ENGINE for i in program]


@BY_NAME
def test_instruction_alone_survives(cls: type[Instr]) -> None:
    assert isa.decode(isa.encode([zero(cls)])) == [zero(cls)]


def test_opcodes_are_unique() -> None:
    assert len(ISA) == len(INSTRUCTIONS) == len({cls.OPCODE for cls in INSTRUCTIONS})


def test_opcodes_are_those_of_the_files_there_are() -> None:
    now = {cls.__name__: opcode for opcode, cls in ISA.items()}
    files = {
        "Load": 0x01,
        "Store": 0x02,
        "ConvTile": 0x10,
        "MatMulTile": 0x11,
        "PoolTile": 0x20,
        "ResizeTile": 0x21,
        "BinaryTile": 0x30,
        "UnaryTile": 0x31,
        "ReduceTile": 0x32,
        "RowTile": 0x33,
        "FillTile": 0x34,
        "QuantizeTile": 0x40,
        "DequantizeTile": 0x41,
        "MoveTile": 0x50,
        "GatherTile": 0x51,
    }
    assert {name: now.get(name) for name in files} == files


def offsets(dtype: np.dtype[np.void]) -> dict[str, tuple[int, int]]:
    """First and last + 1 byte of every field."""
    return {
        name: (place[1], place[1] + place[0].itemsize) for name, place in dict(dtype.fields or {}).items()
    }


@BY_NAME
def test_record_is_128_bytes_and_begins_with_the_header(cls: type[Instr]) -> None:
    assert RECORDS[cls].itemsize == RECORD_BYTES
    assert offsets(HEADER_DTYPE).items() <= offsets(RECORDS[cls]).items()


@BY_NAME
def test_no_two_fields_share_bytes(cls: type[Instr]) -> None:
    spans = sorted(offsets(RECORDS[cls]).values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= RECORD_BYTES


@BY_NAME
def test_every_instruction_says_what_it_does(cls: type[Instr]) -> None:
    assert cls.__doc__
    assert "(" not in cls.__doc__[: len(cls.__name__) + 1]  # not the dataclass's own signature


@BY_NAME
def test_instruction_serves_known_operators(cls: type[Instr]) -> None:
    assert set(isa.SERVES[cls]) <= set(OPERATORS)
    assert isa.SERVES[cls]


def test_every_operator_has_an_instruction_that_computes_it() -> None:
    computing = [cls for cls in INSTRUCTIONS if cls not in (isa.Load, isa.Store)]
    assert {op for cls in computing for op in isa.SERVES[cls]} == set(OPERATORS)


@BY_NAME
def test_value_that_does_not_fit_names_field_value_and_range(cls: type[Instr]) -> None:
    for f in operands(cls):
        info = np.iinfo(f.metadata["kind"])
        name, allowed = f"{cls.__name__}.{f.name}", f"(allowed {info.min}..{info.max})"
        for value in (int(info.max) + 1, int(info.min) - 1):
            count = f.metadata["count"]
            given = (0,) * (count - 1) + (value,) if count else value
            with pytest.raises(EncodingError) as error:
                isa.encode([zero(cls), zero(cls, **{f.name: given})])
            assert str(error.value) == f"{name} = {value} does not fit in {info.bits} bits {allowed}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": 1 << 32}, r"^Load\.operator = 4294967296 does not fit in 32 bits \(allowed 0\.\."),
        ({"operator": -1}, r"^Load\.operator = -1 does not fit in 32 bits"),
        ({"wait": (0,) * 7 + (-1,)}, r"^Load\.wait = -1 does not fit in 32 bits"),
    ],
)
def test_header_that_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        isa.encode([zero(isa.Load, **change)])


def test_unknown_opcode_is_named() -> None:
    code = isa.encode([zero(isa.Load)]).copy()
    code[0, 0] = 0xEE
    with pytest.raises(EncodingError, match="opcode 0xee does not exist"):
        isa.decode(code)


def test_no_instructions_are_no_bytes() -> None:
    assert isa.encode([]).shape == (0, RECORD_BYTES)
    assert isa.decode(isa.encode([])) == []


def test_engines_are_counted_from_zero() -> None:
    assert [int(e) for e in Engine] == list(range(ENGINES))


def test_instructions_are_frozen() -> None:
    with pytest.raises(AttributeError):
        zero(isa.Load).operator = 3  # type: ignore[misc]
    assert [f.name for f in fields(isa.Load)][:2] == ["operator", "wait"]
