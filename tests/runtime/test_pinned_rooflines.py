"""Rooflines of drawn networks between whose layers the CPU works: everything they say, as it was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from conftest import Golden
from openbpu.arch.march import March, get_march
from openbpu.arch.program import Program
from openbpu.compiler import compile as build
from openbpu.runtime.roofline import analyse
from witness.drawn import drawn_model

SEEDS = (1, 2, 5, 7, 13, 14, 20, 21)
MARCHES = ("nash-e", "nash-p", "bayes")


def said(program: Program, march: March) -> dict[str, Any]:
    """What every line says, in words and figures of four digits."""
    found = analyse(program, march)
    lines: list[Any] = [*found.layers, *found.cpu, *found.changes]
    return {f"{type(line).__name__} {number}": _told(asdict(line)) for number, line in enumerate(lines)}


def _told(line: dict[str, Any]) -> str:
    texts, figures = [], []
    for key, value in _leaves(line):
        if isinstance(value, str):
            texts.append(value)
        else:
            figures.append(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}")
    return f"{' · '.join(filter(None, texts))} [{' '.join(figures)}]"


def _leaves(value: dict[str, Any], where: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        name = f"{where}{key}"
        found += _leaves(inner, f"{name}.") if isinstance(inner, dict) else [(name, inner)]
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_roofline_of_a_drawn_network_says_what_it_did(seed: int, golden: Golden) -> None:
    march = get_march(MARCHES[seed % 3])
    model, _ = drawn_model(seed, 5)
    program = build(model, march=march, core_num=min(march.cores, 1 + seed % 2))
    golden("pinned_rooflines", said(program, march), entry=f"{seed:02}, {march.name}")


@pytest.mark.parametrize("seed", range(40, 44))
def test_the_roofline_of_a_hand_made_network_says_what_it_did(seed: int, golden: Golden) -> None:
    march = chip_of((6, 8, 12, 64)[seed % 4] << 10, MARCHES[seed % 3])
    cores = 1 + seed % 2 if march.cores > 1 else 1
    program = scheduled(random_net(seed), march, (2, 1, 0)[seed % 3 * (seed % 2)], cores=cores)
    golden("pinned_rooflines", said(program, march), entry=f"net {seed}")
