"""Counted loops and guards as `with` statements over an IRBuilder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openbpu.simulator.fast.vector.types import I64, const


@contextmanager
def counted(builder: Any, count: Any, step: int = 1) -> Iterator[Any]:
    """For i in range(0, count, step), which runs at least once; yields i."""
    before = builder.block
    body = builder.append_basic_block("body")
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(I64)
    index.add_incoming(const(I64, 0), before)
    yield index
    after = builder.add(index, const(I64, step))
    index.add_incoming(after, builder.block)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, count), body, done)
    builder.position_at_end(done)
