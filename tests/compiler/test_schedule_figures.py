"""What schedules of small networks cost. No rule says that a choice must be this one; a change is to be seen.

The memories are small, so that every choice there is (tiles, homes, groups, spills, parts of cores) is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from compiler.chains import Net, random_net
from compiler.scheduling import chip_of, scheduled
from conftest import Golden
from openbpu.arch.isa import decode
from openbpu.arch.march import March
from openbpu.arch.program import Program
from openbpu.simulator.timing.simulate import simulate
from simulator.build import segment_of

KIB = 1 << 10


def figures(program: Program, march: March, **effort: int) -> dict[str, object]:
    done = scheduled(program, march, effort.pop("opt"), with_constants=True, **effort)
    segment = segment_of(done)
    timing = simulate(done, segment, march)
    kinds = Counter(type(i).__name__ for code in segment.code for i in decode(code))
    return {
        "cycles": timing.cycles,
        "loaded": timing.loaded,
        "stored": timing.stored,
        "chip": segment.chip_bytes,
        "l2m": segment.l2m_bytes,
        "ddr": done.ddr_bytes,
        "instructions": dict(sorted(kinds.items())),
    }


def plain() -> Program:
    net = Net()
    x = net.b.input((1, 14, 14, 32))
    for _ in range(3):
        x = net.conv(x, 32)
    return net.program([x])


def split() -> Program:
    """What YOLO networks are made of."""
    net = Net()
    x = net.conv(net.b.input((1, 10, 10, 16)), 32, 1)
    left, right = net.slice(x, 0, 16), net.slice(x, 16, 32)
    deeper = net.sum(net.conv(net.conv(right, 16), 16), right)
    return net.program([net.conv(net.concat([left, right, deeper]), 32, 1)])


def wide() -> Program:
    """What lies between the layers is larger than what goes in and comes out."""
    net = Net()
    x = net.b.input((1, 28, 28, 8))
    return net.program([net.pool(net.conv(net.conv(x, 16), 32), 3, 2)])


def heavy() -> Program:
    """Weights and images that are both larger than a tile."""
    net = Net()
    x = net.b.input((1, 7, 7, 128))
    for _ in range(2):
        x = net.conv(x, 128)
    return net.program([net.softmax(net.mean(x))])


NETS: dict[str, Callable[[], Program]] = {"plain": plain, "split": split, "wide": wide, "heavy": heavy}
EFFORTS: tuple[dict[str, int], ...] = (
    {"opt": 0},
    {"opt": 1},
    {"opt": 2},
    {"opt": 2, "balance": 0},
    {"opt": 2, "cores": 2},
    {"opt": 2, "cores": 3, "l2m_bytes": 8 * KIB},
)


def test_schedules_of_small_networks_cost_what_they_did(golden: Golden) -> None:
    made = {}
    for number, (name, net) in enumerate(NETS.items()):
        for turn, effort in enumerate(EFFORTS):
            kib = (12, 24, 48)[(number + turn) % 3]
            key = f"{name}, {kib} KiB, {', '.join(f'{k} {v}' for k, v in effort.items())}"
            made[key] = figures(net(), chip_of(kib * KIB), **effort)
    golden("schedules", made)


def test_schedules_of_drawn_networks_cost_what_they_did(golden: Golden) -> None:
    made = {}
    for seed in range(24):
        kib, effort, march = (6, 8, 12)[seed % 3], EFFORTS[1 + seed % 5], ("nash-e", "bayes")[seed % 2]
        key = f"seed {seed}, {march}, {kib} KiB, {', '.join(f'{k} {v}' for k, v in effort.items())}"
        made[key] = figures(random_net(seed), chip_of(kib * KIB, march), **effort)
    golden("drawn_schedules", made)
