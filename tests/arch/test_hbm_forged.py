"""A forged file, whose checksums are right, is refused or is a program that cannot hurt: never a crash."""

import copy
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arch.samples import full
from openbpu.arch.definition.checked import Checked
from openbpu.arch.errors import HbmError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.hbm.container import map_file, pack, unpack
from openbpu.arch.program import BpuSegment, Program
from simulator.build import Build

SECTIONS = {s.name: view.tobytes() for s, view in unpack(*map_file(to_bytes(full())))}
META: dict[str, Any] = json.loads(SECTIONS["meta"])


def forged(meta: Any = META, **others: bytes) -> bytes:
    """The sample with another meta and other sections, checksums made to match."""
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    sections = SECTIONS | {"meta": text} | {name.replace("_", "."): data for name, data in others.items()}
    return b"".join(pack([(name, memoryview(data)) for name, data in sections.items()]))


def with_value(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    meta = copy.deepcopy(META)
    at: Any = meta
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return meta


def leaves(at: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(at, dict | list):
        for key, item in at.items() if isinstance(at, dict) else enumerate(at):
            yield from leaves(item, (*path, key))


PATHS = [path for path in leaves(META) if path]
SCALARS = [
    *(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers(), st.integers(-3, 40)),
    st.sampled_from(["int16", "chip", "view", "max"]),
    st.sampled_from([2**31, 2**62, -(2**63), 2**63, 10**30]),
]
JSON = st.recursive(
    st.one_of(SCALARS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


def refuses_or_reads(data: bytes) -> None:
    try:
        program = read_hbm(data)
    except HbmError:
        return
    assert isinstance(program, Program)
    to_bytes(program)


def test_sections_that_share_bytes_are_refused() -> None:
    """The second begins a step earlier and ends where it did; all checksums are right."""
    data = bytearray(forged())
    at = 64 + 64  # the second entry of the table, behind the header
    name, offset, size, _, _ = struct.unpack_from("<40sQQII", data, at)
    body = data[offset - 64 : offset + size + -size % 64]
    struct.pack_into("<40sQQII", data, at, name, offset - 64, size + 64, zlib.crc32(body), 0)
    count = struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<I", data, 56, zlib.crc32(data[64 : 64 + 64 * count]))
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    with pytest.raises(HbmError, match="lies outside its place"):
        read_hbm(bytes(data))


def test_forging_nothing_reads_as_before() -> None:
    assert read_hbm(forged()) == full()


@given(st.sampled_from(PATHS), JSON)
@settings(max_examples=1000, deadline=None)
def test_any_value_in_the_meta(path: tuple[Any, ...], value: Any) -> None:
    refuses_or_reads(forged(with_value(path, value)))


@given(st.sampled_from(PATHS))
@settings(max_examples=300, deadline=None)
def test_any_entry_missing_from_the_meta(path: tuple[Any, ...]) -> None:
    meta = copy.deepcopy(META)
    at: Any = meta
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    refuses_or_reads(forged(meta))


@given(st.sampled_from(["const", "code_0_0"]), st.integers(0, 100_000), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_byte_of_a_section(name: str, index: int, value: int) -> None:
    data = bytearray(SECTIONS[name.replace("_", ".")])
    data[index % len(data)] = value
    refuses_or_reads(forged(**{name: bytes(data)}))


def tensor(**values: Any) -> dict[str, Any]:
    meta = copy.deepcopy(META)
    meta["tensors"][1] |= values
    return meta


def operator(kind: str, **values: Any) -> dict[str, Any]:
    meta = copy.deepcopy(META)
    next(op for op in meta["segments"][0]["operators"] if op["kind"] == kind).update(values)
    return meta


CONST = next(i for i, t in enumerate(META["tensors"]) if t["space"] == "const")
BIG = 1 << 62
LAST = META["segments"][0]["operators"][-1]["outputs"]
OUTPUT = {op["kind"]: op["outputs"] for op in META["segments"][0]["operators"]}
FORGERIES = {
    "not JSON": (b"{", "not JSON"),
    "not an object": (b"[]", "not a JSON object"),
    "too deep": (b"[" * 100_000, "not JSON"),
    "endless number": (b"9" * 10_000, "not JSON|not a JSON object"),
    "NaN": (with_value(("tensors", 0, "scale"), [float("nan")]), "list, each a finite float"),
    "lone surrogate": (with_value(("name",), "\ud800"), "'name' must be text"),
    "unknown field": (with_value(("colour",), 1), "Program has no field 'colour'"),
    "bool as int": (with_value(("ddr_bytes",), True), "'ddr_bytes' must be a 64-bit integer, not True"),
    "float as int": (with_value(("ddr_bytes",), 64.0), "'ddr_bytes' must be a 64-bit integer"),
    "huge int": (with_value(("ddr_bytes",), 10**30), "'ddr_bytes' must be a 64-bit integer"),
    "huge memory": (with_value(("ddr_bytes",), BIG), "ddr_bytes cannot be"),
    "unknown id": (with_value(("outputs",), [99]), "outputs: tensor id cannot be 99"),
    "negative id": (with_value(("inputs",), [-1]), "inputs: tensor id cannot be -1"),
    "unknown dtype": (tensor(dtype="int4"), "'dtype' must be an element type, not 'int4'"),
    "unknown space": (tensor(space="moon"), "'space' must be a memory space"),
    "negative size": (tensor(shape=[-1]), "shape cannot be"),
    "huge tensor": (tensor(shape=[BIG, BIG]), "shape cannot be"),
    "large tensor": (tensor(shape=[1 << 39, 1 << 39]), "size in bytes cannot be"),
    "rank": (tensor(shape=[1] * 65), "rank cannot be 65"),
    "address": (tensor(address=1 << 30), "address of 192 bytes cannot be"),
    "constant outside": (tensor(space="const", address=1 << 30), "address of 192 bytes cannot be"),
    "circular view": (tensor(space="view", address=1), "is a view of itself"),
    "view of nothing": (tensor(space="view", address=99), "tensor id cannot be 99"),
    "view of another size": (tensor(space="view", address=0), "size as a view of 768 bytes cannot be 192"),
    "unknown operator": (with_value(("segments", 0, "operators", 0, "kind"), "Fly"), "no known kind"),
    "unhashable kind": (with_value(("segments", 0, "operators", 0, "kind"), []), "no known kind"),
    "unknown segment": (with_value(("segments", 0, "on"), "GPU"), "must be on BPU or CPU"),
    "negative cores": (with_value(("segments", 0, "cores"), -1), "number of its code sections"),
    "missing code": (with_value(("segments", 0, "cores"), 3), "section 'code.0.2' is missing"),
    "left-over code": (with_value(("segments", 0, "cores"), 1), "section 'code.0.1' belongs to no segment"),
    "read before written": (operator("Quantize", inputs=LAST), "nothing computes before"),
    "output nobody makes": (with_value(("segments", 0, "operators"), []), "outputs cannot be tensor"),
    "names of a CPU segment": (with_value(("segments", 1, "names_in"), []), "input names cannot be 0"),
    "placement": (with_value(("placement", 0, "segment"), 7), "segment cannot be 7"),
    "window": (operator("Conv", y_shape=[1, 4, 1 << 20, 8]), "cannot be"),
    "padding": (operator("Conv", pads=[0, 0, 0, 0]), "the last window lies outside the padding"),
    "groups": (operator("Conv", groups=3), "y_shape cannot be"),
    "zero stride": (operator("Conv", strides=[0, 1]), "strides cannot be"),
    "residual without factor": (operator("Conv", rmult_id=-1), "rmult_id cannot be -1"),
    "wide table range": (operator("Conv", hi=300), r"range of int8 cannot be \(-128, 300\)"),
    "strides": (operator("Move", strides=[0, 1, 1 << 20, 8]), "they leave it"),
    "offset": (operator("Move", offset=-1), "they leave it"),
    "broadcast": (operator("Binary", b_strides=[0, 0, 0, 1 << 30]), "they leave it"),
    "absent weights": (operator("Conv", weight_id=-1), "weights cannot be absent"),
    "absent constant": (operator("Softmax", exp_id=-35), "constant cannot be absent"),
    "distances that fall": (operator("Softmax", mult=-1), "mult cannot be -1"),
    "distances beyond 31 bits": (operator("Softmax", mult=1 << 31), "mult cannot be 2147483648"),
    "negative probabilities": (operator("Softmax", out_mult=-1), "out_mult cannot be -1"),
    "objects in a file": (tensor(dtype="other", space="const", address=0), "space cannot be const for other"),
    "objects on the BPU": (tensor(dtype="other", address=-1), "dtype of 't1' cannot be other"),
    "bits of another width": (operator("Move", inputs=[0]), "its bits are copied to int8"),
    "border outside the type": (operator("Pad", value=128), "value cannot be 128"),
    "zero point": (operator("Binary", a_zero=1 << 40), "a_zero cannot be"),
    "raw into int8": (operator("MatMul", raw=True), "raw with an output of int8 cannot be True"),
    "float weights": (operator("MatMul", inputs=[1, 0]), "dtype of 't0' cannot be float32"),
    "shift": (operator("Reduce", shift=63), "shift cannot be 63"),
    "indices": (operator("Gather", shape=[1, 12, 16]), "cannot be"),
    "fn": (operator("Binary", fn="xor"), "fn cannot be xor"),
    "counts": (operator("Pool", kernel=[3, 3]), "shape of"),
    "window of a pool": (operator("Pool", kernel=[2, 1 << 31]), "kernel cannot be"),
    "infinite scale": (operator("Quantize", scale=float("inf")), "finite float"),
    "scale beyond float32": (operator("Quantize", scale=1e39), "scale cannot be"),
    "scale below float32": (operator("Quantize", scale=1e-60), "scale cannot be"),
    "input named twice": (with_value(("inputs",), META["inputs"] * 2), "inputs .* more named 't0'"),
    "output named twice": (with_value(("outputs",), META["outputs"] * 2), "outputs .* more named 't"),
    "bound beyond the type": (operator("Quantize", hi=255), r"range of int8 cannot be \(-128, 255\)"),
    "zero point beyond the type": (operator("Quantize", zero=1 << 24), "zero cannot be 16777216"),
    "lines into int32": (
        with_value(("tensors", OUTPUT["SegmentLut"][0], "dtype"), "int32"),
        "dtype of the output cannot be int32",
    ),
    "bounds swapped": (operator("Reduce", lo=5, hi=4), r"range of int8 cannot be \(5, 4\)"),
    "constant input": (
        with_value(("tensors", META["inputs"][0]), META["tensors"][CONST]),
        "inputs: space of '.*' cannot be const",
    ),
    "input that is a view": (
        with_value(
            ("tensors", META["inputs"][0]),
            META["tensors"][META["inputs"][0]] | {"space": "view", "address": META["outputs"][0]},
        ),
        "inputs: space of 't0' cannot be view",
    ),
    "floats rescaled": (
        operator("Concat", inputs=META["inputs"] * 2, sizes=[192, 192]),
        r"dtype of 't0' .* cannot be float32",
    ),
    "written twice": (operator("Binary", outputs=OUTPUT["Conv"]), "whose bytes something else has written"),
    "in place": (operator("Binary", outputs=OUTPUT["Quantize"]), "whose bytes something else has written"),
    "CPU writes what is there": (
        with_value(("segments", 1, "outputs"), META["segments"][0]["outputs"][:1]),
        "whose bytes something else has written",
    ),
    "negative scale": (operator("Quantize", scale=-1.0), "scale cannot be"),
    "scale that is 0 in float32": (operator("Quantize", scale=1e-60), "scale cannot be"),
    "scale that is infinite in float32": (operator("Quantize", scale=1e60), "scale cannot be"),
    "arity": (operator("MatMul", inputs=[1]), "number of inputs cannot be 1"),
    "axis of its scales": (tensor(scale=[0.5, 0.5], axis=len(META["tensors"][1]["shape"])), "axis cannot be"),
    "float arithmetic": (operator("Lut", inputs=[0]), "dtype of 't0' cannot be float32"),
    "output is a constant": (operator("Pad", outputs=[CONST]), f"output cannot be constant {CONST}"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_is_named(name: str) -> None:
    meta, message = FORGERIES[name]
    with pytest.raises(HbmError, match=message):
        read_hbm(forged(meta))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 0xFF, "opcode of instruction 1 cannot be 0xff"),
        (1, 7, "engine of instruction 1 cannot be 7"),
        (2, 1, "flags of instruction 1 cannot be 1"),
        (4, 1, "instruction 1 cannot be part of a Rescale"),
        (5, 1, "operator of instruction 1 cannot be 258"),
    ],
)
def test_code_that_no_engine_knows_is_refused(column: int, value: int, message: str) -> None:
    program = full()
    segment = program.segments[0]
    assert isinstance(segment, BpuSegment)
    code = segment.code[0].copy()
    code[1, column] = value
    bad = replace(program, segments=(replace(segment, code=(code, segment.code[1])), program.segments[1]))
    with pytest.raises(HbmError, match=message):
        to_bytes(bad)


def test_a_border_of_floats_is_of_zeros() -> None:
    """A value is an integer: one mode would copy its bits, the other its number."""
    meta = operator("Pad", value=1)
    pad = next(op for op in meta["segments"][0]["operators"] if op["kind"] == "Pad")
    for i in (*pad["inputs"], *pad["outputs"]):
        meta["tensors"][i] = {**meta["tensors"][i], "dtype": "float32", "space": "ddr", "address": 0}
    meta["segments"][0] |= {"operators": [pad], "inputs": pad["inputs"]}
    meta["inputs"] = pad["inputs"]
    with pytest.raises(HbmError, match="Pad: value cannot be 1"):
        read_hbm(forged(meta))


def test_code_that_is_no_table_is_refused() -> None:
    with pytest.raises(HbmError, match="records of 128 bytes, not 130"):
        read_hbm(forged(code_0_0=SECTIONS["code.0.0"][:130]))


@pytest.mark.parametrize("size", [0, 64, 640])
def test_constants_cut_short_are_refused(size: int) -> None:
    with pytest.raises(HbmError, match="address of"):
        read_hbm(forged(const=SECTIONS["const"][:size]))


def test_table_that_names_what_is_not_there_is_refused() -> None:
    program = full()
    (at,) = (
        m.start() for m in re.finditer(re.escape(np.array([5, 23], np.int32).tobytes()), SECTIONS["const"])
    )
    const = SECTIONS["const"][:at] + np.array([5, 24], np.int32).tobytes() + SECTIONS["const"][at + 8 :]
    assert len(const) == program.constants.size
    with pytest.raises(HbmError, match=r"Gather: indices cannot be outside 0\.\.23"):
        read_hbm(forged(const=const))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scales_that_are_no_number_are_refused(bad: float) -> None:
    good, const = np.float32(0.1).tobytes(), SECTIONS["const"]
    at = next(t["address"] for t in META["tensors"] if t["dtype"] == "float32" and t["space"] == "const")
    assert const[at : at + 4] == good
    changed = const[:at] + np.float32(bad).tobytes() + const[at + 4 :]
    with pytest.raises(HbmError, match="scales cannot be NaN or infinite"):
        read_hbm(forged(const=changed))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (0, 0, "exponentials cannot be outside 1.."),
        (-1, -1, "exponentials cannot be outside"),
        (1, 2, "exponentials cannot be rising"),
    ],
)
def test_exponentials_that_no_row_can_be_divided_by_are_refused(first: int, second: int, said: str) -> None:
    softmax = next(op for op in META["segments"][0]["operators"] if op["kind"] == "Softmax")
    at, const = META["tensors"][softmax["exp_id"]]["address"], SECTIONS["const"]
    const = const[:at] + np.array([first, second], np.int32).tobytes() + const[at + 8 :]
    with pytest.raises(HbmError, match=f"Softmax: {said}"):
        read_hbm(forged(const=const))


def test_the_extremes_of_a_constant_are_those_of_its_columns() -> None:
    b = Build()
    matrix, row, none = (
        b.const(np.array(v, np.int32)) for v in ([[5, -7, 2], [1, 3, -9]], [4, -2], np.zeros((2, 0)))
    )
    checked = Checked(b.program(()))
    assert [checked.extremes(matrix, *columns) for columns in ((0, 3), (0, 1), (1, 2))] == [
        (-9, 5),
        (1, 5),
        (-7, 3),
    ]
    assert checked.extremes(row, 0, 1) == (-2, 4)  # it has no columns
    for columns in ((0, 0), (3, 3), (2, 1)):
        assert checked.extremes(matrix, *columns) is None
    assert checked.extremes(none, 0, 4) is None
