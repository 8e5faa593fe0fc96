"""Segments: every node once, BPU and CPU apart, no path that leaves a segment and comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbpu.compiler.ir import Graph, Node, Value
from openbpu.compiler.lower.partition import Part, partition

SHAPE = (2, 3)
CASES = settings(max_examples=80, deadline=None)


def node(
    name: str, reads: tuple[str, ...], *, on_bpu: bool, captures: tuple[str, ...] = (), outputs: int = 1
) -> Node:
    """A node whose outputs are its name, or its name and a number."""
    outs = (name,) if outputs == 1 else tuple(f"{name}.{i}" for i in range(outputs))
    return Node("Op", reads, outs, name=name, domain="bpu" if on_bpu else "", captures=captures)


def graph(
    *nodes: Node, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...], constants: tuple[str, ...] = ()
) -> Graph:
    names = (*inputs, *(o for n in nodes for o in n.outputs if o))
    values = {n: Value(n, SHAPE, "int8") for n in names}
    values.update((c, Value(c, SHAPE, "int8", np.zeros(SHAPE, np.int8))) for c in constants)
    return Graph(nodes, values, inputs, outputs)


@st.composite
def graphs(draw: st.DrawFn, most: int = 14) -> Graph:
    """Random graphs: every node reads up to three values before it and runs on either side."""
    nodes: list[Node] = []
    names = ["x", "c"]
    for i in range(draw(st.integers(1, most))):
        reads = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)))
        captures = (draw(st.sampled_from(names)),) if draw(st.integers(0, 9)) == 0 else ()
        count = draw(st.sampled_from([1, 1, 1, 2]))
        made = node(
            f"n{i}", reads, on_bpu=draw(st.booleans()) and not captures, captures=captures, outputs=count
        )
        nodes.append(made)
        names.extend(made.outputs)
    read = {n for made in nodes for n in made.reads}
    ends = tuple(n for n in names[2:] if n not in read or draw(st.integers(0, 4)) == 0)
    return graph(*nodes, outputs=ends, constants=("c",))


def parts_of(parts: tuple[Part, ...]) -> dict[str, int]:
    """Value → index of the part that makes it."""
    return {o: i for i, part in enumerate(parts) for n in part.nodes for o in n.outputs}


@CASES
@given(graphs())
def test_every_node_is_in_one_segment(g: Graph) -> None:
    found = [n.name for part in partition(g) for n in part.nodes]
    assert sorted(found) == sorted(n.name for n in g.nodes)


@CASES
@given(graphs())
def test_bpu_and_cpu_never_share_a_segment(g: Graph) -> None:
    for part in partition(g):
        assert {n.is_bpu for n in part.nodes} == {part.on_bpu}


@CASES
@given(graphs())
def test_segments_run_one_after_another(g: Graph) -> None:
    """No node reads a later segment: this is convexity, as segments are numbered in the order they run."""
    parts = partition(g)
    where = parts_of(parts)
    for i, part in enumerate(parts):
        for n in part.nodes:
            assert all(where.get(name, -1) <= i for name in n.reads)


@CASES
@given(graphs())
def test_nodes_keep_their_order_inside_a_segment(g: Graph) -> None:
    order = {n.name: i for i, n in enumerate(g.nodes)}
    for part in partition(g):
        places = [order[n.name] for n in part.nodes]
        assert places == sorted(places)


@CASES
@given(graphs())
def test_a_segment_reads_what_it_does_not_make_and_hands_on_what_others_need(g: Graph) -> None:
    parts = partition(g)
    for part in parts:
        made = {o for n in part.nodes for o in n.outputs}
        read = {name for n in part.nodes for name in n.reads if g.values[name].const is None}
        others = {name for other in parts if other is not part for n in other.nodes for name in n.reads}
        assert set(part.inputs) == read - made
        assert set(part.outputs) == made & (others | set(g.outputs))


def fewest(g: Graph) -> tuple[int, int]:
    """Segments, and those of the BPU, of the best convex partition, by trying every one.

    A state is the set of nodes that have run; a segment adds any of one side whose inputs have been made.
    """
    makers = g.producers()
    needs = {n.name: {makers[r].name for r in n.reads if r in makers} for n in g.nodes}
    everything = frozenset(needs)
    reached, count = {(frozenset[str](), 0)}, 0
    while not any(done == everything for done, _ in reached):
        count += 1
        reached = {
            (done | added, bpu + on_bpu)
            for done, bpu in reached
            for on_bpu in (True, False)
            for added in convex(g, needs, done, on_bpu=on_bpu)
        }
    return count, min(bpu for done, bpu in reached if done == everything)


def convex(
    g: Graph, needs: dict[str, set[str]], done: frozenset[str], *, on_bpu: bool
) -> set[frozenset[str]]:
    """Return every set of nodes of one side that can run behind `done` as one segment."""
    found = {frozenset[str]()}
    for n in g.nodes:  # in topological order
        if n.is_bpu == on_bpu and n.name not in done:
            found |= {s | {n.name} for s in found if needs[n.name] <= done | s}
    return found - {frozenset()}


@settings(max_examples=60, deadline=None)
@given(graphs(most=7))
def test_no_convex_partition_has_fewer_segments(g: Graph) -> None:
    parts = partition(g)
    assert (len(parts), sum(p.on_bpu for p in parts)) == fewest(g)


def test_what_needs_no_result_of_the_bpu_splits_no_segment() -> None:
    """An embedding beside an image: q(image) · add, and the CPU's gather in front of both."""
    g = graph(
        node("q", ("x",), on_bpu=True),
        node("gather", ("ids",), on_bpu=False),
        node("add", ("q", "gather"), on_bpu=True),
        inputs=("x", "ids"),
        outputs=("add",),
    )
    assert sides(g) == [(False, ["gather"]), (True, ["q", "add"])]


