"""How instructions are declared, encoded and decoded: frozen dataclasses whose fields carry their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from openbpu.arch.definition.integers import Count
from openbpu.arch.definition.layers import Layers, Records
from openbpu.arch.engines import ENGINES, Engine

RECORD_BYTES = 128
"""Every instruction is one record of this size, so a code section is a table."""


HEADER: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("opcode", "<u1", ()),
    ("engine", "<u1", ()),
    ("flags", "<u2", ()),
    ("operator", "<u4", ()),
    ("wait", "<u4", (ENGINES,)),
)


class EncodingError(ValueError):
    """A field value does not fit its bytes."""


def _declare(kind: str, count: int, default: Any) -> Any:
    metadata = {"kind": kind, "count": count}
    return field(metadata=metadata) if default is MISSING else field(metadata=metadata, default=default)


def u16(count: int = 0, default: Any = MISSING) -> Any:
    """Declare an unsigned 16-bit field, or a tuple of `count` of them."""
    return _declare("<u2", count, default)


def u32(count: int = 0, default: Any = MISSING) -> Any:
    """Declare an unsigned 32-bit field: a size in elements or bytes, or an on-chip byte address."""
    return _declare("<u4", count, default)


def i32(count: int = 0, default: Any = MISSING) -> Any:
    """Declare a signed 32-bit field: a stride in bytes or a position that may lie before the tile."""
    return _declare("<i4", count, default)


def u64(count: int = 0, default: Any = MISSING) -> Any:
    """Declare an unsigned 64-bit field: a DDR byte address."""
    return _declare("<u8", count, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instr:
    """What every instruction has: the operator (layer) it belongs to and its tokens.

    `wait[e]` is how many instructions engine e must have completed before this one may start.
    """

    OPCODE: ClassVar[int]
    ENGINE: ClassVar[Engine]
    SERVES_ALL: ClassVar[bool] = False  # it copies bits, so it may be part of any operator

    operator: int
    wait: tuple[int, ...] = (0,) * ENGINES

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Count:
        """Return the engine cycles of n encoded instructions of this kind, int64 [n]."""
        raise NotImplementedError

    @staticmethod
    def macs(rows: Records, layers: Layers) -> Count:  # noqa: ARG004 - what those of the engine read
        """Return their multiply-accumulates: none, but on the tensor engine."""
        return np.zeros(len(rows), dtype=np.int64)


def operands(cls: type[Instr]) -> list[Any]:
    """Return the dataclass fields that are operands of `cls` (all but the header's), in declaration order."""
    return [f for f in fields(cls) if "kind" in f.metadata]


def record_dtype(cls: type[Instr]) -> np.dtype[np.void]:
    """Return the structured dtype of a record of `cls`: the header, its operands, padding up to 128 bytes."""
    parts: list[Any] = [(name, kind, shape) for name, kind, shape in HEADER]
    parts += [
        (f.name, f.metadata["kind"], (f.metadata["count"],) if f.metadata["count"] else ())
        for f in operands(cls)
    ]
    packed = np.dtype(parts)
    if packed.itemsize > RECORD_BYTES:
        raise EncodingError(f"{cls.__name__} needs {packed.itemsize} bytes (allowed {RECORD_BYTES})")
    names, places = list(packed.names or ()), dict(packed.fields or {})
    layout: Any = {
        "names": names,
        "formats": [places[n][0] for n in names],
        "offsets": [places[n][1] for n in names],
        "itemsize": RECORD_BYTES,
    }
    padded: np.dtype[np.void] = np.dtype(layout)
    return padded


HEADER_DTYPE: np.dtype[np.void] = record_dtype(Instr)
"""View of any record that shows its header only."""


def check_fits(instr: Instr) -> None:
    """Raise EncodingError naming the field, its value and the allowed range when a value does not fit."""
    header: list[tuple[str, str, int]] = [(name, kind, len(shape)) for name, kind, shape in HEADER[3:]]
    declared = [(f.name, f.metadata["kind"], f.metadata["count"]) for f in operands(type(instr))]
    for name, kind, count in header + declared:
        info = np.iinfo(kind)
        value = getattr(instr, name)
        for v in value if count else (value,):
            if not info.min <= v <= info.max:
                field_name, allowed = f"{type(instr).__name__}.{name}", f"{info.min}..{info.max}"
                raise EncodingError(
                    f"{field_name} = {v} does not fit in {info.bits} bits (allowed {allowed})"
                )


Code = npt.NDArray[np.uint8]
"""Encoded instructions: uint8 [n, 128]. (A structured array would lose the bytes its dtype does not name.)"""


def rows_as_bytes(records: npt.NDArray[np.void]) -> Code:
    """Return the bytes of structured records, uint8 [n, 128]."""
    return np.frombuffer(records.tobytes(), dtype=np.uint8).reshape(-1, RECORD_BYTES)


def headers(code: Code) -> npt.NDArray[np.void]:
    """Return the header fields (opcode, engine, operator, wait) of encoded instructions, shape (n,)."""
    return np.ascontiguousarray(code).view(HEADER_DTYPE)[:, 0]


def encode(instrs: Sequence[Instr], dtypes: dict[type[Instr], np.dtype[np.void]]) -> Code:
    """Encode instructions in order; returns their bytes, uint8 [len(instrs), 128]."""
    out = np.zeros((len(instrs), RECORD_BYTES), dtype=np.uint8)
    by_class: dict[type[Instr], list[int]] = {}
    for index, instr in enumerate(instrs):
        by_class.setdefault(type(instr), []).append(index)
    for cls, indices in by_class.items():
        out[indices] = rows_as_bytes(_encode_class(cls, [instrs[i] for i in indices], dtypes[cls]))
    return out


def _encode_class(cls: type[Instr], instrs: list[Instr], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    records = np.zeros(len(instrs), dtype=dtype)
    records["opcode"], records["engine"] = cls.OPCODE, int(cls.ENGINE)
    for name in ("operator", "wait", *(f.name for f in operands(cls))):
        values = _exact([getattr(i, name) for i in instrs])
        info = np.iinfo(records.dtype[name].base)
        # Compared, not caught: NumPy 1 wraps what does not fit.
        if values.min() < info.min or values.max() > info.max:
            for instr in instrs:
                check_fits(instr)
        records[name] = values
    return records


def _exact(values: list[Any]) -> npt.NDArray[Any]:
    """Return Python integers as an array that holds each of them exactly."""
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        return np.array(values, dtype=object)


def decode(
    code: Code, classes: dict[int, type[Instr]], dtypes: dict[type[Instr], np.dtype[np.void]]
) -> list[Instr]:
    """Decode uint8 [n, 128] into instructions; raises EncodingError for an opcode that does not exist."""
    out: list[Instr | None] = [None] * len(code)
    opcodes = headers(code)["opcode"]
    for opcode in np.unique(opcodes):
        cls = classes.get(int(opcode))
        if cls is None:
            raise EncodingError(f"opcode 0x{int(opcode):02x} does not exist")
        where = np.flatnonzero(opcodes == opcode)
        rows = np.ascontiguousarray(code[where]).view(dtypes[cls])[:, 0]
        columns = {f.name: rows[f.name].tolist() for f in operands(cls)}
        vectors = {f.name for f in operands(cls) if f.metadata["count"]}
        operators, waits = rows["operator"].tolist(), rows["wait"].tolist()
        for j, index in enumerate(where.tolist()):
            values = {n: tuple(c[j]) if n in vectors else c[j] for n, c in columns.items()}
            out[index] = cls(operator=operators[j], wait=tuple(waits[j]), **values)
    return [i for i in out if i is not None]
