"""Where a fault can be put: a random sample of the places and operators that cosmic-ray knows."""

from __future__ import annotations

import ast
import functools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from llvmlite.binding import get_host_cpu_features

ROOTS = ("arch", "compiler", "simulator", "quantization", "runtime", "evaluation", "interfaces")
_TORCH = "openbpu/quantization/torch/"
_LEFT_OUT = (
    "VariableReplacer",
    "VariableInserter",
    "RemoveDecorator",
    "_Is",
    "_IsNot",
    "_Is_Eq",
    "_IsNot_NotEq",
)
"""Ends of the names of operators left out: the first two take arguments, a decorator is a cache, a
registration or the form of a class, and `is` is `==` for small numbers, flags and members of an Enum."""

_AVX512 = ("bytes64.py", "depthwise64.py", "epilogue64.py", "pack64.py", "packed64.py")
"""Modules that run only where the processor has these registers: nowhere else does a test reach them."""

Position = tuple[int, int]


@dataclass(frozen=True)
class Site:
    """One mutant: the `occurrence`-th place in `module` where an operator of cosmic-ray applies."""

    module: str
    line: int
    operator: str
    occurrence: int

    def mutated(self, root: Path) -> str:
        """Return the text of the module with this fault in it."""
        source = (root / self.module).read_text(encoding="utf-8")
        text = mutate_code(source, plugins.get_operator(self.operator)(), self.occurrence)
        if text is None:
            raise LookupError(f"{self}: the operator has no such place")
        return str(text)


def sample(root: Path, count: int, seed: int, only: str = "", torch: bool = True) -> list[Site]:
    """Draw `count` different places: modules by their size, in each a place, for each place an operator."""
    draw = random.Random(seed)
    out = [] if torch else [_TORCH]
    out += [] if get_host_cpu_features().get("avx512vbmi") else _AVX512
    found_here = (str(p.relative_to(root)) for p in sources(root) if only in str(p))
    modules = [m for m in found_here if not any(part in m for part in out)]
    sizes = [len((root / m).read_bytes()) for m in modules]
    places = functools.cache(lambda module: sorted(find(root, module).items()))
    found: dict[tuple[str, Position], Site] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        module = draw.choices(modules, sizes)[0]
        if not places(module):
            continue
        position, ways = draw.choice(places(module))
        operator, occurrence = draw.choice(ways)
        found.setdefault((module, position), Site(module, position[0], operator, occurrence))
    return list(found.values())


def sources(root: Path) -> list[Path]:
    return sorted(p for r in ROOTS for p in (root / r).rglob("*.py"))


def find(root: Path, module: str) -> dict[Position, list[tuple[str, int]]]:
    """Return operators, and which of their occurrences, by the place in the module that they change."""
    source = (root / module).read_text(encoding="utf-8")
    silent = list(without_effect(ast.parse(source)))
    nodes = list(ast_nodes(get_ast(source)))
    found = defaultdict(list)
    for name, operator in _operators():
        occurrence = 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                if not any(a <= start < b for a, b in silent):
                    found[start].append((name, occurrence))
                occurrence += 1
    return found


@functools.cache
def _operators() -> tuple[tuple[str, Any], ...]:
    names = [n for n in plugins.operator_names() if not n.endswith(_LEFT_OUT)]
    return tuple((n, plugins.get_operator(n)()) for n in names)


def without_effect(tree: ast.AST) -> Iterator[tuple[Position, Position]]:
    """Yield the ranges where a change can change no behaviour: annotations, decorators, `strict=`."""
    for node in ast.walk(tree):
        for part in _silent_parts(node):
            yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def _silent_parts(node: ast.AST) -> Iterator[ast.expr | ast.stmt | ast.keyword]:
    if isinstance(node, ast.AnnAssign):
        yield node.annotation
    if isinstance(node, ast.arg) and node.annotation:
        yield node.annotation
    if isinstance(node, ast.FunctionDef):
        yield from node.decorator_list
        if node.returns:
            yield node.returns
    if isinstance(node, ast.ClassDef):
        yield from node.decorator_list
    if isinstance(node, ast.keyword) and node.arg == "strict":
        yield node
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        yield node.test
        yield from node.body
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
        yield node.args[0]
