"""`make fuzz`: the command."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz.board import FAULT, Board
from fuzz.case import OUTCOMES, Subject
from fuzz.guard import Limits, fuzz
from fuzz.record import Record
from fuzz.subjects import SHARES, SUBJECTS

_ALL = 1 << 62


def main() -> int:
    """Return 1 where there was a fault."""
    given = _arguments()
    out = Path(given.out) if given.out else Path(tempfile.mkdtemp(prefix="openbpu-fuzz-"))
    record = Record(out)
    only = given.only or list(SUBJECTS)
    _say(f"seed {given.seed}, faults go to {out}")
    with contextlib.suppress(KeyboardInterrupt):
        for name in only:
            share = SHARES[name] / sum(SHARES[n] for n in only)
            limits = Limits(given.seconds * share, given.cases or _ALL, given.first, given.memory << 20)
            _fuzz(SUBJECTS[name](), given.seed, limits, record)
    faults = record.faults()
    for sort, count in Counter(f.sort for f in faults).most_common():
        _say(f"  {count:6} × {sort}")
    _say(f"{len(faults)} faults" + (f", see {out}" if faults else ""))
    return 1 if faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="for all subjects together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--only", action="append", choices=sorted(SUBJECTS), help="subjects (may be repeated)"
    )
    parser.add_argument("--cases", type=int, default=0, help="at most so many of each subject")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--memory", type=int, default=2048, help="MiB that a case may take")
    parser.add_argument("--out", help="folder for faults")
    return parser.parse_args()


def _fuzz(subject: Subject, seed: int, limits: Limits, record: Record) -> None:
    start, board = time.monotonic(), Board(len(subject.kinds))
    try:
        for _ in fuzz(subject, seed, limits, record, board):
            _say(f"{subject.name}: {board.cases:,} cases …")
    finally:
        seconds = time.monotonic() - start
        _say(
            f"{subject.name}: {board.cases:,} cases in {seconds:.0f} s, {board.cases / seconds:.0f} a second"
        )
        _say(_table(subject.kinds, board))


def _table(kinds: tuple[str, ...], board: Board) -> str:
    head = f"  {'':14}" + "".join(f"{name:>18}" for name in (*OUTCOMES, "faults"))
    rows = [
        f"  {kind:14}" + "".join(f"{int(board.counts[i, c]):18,}" for c in range(FAULT + 1))
        for i, kind in enumerate(kinds)
    ]
    return "\n".join((head, *rows))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
