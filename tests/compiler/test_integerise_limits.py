"""Every limit of the operator table refuses, with the march's number and the actual value in the reason."""

from __future__ import annotations

import pytest

from compiler.limit_cases import BREAKING, Case, cases, key_of
from compiler.one_operator import conv
from compiler.passing import passed
from openbpu.arch.march import get_march, march_names
from openbpu.arch.program import Placement
from openbpu.compiler import check
from openbpu.compiler.ops import OPS
from openbpu.compiler.passes import NORMALISE
from openbpu.compiler.passes.integerise import integerise

MARCHES = [name for name in march_names() if get_march(name).target]
CASES = cases()


def row(rows: tuple[Placement, ...], op: str) -> Placement:
    return next(r for r in rows if r.op == op)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_a_broken_limit_is_the_reason(case: Case, march: str) -> None:
    target = case.on(get_march(march))
    network, actual = case.breaks(target.limits)
    if "fused Add" in case.limit.text:  # it is got round by a rounding in front of the Add
        _, refusals = integerise(passed(network.model(), *(step for step, _ in NORMALISE)), target)
        (reason,) = (r.reason for name, r in refusals.items() if name.startswith("Add"))
        assert reason.endswith(f"{case.limit.text.format_map(target.limits)}, not {actual}")
        return
    found = row(check(network.model(), march=target, bpu_ops=(case.op,)), case.op)
    assert found.on == "CPU"
    if found.reason == f"{march} has no BPU unit for {case.op}":
        assert target.cpu_ops[case.op].when == "always"
        return
    assert found.reason.endswith(f"{case.limit.text.format_map(target.limits)}, not {actual}")
    assert found.fix == case.limit.fix


def test_every_limit_has_a_model_that_breaks_it() -> None:
    table = {(op, key_of(limit)) for op, rule in OPS.items() for limit in rule.limits}
    known = {(op, key) for op, keys in BREAKING.items() for key in keys}
    missing = [
        f'write BREAKING["{op}"]["{key}"] in tests/operators/{op.lower()}.py' for op, key in table - known
    ]
    assert not missing, (
        f"tests: a model that breaks a limit must be given, not left out; {'; '.join(missing)}"
    )
    assert known == table


@pytest.mark.parametrize("march", MARCHES)
def test_the_last_layer_may_have_more_output_channels(march: str) -> None:
    limits = get_march(march).limits
    shapes = (1, 1, 1, 1), (limits["conv_outputs_max"] + 1, 1, 1, 1)
    assert row(check(conv(*shapes, last=True).model(), march=march), "Conv").on == "BPU"
    too_many = limits["conv_outputs_last_max"] + 1
    found = row(check(conv((1, 1, 1, 1), (too_many, 1, 1, 1), last=True).model(), march=march), "Conv")
    assert found.reason.endswith(f"not {too_many}")
