"""Every operator in each of its forms: what it is lowered to, what it costs, and its bits, as they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from compiler.pinned import digest, figures, results, said
from conftest import Golden
from openbpu.arch.march import get_march
from openbpu.compiler import compile as build
from openbpu.compiler.ops import OPS
from witness.drawn import coarse
from witness.emit import LATER
from witness.single_op import SINGLE_OP_CASES, Case, single_op_model

MARCHES = ("nash-e", "bayes-e", "nash-m", "bayes", "nash-p")
_OFTEN = 2
"""Operators that a variation is tried with, but for the first of each: many share theirs."""


def _chosen(cases: Iterable[Case]) -> Iterator[Case]:
    """Leave out other types than 8 bits (`pinned_networks` has them), and what was tried with others.

    Of operators that came later nothing is left out for others: their entries stay when more of them come.
    """
    operators, forms = set[str](), Counter[str]()
    for case in cases:
        form = f"{case.name} {sorted(case.variation.items())}"
        if {"style", "output"} & case.variation.keys():
            continue
        if case.op in LATER:
            yield case
            continue
        if case.op in operators and forms[form] >= _OFTEN:
            continue
        operators.add(case.op)
        forms[form] += 1
        yield case


CASES = list(_chosen(SINGLE_OP_CASES))
EACH = {op: [c for c in CASES if c.op == op] for op in dict.fromkeys(c.op for c in CASES)}


def pinned(case: Case, number: int) -> dict[str, Any]:
    """What a model of one operator becomes under the march and the level of its number."""
    march = get_march(MARCHES[number % len(MARCHES)])
    style = ("int8", "int8", "uint8", "int8-asymmetric", "int8-ties")[number % 5 - number // 5 % 5]
    model, inputs = single_op_model(case.op, **{**case.variation, "style": coarse(style)})
    wish = (case.op,) if case.op in OPS else ()
    program = build(model, march=march, opt=(2, 1, 0)[number % 3], bpu_ops=wish)
    made = figures(program, march)
    code = digest(made["bpu"])
    found: dict[str, Any] = {
        "on": f"{march.name}, {style}",
        "file": made["file"],
        "code": f"{sum(s['cycles'] for s in made['bpu'])} cycles, {code}",
        "operators": "; ".join(f"{k} {v}" for s in made["bpu"] for k, v in s["operators"].items()),
    }
    floats = [row for row in program.placement if row.on == "CPU" and "Linear" not in row.op]
    if floats:
        found["placement"] = [said(row) for row in floats]
    else:
        found["results"] = " ".join(results(program, inputs).values())
    return found


@pytest.mark.parametrize("op", EACH)
def test_an_operator_compiles_to_what_it_did(op: str, golden: Golden) -> None:
    first = 0 if op in LATER else CASES.index(EACH[op][0])
    made = {case.name: pinned(case, first + n) for n, case in enumerate(EACH[op])}
    golden("pinned_operators", made, entry=op)
