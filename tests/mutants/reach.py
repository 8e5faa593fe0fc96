"""Which tests reach which line, and how long each takes: one run with a coverage context per test."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import coverage
import pytest

from mutants.sites import ROOTS, Site

_NEAREST = {
    "interfaces/openbpu/cli": "tests/interfaces/test_cli",
    "interfaces/openbpu/compat": "tests/interfaces/test_compat",
} | {room: f"tests/{room}" for room in ROOTS}
"""Tests of lines that no coverage sees, as the kernels that numba compiles, or of other processes."""
_OF_DEFAULTS = "tests/test_defaults.py"
"""Tests of what runs when a module is imported, which coverage gives to no test."""


@dataclass(frozen=True)
class Reach:
    """Tests by module and line, and their seconds; modules and lines as in the measured `tree`."""

    tree: Path
    seconds: dict[str, float]

    def tests(self, site: Site, budget: float) -> dict[str, float]:
        """Return the tests that may notice a fault, and their seconds, of which they take `budget` at most.

        Those of defaults come first where the line runs at import, then those on it, then those near; of
        each, one of each file in turn, quickest first. A fixture of a module runs inside its first test only,
        so the other tests of the files count as near.
        """
        lines = self._lines(site.module)
        on_line = lines.get(site.line, set())
        near = set().union(*lines.values())
        files = {t.partition("::")[0] for t in on_line or near}
        beside = {t for t in self.seconds if t.partition("::")[0] in files}
        if not on_line:
            folder = next(tests for room, tests in _NEAREST.items() if site.module.startswith(f"{room}/"))
            beside |= near | {t for t in self.seconds if t.startswith(folder)}
        source = (self.tree / site.module).read_text(encoding="utf-8")
        first = {t for t in self.seconds if t.startswith(_OF_DEFAULTS) and runs_at_import(source, site.line)}
        groups = (first, on_line - first, beside - on_line - first)
        order = [t for group in groups for t in self._in_turn(group)]
        spent = itertools.accumulate(self.seconds[t] for t in order)
        return {t: self.seconds[t] for t, total in zip(order, spent, strict=True) if total <= budget}

    def _in_turn(self, tests: set[str]) -> list[str]:
        """Return the known ones of `tests`: the quickest of each file, then the second of each, and so on."""
        turns: dict[str, int] = defaultdict(int)
        ranked = []
        for test in self.quickest(tests):
            file = test.partition("::")[0]
            ranked.append((turns[file], test))
            turns[file] += 1
        return [test for _, test in sorted(ranked)]

    def _lines(self, module: str) -> dict[int, set[str]]:
        """Return the tests by line of a module; all modules at once would take gigabytes."""
        data = coverage.CoverageData(str(self.tree / ".coverage"))
        data.read()
        file = next((f for f in data.measured_files() if os.path.relpath(f, self.tree) == module), None)
        found = data.contexts_by_lineno(file) if file else {}
        return {line: {c.rpartition("|")[0] for c in contexts if c} for line, contexts in found.items()}

    def without(self, tests: set[str]) -> Reach:
        """Return the same without some tests."""
        return replace(self, seconds={t: s for t, s in self.seconds.items() if t not in tests})

    def timed(self, tests: Iterable[str]) -> dict[str, float]:
        """Return `tests` with their seconds."""
        return {t: self.seconds[t] for t in tests}

    def quickest(self, tests: Iterable[str]) -> list[str]:
        """Return the known ones of `tests` by their time."""
        return sorted(self.seconds.keys() & tests, key=lambda t: (self.seconds[t], t))


def runs_at_import(source: str, line: int) -> bool:
    """Whether a line is in no function's body: a default, a constant, a table."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    return not any(f.body[0].lineno <= line <= (f.end_lineno or 0) for f in functions)


def measure(tree: Path, marks: str) -> Reach:
    """Run the tests of `tree` once; one that fails without a fault is left out, since it notices nothing.

    Raises RuntimeError when they cannot be run.
    """
    env = os.environ | {
        "COVERAGE_FILE": str(tree / ".coverage"),
        "MUTANTS_SECONDS": str(tree / "seconds.json"),
    }
    cover = [a for r in ROOTS for a in ("--cov", r) if (tree / r).is_dir()]
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "-p", "mutants.durations", *cover]
    done = subprocess.run(
        [*command, "--cov-context", "test", "--cov-report", ""], cwd=tree, env=env, check=False
    )
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError("the tests must run without a fault in the sources; see above what is wrong")
    return read(tree)


def read(tree: Path) -> Reach:
    """Read what `measure` left in `tree`."""
    return Reach(tree, json.loads((tree / "seconds.json").read_text()))
