"""Several programs in one `.hbm`: the sections of each, and what they share stored once.

    graphs    JSON: sizes of the pieces in bytes; of every program its sections, each a list of pieces
    pool      the pieces, one after another

Constants are cut at their tensors, so two graphs of one network share the weights that are the same, byte by
byte; every other section is one piece.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from openbpu.arch.arrays import Bytes
from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.hbm.container import Section
from openbpu.arch.hbm.meta import from_sections, to_sections
from openbpu.arch.program import Program, Space

MOST_GRAPHS = 64
"""A file of more is none that anybody links: each costs memory of its own when it is read."""

_GRAPHS, _POOL = "graphs", "pool"


def package_sections(programs: Sequence[Program]) -> list[tuple[str, memoryview]]:
    """Return the sections of a file with these programs, whose names differ; equal ones give equal bytes."""
    pool, numbers, sizes = list[memoryview](), dict[bytes, int](), list[int]()
    graphs = []
    for program in programs:
        used: set[int] = set()
        sections = []
        for name, data in to_sections(program):
            own = []
            for piece in _pieces(program, name, data):
                number = numbers.get(_key(piece), len(sizes))
                if number == len(sizes) or number in used:  # once per graph, so no file unfolds without end
                    number = len(sizes)
                    numbers.setdefault(_key(piece), number)
                    pool.append(piece)
                    sizes.append(piece.nbytes)
                used.add(number)
                own.append(number)
            sections.append([name, own])
        graphs.append(sections)
    text = json.dumps({"sizes": sizes, "graphs": graphs}, separators=(",", ":"))
    return [(_GRAPHS, memoryview(text.encode())), (_POOL, memoryview(b"".join(pool)))]


def _key(piece: memoryview) -> bytes:
    return hashlib.sha256(piece).digest()


def _pieces(program: Program, name: str, data: memoryview) -> Iterator[memoryview]:
    """Yield a section in pieces: constants by tensor."""
    cuts = {0, data.nbytes}
    if name == "const":
        cuts |= {t.address for t in program.tensors if t.space is Space.CONST and 0 < t.address < data.nbytes}
    for start, end in pairwise(sorted(cuts)):
        yield data[start:end]


def is_package(sections: Sequence[tuple[Section, Bytes]]) -> bool:
    """Whether a file holds several programs."""
    return [s.name for s, _ in sections] == [_GRAPHS, _POOL]


def programs_of(sections: Sequence[tuple[Section, Bytes]]) -> Iterator[Program]:
    """Yield the programs, their ids unchecked; raises BadRecordError for what no linker writes."""
    (_, text), (_, pool) = sections
    sizes, graphs = _parsed(text)
    ends = [0, *accumulate(sizes)]
    if ends[-1] != pool.size:
        raise BadRecordError(f"the pieces take {ends[-1]} bytes, of which {pool.size} are there")
    for graph in graphs:
        yield from_sections(list(_unfolded(graph, pool, ends)))


def _parsed(text: Bytes) -> tuple[list[int], list[Any]]:
    try:
        found = json.loads(text.tobytes())
        sizes, graphs = found["sizes"], found["graphs"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise BadRecordError("section 'graphs' is not what a linker writes") from error
    if type(sizes) is not list or not all(type(n) is int and n >= 0 for n in sizes):
        raise BadRecordError("the sizes of the pieces must be whole numbers")
    if type(graphs) is not list or not 1 <= len(graphs) <= MOST_GRAPHS:
        raise BadRecordError(f"a file must hold 1..{MOST_GRAPHS} graphs")
    return sizes, graphs


def _unfolded(graph: Any, pool: Bytes, ends: Sequence[int]) -> Iterator[tuple[Section, Bytes]]:
    """Yield the sections of one program; no piece may be used twice in it."""
    used: set[int] = set()
    if type(graph) is not list:
        raise BadRecordError("a graph must be a list of sections")
    for section in graph:
        if type(section) is not list or len(section) != 2 or type(section[0]) is not str:
            raise BadRecordError("a section must be a name and its pieces")
        name, pieces = section
        if type(pieces) is not list or not all(type(n) is int and 0 <= n < len(ends) - 1 for n in pieces):
            raise BadRecordError(f"the pieces of section '{name}' must be numbers of pieces")
        if used & set(pieces) or len(set(pieces)) != len(pieces):
            raise BadRecordError(f"a piece of section '{name}' is used twice")
        used |= set(pieces)
        views = [pool[ends[n] : ends[n + 1]] for n in pieces]
        data = views[0] if len(views) == 1 else np.concatenate([np.zeros(0, np.uint8), *views])
        data.flags.writeable = False
        yield Section(name, 0, data.size, 0), data
