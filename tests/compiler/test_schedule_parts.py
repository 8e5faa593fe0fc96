"""The parts of the scheduler on their own, each against the obvious way to say the same."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chains import Net
from openbpu.arch.isa import ENGINES
from openbpu.arch.march import get_march
from openbpu.arch.program import Move
from openbpu.arch.shapes import collapse, dense_strides
from openbpu.compiler.schedule.codegen.dependencies import DependencyTracker
from openbpu.compiler.schedule.codegen.transfers import transfers
from openbpu.compiler.schedule.jobs import Context, jobs_of
from openbpu.compiler.schedule.memory.allocator import LiveBlock, RingAllocator, gaps_between, pack
from openbpu.compiler.schedule.problem.index_maps import Affine, Grouped, Indexed, IndexMap, Window
from openbpu.compiler.schedule.problem.loop_nests import nests
from openbpu.compiler.schedule.problem.subviews import Subview, slice_subview, strided_rows
from openbpu.compiler.schedule.tiling import tile_search
from openbpu.compiler.schedule.tiling.cost import TilingContext
from openbpu.compiler.schedule.tiling.loop_orders import thinned, tile_lengths
from openbpu.compiler.schedule.tiling.memo import Memo
from openbpu.compiler.schedule.tiling.policy import Policy
from openbpu.compiler.schedule.tiling.tile_search import tile_boxes
from simulator.build import segment_of

SMALL = st.integers(1, 4)
SHAPES = st.lists(SMALL, min_size=1, max_size=5)
MANY = settings(max_examples=150, deadline=None)


def offsets(counts: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    return [
        sum(i * k for i, k in zip(at, strides, strict=True)) for at in product(*(range(n) for n in counts))
    ]


@MANY
@given(st.data(), SHAPES)
def test_collapse_and_nests_visit_the_same_elements_in_the_same_order(
    data: st.DataObject, counts: list[int]
) -> None:
    strides = [
        tuple(data.draw(st.lists(st.integers(-9, 9), min_size=len(counts), max_size=len(counts))))
        if data.draw(st.booleans())
        else dense_strides(counts, 2)
        for _ in range(2)
    ]
    wanted = list(zip(*(offsets(tuple(counts), s) for s in strides), strict=True))
    inner, fewer = collapse(counts, strides)
    assert list(zip(*(offsets(inner, s) for s in fewer), strict=True)) == wanted
    depth = data.draw(st.integers(1, 3))
    seen = []
    for starts, cut, steps in nests(counts, strides, depth):
        assert len(cut) == depth
        parts = [[a + o for o in offsets(cut, s)] for a, s in zip(starts, steps, strict=True)]
        seen += list(zip(*parts, strict=True))
    assert seen == wanted


@MANY
@given(st.data(), SHAPES, st.sampled_from([1, 2, 4]))
def test_transfers_copy_every_byte_of_a_box_once(data: st.DataObject, shape: list[int], element: int) -> None:
    full = [n + data.draw(st.integers(0, 2)) for n in shape]
    far, near = dense_strides(full, element), dense_strides(shape, element)
    seen = []
    for (a, b), row, counts, far_strides, near_strides in transfers(tuple(shape), element, far, near):
        for f, c in zip(offsets(counts, far_strides), offsets(counts, near_strides), strict=True):
            seen += [(a + f + i, b + c + i) for i in range(row)]
    elements = zip(offsets(tuple(shape), far), offsets(tuple(shape), near), strict=True)
    assert sorted(seen) == sorted((f + i, c + i) for f, c in elements for i in range(element))


def window_reads(axis: Window, lo: int, hi: int, kernel: int, dilation: int) -> set[int]:
    inputs = set()
    for o in range(lo, hi):
        for k in range(kernel):
            u = o * axis.stride + k * dilation - axis.pad
            if u % axis.upsample == 0 and 0 <= u // axis.upsample < axis.length:
                inputs.add(u // axis.upsample)
    return inputs


@MANY
@given(
    SMALL, SMALL, SMALL, st.integers(-2, 4), SMALL, st.integers(1, 12), st.integers(0, 9), st.integers(1, 6)
)
def test_a_window_holds_what_its_outputs_read(
    kernel: int, dilation: int, stride: int, pad: int, upsample: int, length: int, first: int, count: int
) -> None:
    axis = Window(0, length, stride, (kernel - 1) * dilation, pad, upsample)
    lo, hi = axis.span(((first, first + count),))
    assert 0 <= lo < hi <= length
    assert hi - lo <= int(axis.size(np.array([[count]]))[0])
    assert window_reads(axis, first, first + count, kernel, dilation) <= set(range(lo, hi))


@MANY
@given(SMALL, SMALL, SMALL, st.integers(1, 16))
def test_groups_hold_the_inputs_of_their_outputs(per_out: int, per_in: int, groups: int, tile: int) -> None:
    axis = Grouped(0, per_out, per_in, groups)
    for lo in range(0, per_out * groups, tile):
        hi = min(lo + tile, per_out * groups)
        first, last = axis.span(((lo, hi),))
        assert first == lo // per_out * per_in
        assert last == ((hi - 1) // per_out + 1) * per_in
        assert last - first <= int(axis.size(np.array([[tile]]))[0])


@pytest.mark.parametrize(
    "axis",
    [
        Affine(((0, 2), (1, -3)), 40),
        Indexed(0, np.array([3, 1, 4, 1, 5, 9, 2, 6]), np.array([4, 2, 5, 2, 6, 10, 3, 7])),
    ],
)
def test_the_size_of_an_axis_bounds_its_spans(axis: IndexMap) -> None:
    for tile in (1, 2, 3, 8):
        spans = [axis.span(((lo, min(lo + tile, 8)), (0, 2))) for lo in range(0, 8, tile)]
        assert max(hi - lo for lo, hi in spans) <= int(np.max(axis.size(np.array([[tile], [2]]))))


@MANY
@given(st.lists(st.tuples(st.integers(0, ENGINES - 1), st.integers(0, 12), st.integers(1, 6), st.booleans())))
def test_tokens_order_every_pair_that_shares_a_byte(trace: list[tuple[int, int, int, bool]]) -> None:
    tokens = DependencyTracker()
    done: list[tuple[int, int, set[int], bool, list[int]]] = []  # engine, count, bytes, writes, known
    known = [[0] * ENGINES for _ in range(ENGINES)]  # what each engine has waited for
    for engine, start, size, writes in trace:
        span = ((start, start + size),)
        wait = tokens.issue(engine, **{"writes" if writes else "reads": span})
        assert wait[engine] == 0
        reach = [max(k, w) for k, w in zip(known[engine], wait, strict=True)]
        for other, count, _, _, theirs in done:  # what they had seen before, we have seen too
            if other == engine or count <= reach[other]:
                reach = [max(a, b) for a, b in zip(reach, theirs, strict=True)]
        touched = set(range(start, start + size))
        for other, count, bytes_, wrote, _ in done:
            if (writes or wrote) and touched & bytes_ and other != engine:
                assert reach[other] >= count
        known[engine] = reach
        done.append((engine, tokens.issued[engine], touched, writes, reach))


def test_a_load_waits_for_nothing_that_does_not_touch_its_bytes() -> None:
    tokens = DependencyTracker()
    tokens.issue(2, reads=[(0, 100)], writes=[(100, 200)])
    assert tokens.issue(0, writes=[(200, 300)]) == (0,) * ENGINES
    assert tokens.issue(0, writes=[(50, 60)]) == (0, 0, 1, 0, 0, 0, 0, 0)


@MANY
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 9), st.integers(0, 5)), max_size=14))
def test_packed_blocks_never_overlap_in_time_and_space(blocks: list[tuple[int, int, int]]) -> None:
    lives = [LiveBlock(k, size, first, first + more) for k, (size, first, more) in enumerate(blocks)]
    addresses, end = pack(lives, 64, 128)
    for a in lives:
        assert addresses[a.key] % 64 == 0
        assert 128 <= addresses[a.key] <= end - a.nbytes
        for b in lives:
            together = a.key != b.key and a.first <= b.last and b.first <= a.last
            apart = addresses[a.key] + a.nbytes <= addresses[b.key] or (
                addresses[b.key] + b.nbytes <= addresses[a.key]
            )
            assert apart or not together


def test_packing_reuses_memory_whose_tensor_is_dead() -> None:
    _, end = pack([LiveBlock(0, 640, 0, 1), LiveBlock(1, 640, 2, 3), LiveBlock(2, 640, 4, 5)], 64)
    assert end == 640


def test_the_ring_goes_round_the_free_gaps_and_skips_what_is_held() -> None:
    ring = RingAllocator(64)
    gaps = gaps_between([(256, 512)], 1024)
    assert gaps == ((0, 256), (512, 1024))
    taken = [ring.allocate(128, gaps, ()) for _ in range(6)]
    assert taken == [0, 128, 512, 640, 768, 896]
    assert ring.allocate(128, gaps, ((0, 64),)) == 64 + 0
    assert ring.allocate(600, gaps, ()) is None
    assert ring.allocate(512, gaps, ((600, 601),)) is None


@MANY
@given(st.data(), SMALL, SMALL, SMALL)
def test_a_place_within_a_place_is_the_same_bytes(data: st.DataObject, n: int, row: int, wide: int) -> None:
    width = row + wide
    outer_rows = n * data.draw(SMALL)
    outer = strided_rows(
        7, data.draw(st.integers(0, 5)), width, width + data.draw(st.integers(0, 9)), outer_rows
    )
    inner = strided_rows(8, data.draw(st.integers(0, wide)), row, width, n)
    found = inner.within(outer, outer_rows * width)
    if found is None:
        return

    def addresses(place: Subview, size: int) -> list[int]:
        return [place.offset + f // place.row * place.pitch + f % place.row for f in range(size)]

    through = addresses(outer, outer_rows * width)
    assert found.root == 7
    assert addresses(found, n * row) == [through[a] for a in addresses(inner, n * row)]


@pytest.mark.parametrize(
    ("shape", "strides", "lies"),
    [
        ((3, 4), (10, 1), True),
        ((2, 3, 4), (30, 10, 1), True),
        ((6,), (1,), True),
        ((6,), (2,), False),  # every second element
        ((3, 4), (10, 2), False),
        ((4, 3), (1, 10), False),  # transposed
        ((3, 4), (0, 1), False),  # repeated
        ((6,), (-1,), False),  # reversed
    ],
)
def test_a_slice_lies_in_its_input_where_it_is_rows_of_it(
    shape: tuple[int, ...], strides: tuple[int, ...], lies: bool
) -> None:
    move = Move(inputs=(0,), outputs=(1,), shape=shape, strides=strides, offset=3)
    place = slice_subview(move, 1, 7)
    assert (place is not None) == lies
    if place is not None:
        count = len(offsets(shape, strides))
        found = [place.offset + i // place.row * place.pitch + i % place.row for i in range(count)]
        assert (place.root, found) == (7, [3 + o for o in offsets(shape, strides)])


@MANY
@given(st.integers(1, 5000), st.integers(1, 64))
def test_tile_lengths_go_from_the_whole_axis_down_to_a_step(n: int, step: int) -> None:
    lengths = tile_lengths(n, min(step, n), n)
    assert lengths[0] == n
    assert lengths == sorted(set(lengths), reverse=True)
    assert lengths[-1] <= min(step, n)
    assert all(t % min(step, n) == 0 for t in lengths[1:])
    assert [c[-1] for c in thinned([lengths] * 3, 60)] == [lengths[-1]] * 3


@MANY
@given(st.data(), SHAPES)
def test_tiles_cover_the_box_once(data: st.DataObject, extent: list[int]) -> None:
    tile = tuple(data.draw(st.integers(1, n)) for n in extent)
    order = tuple(data.draw(st.permutations(range(len(extent)))))
    seen = [
        at for box in tile_boxes(tuple(extent), tile, order) for at in product(*(range(a, b) for a, b in box))
    ]
    assert sorted(seen) == list(product(*(range(n) for n in extent)))


@pytest.mark.parametrize("limit", [40, 70, 110])
def test_a_coarse_grid_and_a_close_look_around_its_best_find_the_best_tile_of_all(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    net = Net()
    program = net.program([net.conv(net.b.input((1, 14, 14, 512)), 512)])
    owners = [program.root(i) for i in range(len(program.tensors))]
    context = Context(program.tensors, owners, {}, program.constants)
    (job,) = jobs_of(0, segment_of(program).operators[0], context)
    costs = []
    for tried in (1 << 20, limit):
        monkeypatch.setattr(tile_search, "_GRID", tried)
        plan = tile_search.search_tiling(
            job, TilingContext(), Policy(get_march("nash-e"), True, True), [(0, 1 << 19)], Memo()
        )
        costs.append(plan and plan.cost)
    assert costs[0] == costs[1] is not None
