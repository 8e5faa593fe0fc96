"""Single operators with random fields, tiled by hand: bits, saturations, cycles and bytes as they were.

No compiler has a part in it: what changes here changed in the simulator or in the rules of `arch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.pinned import digest, figures
from conftest import Golden
from openbpu.arch.march import get_march
from openbpu.simulator.exact import ExactSegment
from openbpu.simulator.fast import FastSegment
from openbpu.simulator.fast.jit.cpu import host
from simulator.build import segment_of
from simulator.random_operators import CASES, program_of
from simulator.test_fast_operators import VECTORISED
from simulator.tiles import tiled

MARCHES = ("nash-e", "bayes", "nash-p")
LACKING = ("quantize", "dequantize", "top_k")
"""What bayes has no unit for."""
SEEDS = range(100, 106)
MORE = {"binary": range(100, 130), "segment_lut": range(100, 101)}
"""Of functions there are many; segmented tables take long to make."""


def pinned(kind: str, seed: int, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    program, inputs = program_of(kind, seed)
    program = tiled(program)
    segment = segment_of(program)
    exact = ExactSegment(program, segment)
    bits = exact.run(inputs)
    for mode in host().modes() if kind in VECTORISED else host().modes()[:1]:
        patch.setenv("OPENBPU_KERNELS", mode)
        fast = FastSegment(program, segment, 1)
        again = fast.run(inputs)
        for tensor, value in bits.items():
            np.testing.assert_array_equal(again[tensor], value, mode)
        assert fast.saturations == exact.saturations
    march = get_march("nash-m" if kind in LACKING else MARCHES[seed % 3])
    costs = figures(program, march, file=False)["bpu"][0]
    made = {key: costs[key] for key in ("cycles", "busy", "code")}
    return {**made, "bits": digest(*bits.values()), "saturations": digest(exact.saturations)}


@pytest.mark.parametrize("kind", CASES)
def test_an_operator_has_the_bits_and_cycles_it_had(
    kind: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden(
        "pinned_bits",
        {str(seed): pinned(kind, seed, monkeypatch) for seed in MORE.get(kind, SEEDS)},
        entry=kind,
    )
