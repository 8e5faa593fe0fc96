"""Which instruction runs next: in-order queues, tokens, and an order chosen to expose missing tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.isa import ENGINES, Engine, Instr, Load, Store

_EAGER = (
    Engine.LOAD,
    Engine.TRANS,
    Engine.VAE,
    Engine.AAE,
    Engine.TAE,
    Engine.VPU,
    Engine.SPU,
    Engine.STORE,
)
_LAZY = tuple(reversed(_EAGER))


@dataclass(slots=True)
class Queues:
    """The queues of one core: `heads[e]` is the position in code of the next instruction of engine e.

    others: the queues of the other cores, in order; LOAD and STORE may wait for theirs.
    """

    code: Sequence[Instr]
    by_engine: list[list[int]] = field(default_factory=lambda: [[] for _ in range(ENGINES)])
    done: list[int] = field(default_factory=lambda: [0] * ENGINES)
    others: tuple[Queues, ...] = ()

    def __post_init__(self) -> None:
        for position, instr in enumerate(self.code):
            self.by_engine[instr.ENGINE].append(position)

    def head(self, engine: int) -> int | None:
        """Position of the engine's next instruction, None when it has no more."""
        queue, done = self.by_engine[engine], self.done[engine]
        return queue[done] if done < len(queue) else None

    def ready(self) -> list[Engine]:
        """Engines whose next instruction has all its tokens."""
        return [e for e in Engine if self._is_ready(e)]

    def _is_ready(self, engine: int) -> bool:
        at = self.head(engine)
        return at is not None and not self._lacking(at)

    def _lacking(self, at: int) -> list[tuple[str, int, int]]:
        """What an instruction still waits for: engine, completions wanted, completions there are."""
        instr = self.code[at]
        found = [
            (Engine(e).name, w, d)
            for e, (d, w) in enumerate(zip(self.done, instr.wait, strict=True))
            if d < w
        ]
        if isinstance(instr, Load | Store) and any(instr.peers):
            for k, w in enumerate(instr.peers):
                d = self.others[k // 2].done[k % 2] if k // 2 < len(self.others) else 0
                if d < w:
                    found.append((f"{Engine(k % 2).name} of other core {k // 2}", w, d))
        return found

    def finished(self) -> bool:
        """Whether every instruction completed."""
        return sum(self.done) == len(self.code)

    def blocked(self) -> str:
        """Say what each engine with work left waits for."""
        parts = []
        for engine in Engine:
            at = self.head(engine)
            if at is None:
                continue
            lacking = [f"{name} {w} (has {d})" for name, w, d in self._lacking(at)]
            parts.append(f"{engine.name} at instruction {at} waits for {', '.join(lacking)}")
        return "; ".join(parts)


class Order:
    """Chooses among engines that are ready.

    seed None: LOAD as early and STORE as late as possible, so that a missing token shows as a tile that was
    overwritten too early or stored too late. Seed 0: the reverse, so that compute runs before its data where
    nothing holds it back. Other seeds: a random choice at every step.
    """

    def __init__(self, seed: int | None) -> None:
        self._ranked = seed is None or seed == 0
        self._ranks = _EAGER if seed is None else _LAZY
        self._random = np.random.default_rng(seed)

    def choose(self, ready: Sequence[tuple[int, Engine]]) -> tuple[int, Engine]:
        """Return one of the (core, engine) pairs."""
        if self._ranked:
            return min(ready, key=lambda pair: (self._ranks.index(pair[1]), pair[0]))
        return ready[int(self._random.integers(len(ready)))]
