"""Which numbers of a march are fitted, from where, and within which bounds."""

from __future__ import annotations

from fidelity_fit import Knob

GIGA = 1_000_000_000

_NASH = (
    Knob("tae.stall_permille", 600, 50, 1500),
    Knob("tae.depthwise_lanes", 1024, 256, 8192),
    Knob("tae.issue_cycles", 24, 4, 300),
    Knob("vae.softmax_passes", 6, 3, 40),
    Knob("trans.elements_per_cycle", 16, 2, 128),
    Knob("ddr.bytes_per_second", 36 * GIGA, 18 * GIGA, 60 * GIGA),
    Knob("chip.start_us", 100, 1, 200),
    Knob("chip.layer_cycles", 300, 1, 3000),
)
_OWN = (Knob("ddr.bytes_per_second", 50 * GIGA, 20 * GIGA, 100 * GIGA), Knob("chip.start_us", 100, 1, 200))
_BAYES = (
    Knob("tae.stall_permille", 250, 20, 800),
    Knob("tae.depthwise_lanes", 128, 32, 1024),
    Knob("tae.weight_bytes_per_cycle", 64, 8, 256),
    Knob("tae.issue_cycles", 24, 4, 300),
    Knob("trans.elements_per_cycle", 8, 1, 32),
    Knob("ddr.bytes_per_second", 7 * GIGA, 4 * GIGA, 17 * GIGA),
    Knob("chip.start_us", 20, 1, 100),
    Knob("chip.layer_cycles", 300, 50, 3000),
    Knob("cpu.bytes_per_second", 4 * GIGA, GIGA // 2, 20 * GIGA),
    Knob("cpu.handover_us", 500, 20, 2000),
    Knob("cpu.flops_per_cycle", 4, 1, 16),
)
_KNOBS = {
    "nash-e": _NASH,
    "nash-m": _OWN,
    "nash-p": (*_OWN, Knob("chip.clock_hz", 7 * GIGA // 4, GIGA, 5 * GIGA // 2)),
    "bayes-e": _BAYES,
}
"""nash-m and nash-p have nash-e's core: only what lies around it is theirs."""


def knobs(march: str) -> tuple[Knob, ...]:
    """Return the knobs of a march; they start at first guesses, not where an earlier fit left its file."""
    return _KNOBS[march]
