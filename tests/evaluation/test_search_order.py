"""The search on a made-up network, whose every configuration has a known score and latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from openbpu.evaluation.distribution import Pool
from openbpu.evaluation.search.conclude import concluded
from openbpu.evaluation.search.noise import output_noise
from openbpu.evaluation.search.order import Book
from openbpu.evaluation.search.prefixes import Prefixes
from openbpu.evaluation.search.readers import Readers
from openbpu.evaluation.search.result import Gain, Goal, Search, loss_of, on_front
from openbpu.evaluation.search.score import Judged
from openbpu.evaluation.search.setup import Recipe, Setup
from openbpu.evaluation.search.trial import Trial
from openbpu.evaluation.search.trials import BASE, Trials
from openbpu.evaluation.search.walk import walk

NODES = [f"n{k}" for k in range(24)]


@dataclass
class World:
    """Nodes in a row. noise: what int8 of each costs the score · left: what int16 leaves · us: of int16.

    won: what corrections win of the score at no time · mse: the share of the loss that these ranges win ·
    dear: what they add to the latency · rounded: what adaptive rounding wins · harm: what bias correction
    takes of it · lucky: with so many nodes in int16 nothing is lost.
    """

    noise: dict[str, float]
    left: dict[str, float] = field(default_factory=dict)
    us: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NODES, 1.0))
    won: float = 0.0
    rounded: float = 0.0
    harm: float = 0.0
    lucky: int = 0
    mse: float = 0.0
    dear: float = 0.0
    asked: list[Setup] = field(default_factory=list)

    def tried(self, setup: Setup) -> Trial:
        self.asked.append(setup)
        types = dict(setup.types)
        lost = sum(n for name, n in self.noise.items() if name not in types)
        lost += sum(n for name, n in self.left.items() if types.get(name) != "float")
        corrections = setup.recipe.corrections
        won = self.won - self.harm if corrections.bias_correction else 0.0
        won += self.rounded if corrections.adaptive_rounding else 0.0
        won += self.mse * lost if setup.recipe.method == "mse" else 0.0
        lost -= min(won, lost)
        cpu = 40.0 * sum(kind == "float" for kind in types.values())
        times = {name: 4.0 + (self.us[name] if types.get(name) == "int16" else 0.0) for name in NODES}
        if len(types) == self.lucky > 0:
            lost = 0.0
        us = sum(times.values()) + (self.dear if setup.recipe.method == "mse" else 0.0)
        return Trial(1 - lost, 1 - lost, us, cpu, (), times)

    def search(self, goal: Goal, most: int = 60) -> Search:
        test = SimpleNamespace(larger=True, metric=SimpleNamespace(name="score"))
        bench = SimpleNamespace(
            job=SimpleNamespace(test=test, base={}),
            tried=self.tried,
            scorer=SimpleNamespace(float=lambda: Judged(1.0, 1.0, False), samples=1, told=()),
            march=SimpleNamespace(name="made up", cpu=SimpleNamespace(handover_us=40)),
        )
        readers = [Readers(f"t of {name}", f"v of {name}", (name,)) for name in NODES]
        noise = {f"t of {name}": n for name, n in self.noise.items()}
        worst = sorted(self.left, key=lambda name: -self.left[name])
        senses = SimpleNamespace(readers=lambda _: (readers, noise), noisiest=lambda _: worst)
        trials = Trials(cast(Any, bench), goal, Pool(), most, lambda *_: None)
        return concluded(trials, walk(trials, cast(Any, senses)), ())


def few(**noise: float) -> dict[str, float]:
    return dict.fromkeys(NODES, 1e-5) | noise


def test_a_budget_is_met_by_the_nodes_that_need_it_and_no_others() -> None:
    found = World(few(n3=0.02, n11=0.03, n17=0.01)).search(Goal(budget=0.005))
    assert found.reached
    assert found.nodes("int16") == ("n3", "n11", "n17")
    assert found.best.increase == pytest.approx(3 / 96)
    assert found.best.loss < 0.005


def test_cheap_nodes_come_before_dear_ones_of_the_same_noise() -> None:
    world = World(dict.fromkeys(NODES[:8], 0.01), us=dict.fromkeys(NODES, 1.0) | {"n0": 9.0, "n1": 8.0})
    found = world.search(Goal(budget=0.021))
    assert set(found.nodes("int16")) == set(NODES[2:8])


def test_what_was_not_needed_is_taken_back() -> None:
    """The noise that was measured alone says nothing of n5, and too much of n6 to n9."""
    world = World(few(n5=0.05))
    told = few(**dict.fromkeys(("n6", "n7", "n8", "n9"), 0.5), n5=0.1)
    seen = replace(world, noise=told)
    seen.tried = world.tried  # type: ignore[method-assign]  # what is true, whatever was measured
    found = seen.search(Goal(budget=0.01))
    assert found.reached
    assert found.nodes("int16") == ("n5",)


def test_recipes_that_cost_no_time_come_first() -> None:
    world = World(few(n3=0.02), won=0.02)
    found = world.search(Goal(budget=0.005))
    assert found.nodes("int16") == ()
    assert found.best.increase == 0.0
    assert all(not setup.types for setup in world.asked)
    assert len(World(few(), won=1).search(Goal(budget=0.01)).points) == 1  # nothing to win


def test_a_recipe_is_left_out_where_types_alone_do() -> None:
    found = World(few(n3=0.02, n4=0.001), won=0.001).search(Goal(budget=0.005))
    assert (found.best.name, found.nodes("int16")) == ("1 int16", ("n3",))
    needed = World(dict.fromkeys(NODES, 0.001) | {"n3": 0.02}, won=0.018).search(Goal(budget=0.006))
    assert needed.best.name.startswith("--asymmetric, --equalisation") is False
    assert needed.best.setup.recipe.words[-1] == "--bias-correction"


def test_a_method_is_taken_where_it_costs_no_time_and_only_there() -> None:
    """A Concat whose operands have ranges of their own rounds them anew."""
    assert World(few(n3=0.02), mse=0.5).search(Goal(budget=0.012)).best.name == "--method mse"
    found = World(few(n3=0.02), mse=0.5, dear=3.0).search(Goal(budget=0.012))
    assert found.best.name == "1 int16"
    assert found.best.increase == pytest.approx(1 / 96)
    assert not any("mse" in point.name for point in found.points[4:])


def test_corrections_come_where_they_save_nodes_and_in_few_trials() -> None:
    world = World(dict.fromkeys(NODES, 0.004), won=0.03)
    found = world.search(Goal(budget=0.03))  # 17 of 24 nodes without them, 9 with them
    assert found.reached
    assert "--adaptive-rounding" in found.best.name
    assert len(found.nodes("int16")) <= 11
    assert sum(setup.recipe.corrections.adaptive_rounding for setup in world.asked) <= 5


def test_of_corrections_those_are_kept_that_help() -> None:
    """Means that are set right by few samples can cost what rounding wins."""
    world = World(dict.fromkeys(NODES, 0.004), harm=0.01, rounded=0.04)
    for goal in (Goal(budget=0.03), Goal(None, 0.1)):
        found = world.search(goal)
        assert found.reached
        assert found.best.setup.recipe.words == ("--adaptive-rounding",)


def test_a_latency_with_no_room_for_a_hand_over_tries_no_floats() -> None:
    left = {"n9": 0.03}
    for share, tried in ((0.3, False), (0.9, True)):
        found = World(few(n3=0.02), left=left).search(Goal(budget=0.005, latency=share))
        assert any(point.setup.named("float") for point in found.points) is tried


def test_what_is_good_while_more_of_the_same_is_not_is_so_by_chance() -> None:
    noise = {name: 0.02 / (k + 1) for k, name in enumerate(NODES)}
    sure = World(noise).search(Goal(budget=0.03))
    found = World(noise, lucky=1).search(Goal(budget=0.03))
    assert any(point.loss == 0 and len(point.setup.types) == 1 for point in found.points)  # tried, and good
    assert found.best.setup == sure.best.setup
    assert len(sure.nodes("int16")) > 1


def test_where_int16_does_not_do_the_noisiest_nodes_are_float() -> None:
    found = World(few(n3=0.02), left={"n9": 0.03, "n2": 0.001}).search(Goal(budget=0.005))
    assert found.reached
    assert (found.nodes("int16"), found.nodes("float")) == (("n3",), ("n9",))
    assert found.best.cpu_us == 40.0


def test_a_budget_out_of_reach_is_said_with_what_comes_closest() -> None:
    left = dict.fromkeys(NODES, 0.01)
    found = World(few(n3=0.2), left=left).search(Goal(budget=0.01))
    assert not found.reached
    assert found.best.loss == min(p.loss for p in found.points)
    assert found.why.startswith("the budget of 1 % is not reached: the closest is 8.0")
    assert "int16 for every node does not do, nor float for the noisiest" in found.why


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.26])
def test_a_latency_is_used_up_and_not_exceeded(share: float) -> None:
    noise = {name: 0.02 / (k + 1) for k, name in enumerate(NODES)}
    found = World(noise).search(Goal(None, share))
    assert found.reached
    assert found.best.increase <= share + 1e-12
    assert len(found.nodes("int16")) == min(int(96 * share + 1e-9), 24)  # one µs each of 96
    assert found.best.loss == min(p.loss for p in found.points if p.increase <= share)


def test_a_budget_and_a_latency_are_both_kept() -> None:
    world = World(few(n3=0.02, n11=0.03, n17=0.01))
    both = world.search(Goal(budget=0.005, latency=0.04))
    assert both.reached
    assert both.nodes("int16") == ("n3", "n11", "n17")
    tight = world.search(Goal(budget=0.005, latency=0.025))  # two nodes of 96 µs
    assert not tight.reached
    assert tight.nodes("int16") == ("n3", "n11")
    assert tight.why.endswith("is 1.02 % below float at +2.1 % latency, where +2.5 % are allowed")
    assert tight.goal.words == "within 0.5 % of float at the fewest µs, at no more than +2.5 % latency"


def test_the_front_is_monotone_and_nothing_beats_it() -> None:
    found = World(few(n3=0.02, n11=0.03, n17=0.01)).search(Goal(budget=0.0001))
    front = found.front
    assert len(front) > 3
    assert [p.latency_us for p in front] == sorted({p.latency_us for p in front})
    assert [p.loss for p in front] == sorted({p.loss for p in front}, reverse=True)
    for point in found.points:
        assert any(p.latency_us <= point.latency_us and p.loss <= point.loss for p in front)


def test_no_more_trials_than_asked_for_and_none_twice() -> None:
    world = World(few(n3=0.02, n11=0.03))
    found = world.search(Goal(budget=0.0), most=9)
    assert len(found.points) == len(world.asked) == len(set(world.asked)) == 9
    assert world.asked[0] == BASE


def test_losses_are_shares_of_what_float_has() -> None:
    assert loss_of(0.9, 1.0, larger=True) == pytest.approx(0.1)
    assert loss_of(22.0, 20.0, larger=False) == pytest.approx(0.1)
    assert loss_of(-1.1, -1.0, larger=True) == pytest.approx(0.1)
    assert loss_of(0.0, 0.0, larger=False) == 0.0
    assert loss_of(0.1, 0.0, larger=False) == float("inf")


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert on_front([1, 1, 2, 2, 3], [0.5, 0.5, 0.4, 0.6, 0.4]) == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("costs", "share", "groups"),
    [
        ([1, 1, 1, 1], 1.0, 4),
        ([1, 1, 1, 1], 0.75, 3),
        ([1, 1, 1, 1], 0.74, 2),
        ([1, 1, 1, 1], 0.25, 1),
        ([1, 1, 1, 1], 0.0, 1),  # at least one
        ([1, 1, 1, 1], 2.0, 4),
        ([3, 1], 0.7, 1),
        ([1, 3], 0.25, 1),
        ([0.1] * 10, 0.3, 3),  # the sum of three is a little more than 0.3
        ([0, 0, 1], 0.0, 2),  # what costs nothing
        ([0, 0, 0], 0.0, 3),
    ],
)
def test_a_share_of_the_cost_is_not_exceeded(costs: list[float], share: float, groups: int) -> None:
    gains = [Gain(name, (name,), 0.1, us) for name, us in zip(NODES, costs, strict=False)]
    assert Prefixes(cast(Any, None), Recipe(), gains, NODES).at(share) == groups


def order(
    found: Sequence[tuple[str, Sequence[str], float]], costs: dict[str, float]
) -> list[tuple[str, ...]]:
    readers = [Readers(tensor, tensor, tuple(nodes)) for tensor, nodes, _ in found]
    noise = {tensor: n for tensor, _, n in found}
    return [gain.nodes for gain in Book(readers, noise, costs, 0.01).ordered()]


def test_a_node_that_reads_two_tensors_is_paid_for_once() -> None:
    """b alone is not worth its Add; behind a, which has paid for it, b comes before c."""
    found = [("a", ["conv", "add"], 10.0), ("b", ["add"], 1.0), ("c", ["other"], 1.5)]
    costs = {"conv": 1.0, "add": 2.0, "other": 1.0}
    assert order(found, costs) == [("conv", "add"), ("other",)]  # b is int16 with a
    apart = [("a", ["conv"], 10.0), ("b", ["conv", "add"], 3.0), ("c", ["other"], 1.0)]
    assert order(apart, costs | {"add": 1.0}) == [("conv",), ("add",), ("other",)]


def test_noise_is_a_share_of_every_channel() -> None:
    boxes = np.stack([np.linspace(1, 300, 50), np.linspace(0, 1, 50)])[None].astype(np.float32)
    worse = boxes.copy()
    worse[0, 1] *= 0.9  # the scores, which the boxes would drown
    assert output_noise([{"y": boxes}], [{"y": worse}]) == pytest.approx(0.01 / 2)
    assert output_noise([{"y": boxes}], [{"y": boxes}]) == 0.0
    assert output_noise([{"y": boxes}], [{"y": boxes[:, :1]}]) == 1.0
    labels = {"y": boxes, "n": np.array([3])}
    assert output_noise([labels], [labels | {"n": np.array([4])}]) == 0.0
    flat = np.array([[1.0, 100.0]], np.float32)
    assert output_noise([{"y": flat}], [{"y": flat * [[1.1, 1.0]]}]) == pytest.approx(0.01 / 10001, rel=1e-4)
