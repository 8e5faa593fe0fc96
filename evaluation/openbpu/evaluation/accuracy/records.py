"""What is kept while an evaluation runs, so that it can go on: a line for what it is of, one per sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

from openbpu.arch.errors import InputError, must
from openbpu.arch.journal import Journal
from openbpu.evaluation.accuracy.measure import Records

_FORM = 1
_NO_RECORDS = "a file of records of openbpu eval"
_SHORT = 12
_ANEW = "begin anew with --records FILE"


@dataclass(frozen=True, slots=True)
class Subject:
    """What records are of: two runs of the same subject give the same ones.

    models: digests by name, in their order · data: its digest · options: whatever else decides.
    """

    models: Mapping[str, str]
    data: str
    options: Mapping[str, Any]

    def head(self) -> dict[str, Any]:
        """Return the first line of the file."""
        return {
            "records": _FORM,
            "openbpu": version("openbpu"),
            "models": dict(self.models),
            "data": self.data,
            "options": json.loads(json.dumps(self.options)),
        }


@final
class Kept:
    """A file of records that is open; `done` has those of every sample by its number.

    new: it must not exist yet; else it must be of this subject. Raises InputError.
    """

    def __init__(self, path: Path, subject: Subject, *, new: bool) -> None:
        self._journal = _opened(path, new=new)
        try:
            self.done = {} if new else dict(_read(path, self._journal.lines, subject))
        except BaseException:
            self.close()
            raise
        if new:
            self._journal.add(json.dumps(subject.head()))

    def add(self, number: int, records: Records) -> None:
        """Keep the records of a sample."""
        self._journal.add(json.dumps([number, records]))

    def close(self) -> None:
        """Close the file."""
        self._journal.__exit__()


def _opened(path: Path, *, new: bool) -> Journal:
    try:
        return Journal(path, new=new)
    except FileExistsError as error:
        fix = "--resume FILE goes on with it"
        raise InputError(
            must(str(path), "the file for records", "a new one", "there already", fix)
        ) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        if new:
            raise
        found = "a folder" if path.is_dir() else "missing"
        raise InputError(must(str(path), "the file to resume from", _NO_RECORDS, found, _ANEW)) from error


def _read(path: Path, lines: list[str], subject: Subject) -> dict[int, Records]:
    head = _parsed(path, 1, lines[0]) if lines else None
    if not isinstance(head, dict) or head.get("records") != _FORM:
        raise InputError(must(str(path), "the file to resume from", _NO_RECORDS, "something else", _ANEW))
    _compare(path, head, subject.head())
    done: dict[int, Records] = {}
    for number, line in enumerate(lines[1:], start=2):
        row = _parsed(path, number, line)
        if not (isinstance(row, list) and len(row) == 2 and type(row[0]) is int and isinstance(row[1], list)):
            raise InputError(
                must(f"{path}:{number}", "the line", "[sample, records]", f"'{line[:40]}'", _ANEW)
            )
        if len(row[1]) != len(subject.models):
            found = f"{len(row[1])}"
            raise InputError(must(f"{path}:{number}", "its models", len(subject.models), found, _ANEW))
        done.setdefault(row[0], row[1])
    return done


def _parsed(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(must(f"{path}:{number}", "the line", "JSON", f"'{line[:40]}'", _ANEW)) from error


def _compare(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse records of something else, by what is different."""
    where = str(path)
    if theirs.get("openbpu") != ours["openbpu"]:
        raise InputError(must(where, "openbpu", f"{theirs.get('openbpu')}, as then", ours["openbpu"], _ANEW))
    old, new = theirs.get("models"), ours["models"]
    if not isinstance(old, dict) or list(old) != list(new):
        then = ", ".join(old) if isinstance(old, dict) else old
        raise InputError(must(where, "the models", f"{then}, as then", ", ".join(new), _ANEW))
    for name, digest in new.items():
        if old[name] != digest:
            what = f"model '{name}'"
            raise InputError(must(where, what, f"{_short(old[name])}, as then", _short(digest), _ANEW))
    if theirs.get("data") != ours["data"]:
        then, now = _short(theirs.get("data")), _short(ours["data"])
        raise InputError(must(where, "the data", f"{then}, as then", now, _ANEW))
    _compare_options(where, theirs.get("options"), ours["options"])


def _compare_options(where: str, theirs: Any, ours: Mapping[str, Any]) -> None:
    for name, value in ours.items():
        then = theirs.get(name) if isinstance(theirs, dict) else None
        if then != value:
            shown = (_short(then), _short(value)) if name == "code" else (then, value)
            raise InputError(must(where, f"option {name}", f"{shown[0]}, as then", shown[1], _ANEW))


def _short(digest: object) -> str:
    """Return the beginning of a digest, which says enough."""
    return f"of digest {str(digest)[:_SHORT]}…"
