"""Facts about the files of the packages: no circle of imports, whether of files or of folders, none too long.

Counted is every import that stands in a file, also within a function or below `if TYPE_CHECKING`: a circle
that a late import hides is still one, and nobody can read, test or move one of its files without the others.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from test_layout import REPO, ROOTS

MOST_LINES = 400


def name_of(module: Path, root: Path) -> str:
    parts = module.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    """Every module of the seven roots by its dotted name."""
    roots = [REPO / root for root in ROOTS]
    return {name_of(path, root): path for root in roots for path in (root / "openbpu").rglob("*.py")}


def imported(source: str, known: AbstractSet[str]) -> Iterator[str]:
    """The modules among `known` that a source imports. The sources have no relative imports (ruff TID252)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in known else node.module for name in inner} & known


def edges() -> dict[str, set[str]]:
    """Module → the modules it imports."""
    known = modules()
    names = known.keys()
    return {n: {*imported(p.read_text(encoding="utf-8"), names)} - {n} for n, p in known.items()}


def within(folder: str, of: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same between the files and the folders in one folder: what is in a folder counts as the folder."""

    def unit(name: str) -> str | None:
        inside = name.removeprefix(f"{folder}.")
        return f"{folder}.{inside.partition('.')[0]}" if inside != name else None

    between: dict[str, set[str]] = {}
    for name, targets in of.items():
        source = unit(name)
        if source is not None:
            between.setdefault(source, set()).update(t for t in map(unit, targets) if t and t != source)
    return between


def circles(of: Mapping[str, set[str]]) -> list[frozenset[str]]:
    """The strongly connected parts of more than one name: sets in which each leads to each."""
    ahead = {name: reachable(name, of) for name in of}
    found = {frozenset(n for n in ahead[name] if name in ahead.get(n, ())) for name in of}
    return sorted((c for c in found if len(c) > 1), key=sorted)


def reachable(start: str, of: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = of.get(todo.pop(), set()) - seen
        seen |= new
        todo.extend(new)
    return seen


def words(circle: frozenset[str], of: Mapping[str, set[str]]) -> str:
    """Who imports whom in a circle."""
    return "\n".join(f"{name} imports {', '.join(sorted(of[name] & circle))}" for name in sorted(circle))


EDGES = edges()
FOLDERS = sorted({"openbpu", *(name for name, path in modules().items() if path.name == "__init__.py")})


def folder_id(name: str) -> str:
    return name.removeprefix("openbpu.")


def test_no_circle_of_files() -> None:
    found = circles(EDGES)
    assert not found, "\n\n".join(words(c, EDGES) for c in found)


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_no_circle_of_files_and_folders_in(folder: str) -> None:
    inside = within(folder, EDGES)
    found = circles(inside)
    assert not found, "\n\n".join(words(c, inside) for c in found)


def test_a_circle_is_found_however_late_its_import() -> None:
    late = "def f():\n    from openbpu.a import y\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from openbpu.b.c import X\n"
    known = {"openbpu.a", "openbpu.b", "openbpu.b.c", "openbpu.d"}
    of = {"openbpu.a": set(imported(typed, known)), "openbpu.b.c": set(imported(late, known))}
    assert circles(of) == [frozenset({"openbpu.a", "openbpu.b.c"})]
    assert circles(within("openbpu", of)) == [frozenset({"openbpu.a", "openbpu.b"})]


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    files = [*modules().values(), *(REPO / "tests").rglob("*.py"), *(REPO / "benchmarks").rglob("*.py")]
    lengths = {str(path.relative_to(REPO)): path.read_text(encoding="utf-8").count("\n") for path in files}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


OWN_ALIASES = {
    "openbpu.evaluation.reference.kernel",  # it may not import arch
    "openbpu.compiler.ir.graph",
    "openbpu.compiler.passes.compose",
    "openbpu.compiler.schedule.problem.index_maps",
}
"""What has an alias of its own under a name of `arch.arrays`: this list gets no longer."""


def test_arrays_are_named_in_one_place() -> None:
    alias = re.compile(
        r"^(Array|Bytes|Floats?\d*|Ints?\d+)\b.*= *npt\.NDArray\[(Any|np\.\w+\d+)\]$", re.MULTILINE
    )
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    found = {name for name, source in sources.items() if alias.search(source)} - {"openbpu.arch.arrays"}
    assert found <= OWN_ALIASES