def test_as_many_segments_start_on_the_side_that_submits_to_the_bpu_less_often() -> None:
    g = graph(
        node("a", ("x",), on_bpu=True),
        node("p", ("a",), on_bpu=False),
        node("q", ("x",), on_bpu=False),
        node("b", ("q",), on_bpu=True),
        outputs=("p", "b"),
    )
    assert sides(g) == [(False, ["q"]), (True, ["a", "b"]), (False, ["p"])]


# --- known shapes -----------------------------------------------------------------------------------------


def sides(g: Graph) -> list[tuple[bool, list[str]]]:
    return [(p.on_bpu, [n.name for n in p.nodes]) for p in partition(g)]


def test_a_chain_on_the_bpu_is_one_segment() -> None:
    g = graph(node("a", ("x",), on_bpu=True), node("b", ("a",), on_bpu=True), outputs=("b",))
    assert sides(g) == [(True, ["a", "b"])]


def test_a_detour_over_the_cpu_splits_the_bpu_but_not_what_runs_beside_it() -> None:
    """a → cpu → c and a → b → c: b needs no CPU and runs with a."""
    g = graph(
        node("a", ("x",), on_bpu=True),
        node("cpu", ("a",), on_bpu=False),
        node("b", ("a",), on_bpu=True),
        node("c", ("b", "cpu"), on_bpu=True),
        outputs=("c",),
    )
    assert sides(g) == [(True, ["a", "b"]), (False, ["cpu"]), (True, ["c"])]


def test_independent_cpu_nodes_between_the_same_segments_run_together() -> None:
    g = graph(
        node("a", ("x",), on_bpu=True),
        node("p", ("a",), on_bpu=False),
        node("q", ("a",), on_bpu=False),
        node("b", ("p", "q"), on_bpu=True),
        outputs=("b",),
    )
    assert sides(g) == [(True, ["a"]), (False, ["p", "q"]), (True, ["b"])]


def test_what_a_subgraph_captures_is_read() -> None:
    g = graph(
        node("a", ("x",), on_bpu=True),
        node("branch", ("x",), on_bpu=False, captures=("a",)),
        outputs=("branch",),
    )
    assert [p.inputs for p in partition(g)] == [("x",), ("x", "a")]


def test_constants_are_no_inputs() -> None:
    g = graph(node("a", ("x", "w"), on_bpu=True), outputs=("a",), constants=("w",))
    assert partition(g)[0].inputs == ("x",)


@pytest.mark.parametrize("on_bpu", [True, False])
def test_a_value_that_is_an_output_and_is_read_again_is_handed_on_once(on_bpu: bool) -> None:
    g = graph(node("a", ("x",), on_bpu=on_bpu), node("b", ("a",), on_bpu=not on_bpu), outputs=("a", "b"))
    first, second = partition(g)
    assert {first.outputs, second.outputs} == {("a",), ("b",)}
    assert "a" in second.inputs


def test_a_model_without_nodes_has_no_segment() -> None:
    assert partition(graph(outputs=("x",))) == ()


def test_what_reads_constants_alone_waits_for_its_first_reader() -> None:
    g = graph(
        node("early", ("x",), on_bpu=False),
        node("weight", ("c",), on_bpu=False),
        node("turned", ("weight",), on_bpu=False),
        node("both", ("c",), on_bpu=False),
        node("kept", ("c",), on_bpu=False),
        node("middle", ("early",), on_bpu=True),
        node("late", ("middle", "turned", "both"), on_bpu=False),
        node("last", ("late", "both"), on_bpu=True),
        outputs=("last", "kept"),
        constants=("c",),
    )
    parts = partition(g)
    assert [[n.name for n in p.nodes] for p in parts] == [
        ["early", "kept"],
        ["middle"],
        ["weight", "turned", "both", "late"],
        ["last"],
    ]
    assert parts[2].inputs == ("middle",)


def test_constants_that_only_the_bpu_reads_come_right_before_it() -> None:
    g = graph(
        node("weight", ("c",), on_bpu=False),
        node("first", ("x",), on_bpu=True),
        node("early", ("first",), on_bpu=False),
        node("last", ("early", "weight"), on_bpu=True),
        outputs=("last",),
        constants=("c",),
    )
    assert [[n.name for n in p.nodes] for p in partition(g)] == [["first"], ["weight", "early"], ["last"]]
