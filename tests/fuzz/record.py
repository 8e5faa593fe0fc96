"""Faults on disk: a folder each with what shows it again, and a line each in `faults.jsonl`."""

from __future__ import annotations

import json
import re
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzz.case import Case

_WORDS = 90
SAVED = 3
"""Folders per sort of fault; the others are lines of the list."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `sort` is the same for faults that have one cause, as far as their place tells."""

    subject: str
    kind: str
    seed: int
    index: int
    sort: str
    text: str


def sort_of(error: BaseException) -> str:
    """Return the class of an exception and the last line of openbpu that it came through."""
    if isinstance(error, AssertionError):
        return re.sub(r"'[^']*'|[\d.,()\[\]-]+", "·", str(error).strip().split("\n")[0])[:_WORDS]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "openbpu" in f.filename] or list(frames)
    place = f"{'/'.join(Path(ours[-1].filename).parts[-2:])}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}"


class Record:
    """The faults of a run. Child processes append, so each reads what the others found before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._list = folder / "faults.jsonl"

    def faults(self) -> list[Fault]:
        """Everything found so far."""
        if not self._list.exists():
            return []
        return [Fault(**json.loads(line)) for line in self._list.read_text("utf-8").splitlines()]

    def add(self, fault: Fault, case: Case | None) -> None:
        """Append a fault; save what shows it while there are few of its sort."""
        seen = Counter(f.sort for f in self.faults())
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._list.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(fault)) + "\n")
        if seen[fault.sort] < SAVED:
            self._save(fault, case)

    def _save(self, fault: Fault, case: Case | None) -> None:
        folder = self.folder / f"{fault.subject}-{fault.seed}-{fault.index}"
        folder.mkdir(exist_ok=True)
        again = f"make fuzz ARGS='--only {fault.subject} --seed {fault.seed} --first {fault.index} --cases 1'"
        note = case.note if case else "(it could not be made again)"
        text = f"{fault.sort}\n{fault.kind}: {note}\n{again}\n\n{fault.text}\n"
        (folder / "fault.txt").write_text(text, "utf-8")
        for name, data in case.files.items() if case else ():
            (folder / name).write_bytes(data)
