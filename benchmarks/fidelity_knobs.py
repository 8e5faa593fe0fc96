"""Which numbers of a march are fitted, from where, and within which bounds."""

from __future__ import annotations

from collections.abc import Sequence

from fidelity_fit import Knob

GIGA = 1_000_000_000

_HIGHEST = 77 * GIGA
"""The peak of a 96-bit LPDDR5 at 6400 MT/s."""
_SUBMIT = Knob("cpu.submit_us", 300, 20, 2000)
_DEQUANTIZE = Knob("cpu.dequantize_ps", 300, 5, 10_000)
_CORE = (
    Knob("tae.stall_permille", 200, 20, 1500),
    Knob("tae.weight_bytes_per_cycle", 64, 8, 1024),
    Knob("tae.vector_bytes_per_cycle", 20, 4, 1024),
    Knob("tae.raw_lanes", 4, 1, 256),
    Knob("tae.matrix_ns", 500, 1, 3000),
    Knob("vae.softmax_passes", 8, 3, 40),
    Knob("trans.elements_per_cycle", 6, 2, 128),
    Knob("chip.layer_cycles", 200, 1, 4000),
    Knob("chip.table_ns", 1500, 1, 4000),
    Knob("chip.port_bytes_per_cycle", 64, 16, 1024),
    Knob("chip.start_us", 20, 1, 200),
)
_E_AND_M = (
    *_CORE,
    *(Knob("ddr.bytes_per_second", 60 * GIGA, 18 * GIGA, _HIGHEST, march) for march in ("nash-e", "nash-m")),
)
_P = (
    Knob("chip.clock_hz", 2 * GIGA, GIGA, 3 * GIGA),
    Knob("ddr.bytes_per_second", 60 * GIGA, 18 * GIGA, 200 * GIGA),
    Knob("ddr.shared_bytes_per_second", 160 * GIGA, 60 * GIGA, 400 * GIGA),
    Knob("chip.port_bytes_per_cycle", 64, 16, 1024),
    Knob("cpu.serial_us", 50, 10, 100),
)
_BAYES = (
    Knob("tae.stall_permille", 250, 20, 800),
    Knob("tae.depthwise_lanes", 128, 32, 1024),
    Knob("tae.weight_bytes_per_cycle", 64, 8, 256),
    Knob("tae.issue_cycles", 24, 4, 300),
    Knob("tae.matrix_ns", 20_000, 500, 100_000),
    Knob("trans.elements_per_cycle", 8, 1, 32),
    Knob("ddr.bytes_per_second", 7 * GIGA, 4 * GIGA, 17 * GIGA),
    Knob("chip.start_us", 20, 1, 100),
    Knob("chip.layer_cycles", 300, 50, 3000),
    Knob("cpu.flops_per_cycle", 8, 1, 16),
)
_HOST = {
    "nash-e": (_SUBMIT, _DEQUANTIZE),
    "nash-m": (_SUBMIT,),
    "nash-p": (_SUBMIT, _DEQUANTIZE),
    "bayes-e": (_SUBMIT, Knob("cpu.dequantize_ps", 2000, 5, 20_000)),
}
_KNOBS = {"nash-e": _E_AND_M, "nash-m": _E_AND_M, "nash-p": _P, "bayes-e": _BAYES}
"""nash-m and nash-p have nash-e's core: its cycles and its fixed times are theirs."""


def knobs(marches: Sequence[str]) -> tuple[Knob, ...]:
    """Return the knobs of marches that are fitted together; they start at first guesses, not where an earlier
    fit left a file.
    """
    return _KNOBS[marches[0]]


def host_knobs(march: str) -> tuple[Knob, ...]:
    """Return the knobs of the host: what one thread waits for besides the segments."""
    return _HOST[march]
