"""Rooflines of drawn networks, figure by figure: no rule says all of them, a change is to be seen."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from conftest import Golden
from openbpu.arch.dtypes import DType
from openbpu.arch.march import March, get_march
from openbpu.arch.program import Program
from openbpu.compiler import compile as build
from openbpu.runtime.roofline import analyse
from runtime.models import conv_program
from runtime.qdq import mixed_model


def figures(program: Program, march: March) -> dict[str, Any]:
    """Everything a roofline says, floats to the tenth of a nanosecond."""
    found = analyse(program, march)
    return {
        "layers": [_rounded(asdict(line)) for line in found.layers],
        "cpu": [_rounded(asdict(bound)) for bound in found.cpu],
        "changes": [_rounded(asdict(change)) for change in found.changes],
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def test_rooflines_of_drawn_networks_say_what_they_did(golden: Golden) -> None:
    made = {}
    for seed in range(8):
        kib, march = (6, 64)[seed // 2 % 2], ("nash-e", "bayes")[seed % 2]
        chip = chip_of(kib << 10, march)
        made[f"seed {seed}, {march}, {kib} KiB"] = figures(scheduled(random_net(seed), chip, 2), chip)
    golden("rooflines", made)


def test_rooflines_of_single_convolutions_say_what_they_did(golden: Golden) -> None:
    made = {}
    sizes = itertools.product((16, 32, 33, 65), (1, 3, 5), (DType.INT8, DType.INT16))
    for number, (channels, kernel, dtype) in enumerate(sizes):
        groups, c_out = (channels, channels) if number % 4 == 3 else (1, (48, 64, 20)[number % 3])
        program = conv_program(channels, c_out, 8, kernel, groups, dtype)
        march = ("nash-e", "bayes", "nash-p")[number % 3]
        key = f"{channels} → {c_out}, kernel {kernel}, {groups} groups, {dtype.value}, {march}"
        made[key] = figures(program, get_march(march))
    golden("convolution_rooflines", made)


def test_the_roofline_of_a_model_that_the_cpu_parts_says_what_it_did(golden: Golden) -> None:
    golden("mixed_roofline", figures(build(mixed_model(), march="nash-e"), get_march("nash-e")))
