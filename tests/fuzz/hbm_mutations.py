"""What is done to a `.hbm`, by kind. All but the last two end with checksums that are right."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.edges import INTEGERS, anything, number, shuffled
from fuzz.hbm_files import Base, Path, leaves, packed
from fuzz.onnx_mutations import mutated_bytes
from openbpu.arch.isa import RECORD_BYTES

Mutation = Callable[[random.Random, Base], tuple[bytes, str]]
"""Returns the bytes of the file and, in words, what was done."""

_HEADER, _ENTRY = 64, 64
_AREAS = ("operator", "operator", "operator", "tensor", "tensor", "graph")


def reach(meta: Any, path: Path) -> Any:
    """The list or object that holds the value of this place."""
    for step in path[:-1]:
        meta = meta[step]
    return meta


def _with_meta(base: Base, meta: Any, note: str) -> tuple[bytes, str]:
    return packed(base.sections | {"meta": json.dumps(meta).encode("utf-8", "surrogatepass")}), note


def _value(rng: random.Random, base: Base, area: str) -> tuple[bytes, str]:
    """One to three values of an area become others."""
    meta, notes = base.meta, []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(base.places[area] or base.places["tensor"])
        try:
            holder = reach(meta, path)
            old = holder[path[-1]]
            holder[path[-1]] = anything(rng, old, base.numbers)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
        notes.append(f"{'.'.join(map(str, path))}: {old!r} → {holder[path[-1]]!r}")
    return _with_meta(base, meta, "; ".join(notes)[:300])


def operator(rng: random.Random, base: Base) -> tuple[bytes, str]:
    return _value(rng, base, "operator")


def tensor(rng: random.Random, base: Base) -> tuple[bytes, str]:
    return _value(rng, base, "tensor")


def graph(rng: random.Random, base: Base) -> tuple[bytes, str]:
    return _value(rng, base, "graph")


def text(rng: random.Random, base: Base) -> tuple[bytes, str]:
    return _value(rng, base, "text")


def together(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """A number becomes another wherever it stands in tensors and operators: geometry that fits itself."""
    meta = base.meta
    old = rng.choice(base.numbers)
    new = number(rng, old, base.numbers)
    for path, value in list(leaves(meta)):
        if (
            type(value) is int
            and value == old
            and path[0] in {"tensors", "segments"}
            and path[-1] != "address"
        ):
            reach(meta, path)[path[-1]] = new
    return _with_meta(base, meta, f"every {old} → {new}")


def lists(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """Entries of a list are doubled, moved or gone: operators, tensors, segments, ids, sizes."""
    meta = base.meta
    path = rng.choice(base.places["list"])
    holder = reach(meta, path)
    holder[path[-1]] = shuffled(rng, holder[path[-1]])
    return _with_meta(base, meta, f"list {'.'.join(map(str, path))}")


def fields(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """A field is gone or called something else."""
    meta = base.meta
    path = rng.choice(base.places[rng.choice(_AREAS)] or base.places["tensor"])
    holder = reach(meta, path)
    value = holder.pop(path[-1])
    if isinstance(holder, dict) and rng.randrange(2):
        holder[rng.choice(list(holder) or ["x"])] = value
    return _with_meta(base, meta, f"without {'.'.join(map(str, path))}")


def views(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """A tensor becomes a view of another, or one more view is put between."""
    meta = base.meta
    tensors = meta["tensors"]
    at, to = rng.randrange(len(tensors)), rng.randrange(len(tensors))
    if rng.randrange(2):
        tensors.append({**tensors[to], "space": "view", "address": to})
        to = len(tensors) - 1
    if rng.randrange(2):
        tensors[at] = {**tensors[at], "space": "view", "address": to}
    else:
        for segment in meta["segments"]:
            for op in segment.get("operators", ()):
                op["inputs"] = [to if i == at else i for i in op["inputs"]]
    return _with_meta(base, meta, f"tensor {at} a view of {to}")


def constants(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """Weights, tables and factors hold other numbers."""
    data = bytearray(base.sections["const"])
    if not data:
        return tensor(rng, base)
    for _ in range(rng.choice((1, 1, 2, 5))):
        code, width = rng.choice((("b", 1), ("h", 2), ("i", 4), ("i", 4), ("q", 8), ("q", 8)))
        at = rng.randrange(len(data)) // width * width
        if at + width > len(data):
            continue
        (old,) = struct.unpack_from(f"<{code}", data, at)
        half = 1 << 8 * width - 1
        struct.pack_into(f"<{code}", data, at, (number(rng, old, base.numbers) + half) % (2 * half) - half)
    return packed(base.sections | {"const": bytes(data)}), "constants"


def code(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """Words of instructions, or whole instructions, are other ones."""
    names = [n for n, d in base.sections.items() if n.startswith("code") and d]
    if not names:
        return operator(rng, base)
    name = rng.choice(names)
    data = bytearray(base.sections[name])
    for _ in range(rng.choice((1, 1, 2))):
        _word(rng, data, base.numbers) if rng.randrange(4) else _records(rng, data)
    return packed(base.sections | {name: bytes(data)}), name


def _word(rng: random.Random, data: bytearray, others: tuple[int, ...]) -> None:
    at = rng.randrange(len(data) // 4) * 4 if data else -1
    if at >= 0:
        (old,) = struct.unpack_from("<I", data, at)
        struct.pack_into("<I", data, at, number(rng, old, others) % 2**32)


def _records(rng: random.Random, data: bytearray) -> None:
    rows = [bytes(data[i : i + RECORD_BYTES]) for i in range(0, len(data), RECORD_BYTES)]
    data[:] = b"".join(shuffled(rng, rows) if rows else rows)


def subgraph(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """The ONNX model of a CPU segment is another one."""
    names = [n for n in base.sections if n.startswith("onnx")]
    if not names:
        return lists(rng, base)
    data, note = mutated_bytes(rng, base.sections[names[0]])
    return packed(base.sections | {names[0]: data}), note


def container(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """Header and section table say something else, with checksums to match."""
    if rng.randrange(2):
        items = shuffled(rng, list(base.sections.items()))
        if items and rng.randrange(2):
            items[rng.randrange(len(items))] = (rng.choice(("meta", "const", "x", "code.0.0", "")), b"{}")
        return packed_list(items), "sections"
    data = bytearray(base.data)
    width = rng.choice((4, 8))
    at = rng.randrange(8, _HEADER + _ENTRY * len(base.sections) - width) // 4 * 4
    data[at : at + width] = (rng.choice(INTEGERS) % 2 ** (8 * width)).to_bytes(width, "little")
    return summed(data), f"bytes {at}..{at + width} of the tables"


def packed_list(items: list[tuple[str, bytes]]) -> bytes:
    """As `packed`, of sections that may share a name."""
    from openbpu.arch.hbm.container import pack

    return b"".join(pack([(name, memoryview(data)) for name, data in items]))


def summed(data: bytearray) -> bytes:
    """The file with checksums of table and header made right, and of sections where they lie in it."""
    count = struct.unpack_from("<I", data, 12)[0]
    end = _HEADER + _ENTRY * count
    if end <= len(data):
        for at in range(_HEADER, end, _ENTRY):
            offset, size = struct.unpack_from("<QQ", data, at + 40)
            stop = offset + size + -(offset + size) % 64
            if stop <= len(data):
                struct.pack_into("<I", data, at + 56, zlib.crc32(data[offset:stop]))
        struct.pack_into("<I", data, 56, zlib.crc32(data[_HEADER:end]))
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    return bytes(data)


def noise(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """Bytes are flipped, and no checksum is mended."""
    data = bytearray(base.data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return bytes(data), "bytes flipped"


def length(rng: random.Random, base: Base) -> tuple[bytes, str]:
    """The file ends early, goes on, or lacks a piece."""
    data = base.data
    at, to = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    changed = rng.choice((data[:at], data[:at] + data[to:], data + data[at:to], data[:to] + data[at:]))
    return changed, f"{len(data)} bytes → {len(changed)}"


_ALL: tuple[Mutation, ...] = (
    *(operator, tensor, graph, text, together, lists, fields, views, constants, code, subgraph, container),
    *(noise, length),
)
MUTATIONS = {kind.__name__: kind for kind in _ALL}
SHARES = (22, 10, 8, 3, 12, 8, 3, 6, 8, 12, 6, 3, 2, 2)
"""How often each, of all; where both can differ most, most often."""
