"""A program survives the trip through a `.hbm`, byte for byte the same each time."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arch.samples import every_operator, full
from openbpu.arch.errors import HbmError
from openbpu.arch.hbm import ALIGNMENT, read_hbm, read_sections, to_bytes, write_hbm
from openbpu.arch.program import OPERATORS, BpuSegment, Program


def assert_same(a: Program, b: Program) -> None:
    assert a == b
    np.testing.assert_array_equal(a.constants, b.constants)
    for s, t in zip(a.segments, b.segments, strict=True):
        assert type(s) is type(t)
        if isinstance(s, BpuSegment) and isinstance(t, BpuSegment):
            for x, y in zip(s.code, t.code, strict=True):
                np.testing.assert_array_equal(x, y)


def test_sample_holds_every_kind_of_operator() -> None:
    (segment,) = every_operator().segments
    assert isinstance(segment, BpuSegment)
    assert {type(op) for op in segment.operators} == set(OPERATORS)


@pytest.mark.parametrize("make", [every_operator, full])
def test_round_trip_through_bytes(make: Callable[[], Program]) -> None:
    assert_same(read_hbm(to_bytes(make())), make())


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    write_hbm(full(), tmp_path / "m.hbm")
    assert_same(read_hbm(tmp_path / "m.hbm"), full())
    assert_same(read_hbm(str(tmp_path / "m.hbm")), full())
    assert (tmp_path / "m.hbm").read_bytes() == to_bytes(full())


def test_equal_programs_give_equal_bytes_in_every_process() -> None:
    script = (
        "import sys, operators; from arch.samples import full; from openbpu.arch.hbm import to_bytes; "
        "sys.stdout.buffer.write(to_bytes(full()))"
    )
    for seed in ("0", "1"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        made = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True).stdout
        assert made == to_bytes(full())


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    program = full()
    numbers: Any = {"shape": tuple(np.array(program.tensors[0].shape)), "scale": (np.float32(0.1),)}
    size: Any = np.int64(program.ddr_bytes)
    tensors = (replace(program.tensors[0], **numbers), *program.tensors[1:])
    odd = replace(program, tensors=tensors, ddr_bytes=size)
    assert read_hbm(to_bytes(odd)).tensors[0].scale == (float(np.float32(0.1)),)


def test_constants_and_code_are_readonly_views_of_the_map(tmp_path: Path) -> None:
    write_hbm(full(), tmp_path / "m.hbm")
    program = read_hbm(tmp_path / "m.hbm")
    segment = program.segments[0]
    assert isinstance(segment, BpuSegment)
    for view in (program.constants, *segment.code):
        assert not view.flags.owndata
        assert not view.flags.writeable
        assert view.ctypes.data % ALIGNMENT == 0


def test_a_mapped_file_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.hbm"
    write_hbm(full(), path)
    program = read_hbm(path)
    write_hbm(every_operator(), path)
    np.testing.assert_array_equal(program.constants, full().constants)


def test_sections_are_aligned_and_named() -> None:
    sections = read_sections(to_bytes(full()))
    assert [s.name for s in sections] == ["meta", "const", "code.0.0", "code.0.1", "onnx.1"]
    assert all(s.offset % ALIGNMENT == 0 for s in sections)


@pytest.mark.parametrize(
    "field", [f.name for f in fields(Program) if f.name not in {"name", "march", "segments", "constants"}]
)
def test_every_part_of_a_program_is_in_the_file(field: str) -> None:
    assert getattr(read_hbm(to_bytes(full())), field) == getattr(full(), field)


def test_a_program_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(
        HbmError, match=r"outputs: tensor id cannot be 9999; this is a bug in what made the program"
    ):
        write_hbm(replace(full(), outputs=(9999,)), tmp_path / "m.hbm")
    assert list(tmp_path.iterdir()) == []


def test_a_scale_that_is_no_number_is_not_written() -> None:
    program = full()
    bad = replace(program.tensors[0], scale=(float("nan"),), axis=-1)
    with pytest.raises(HbmError, match="scale"):
        to_bytes(replace(program, tensors=(bad, *program.tensors[1:])))
