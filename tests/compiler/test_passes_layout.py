"""Channels last throughout: transposes are left at the ends of a network and nowhere inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.bpu_graphs import evaluate, moving_graphs
from compiler.networks import Network
from compiler.passing import count, order, settled
from openbpu.compiler.ir import Graph
from openbpu.compiler.passes.layout import inverse, is_free, permuted, settle_layout
from openbpu.compiler.passes.regroup import factor, regroup

IMAGE = (1, 3, 8, 8)


def perms(graph: Graph) -> list[tuple[int, ...]]:
    """Permutations of the transposes that move data, in order."""
    return [tuple(n.attrs["perm"]) for n in graph.nodes if n.op == "Transpose"]


TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def residual_network() -> Network:
    b = Network(IMAGE)
    x = b.layer(b.x, 8)
    b.finished(b.residual(b.residual(b.residual(x))))
    return b


def squeeze_excite_network() -> Network:
    b = Network(IMAGE)
    b.finished(b.layer(b.squeeze_excite(b.layer(b.x, 8)), 5))
    return b


def split_network() -> Network:
    """Channels split, one half convolved, joined and shuffled, as ShuffleNet does."""
    b = Network(IMAGE)
    x = b.layer(b.x, 8)
    left, right = b.nodes("Split", [x], 2, axis=1, num_outputs=2)
    joined = b.node("Concat", b.qdq(left, like=x), b.qdq(b.layer(b.qdq(right, like=x), 4), like=x), axis=1)
    x = b.qdq(joined, like=x)
    n, c, h, w = b.shape(x)
    grouped = b.node("Reshape", x, b.constant(np.array([n, 2, c // 2, h, w])))
    shuffled = b.node(
        "Reshape", b.node("Transpose", grouped, perm=[0, 2, 1, 3, 4]), b.constant(np.array([n, c, h, w]))
    )
    b.finished(b.layer(b.qdq(shuffled, like=x), 4))
    return b


def pyramid_network() -> Network:
    """Down, up again and joined with what was there before, as FPN and U-Net do."""
    b = Network(IMAGE)
    wide = b.layer(b.x, 8)
    deep = b.layer(b.qdq(b.node("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2]), like=wide), 8)
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    up = b.qdq(b.node("Resize", deep, "", scales, mode="nearest"), like=deep)
    b.finished(b.layer(b.qdq(b.node("Concat", up, wide, axis=1)), 6))
    return b


def classifier() -> Network:
    b = Network(IMAGE)
    x = b.residual(b.layer(b.x, 8))
    x = b.qdq(b.node("GlobalAveragePool", x))
    x = b.node("Flatten", x)
    b.finished(b.qdq(b.node("MatMul", x, b.weight(b.rng.normal(size=(8, 10)), axis=1))))
    return b


def padded_network() -> Network:
    b = Network(IMAGE)
    x = b.layer(b.x, 8)
    padded = b.node("Pad", x, b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    cut = b.node("Slice", padded, *(b.constant(np.array(v)) for v in ([1, 0], [9, 9], [2, 3])))
    b.finished(b.layer(b.qdq(cut, like=x), 4))
    return b


def sound_network() -> Network:
    b = Network((1, 3, 24))
    b.finished(b.residual(b.layer(b.x, 8)))
    return b


NETWORKS: dict[str, Callable[[], Network]] = {
    "residual": residual_network,
    "squeeze-excite": squeeze_excite_network,
    "pyramid": pyramid_network,
    "padded and cut": padded_network,
    "silu": lambda: _with(lambda b, x: b.layer(b.silu(x), 4)),
    "gate from another branch": lambda: _with(
        lambda b, x: b.layer(b.qdq(b.node("Mul", x, b.layer(x, 8))), 4)
    ),
    "scaled per channel": lambda: _with(lambda b, x: b.layer(b.qdq(b.node("Mul", x, _channels(b))), 4)),
}


def _with(block: Callable[[Network, str], str]) -> Network:
    b = Network(IMAGE)
    b.finished(block(b, b.layer(b.x, 8)))
    return b


def _channels(b: Network) -> str:
    return b.constant(np.linspace(0.5, 2, 8, dtype=np.float32).reshape(1, 8, 1, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_ends_of_a_network_are_transposed(name: str) -> None:
    assert perms(settled(NETWORKS[name]().model())) == [TO_NHWC, TO_NCHW]


def test_a_residual_block_is_two_convolutions_and_nothing_else() -> None:
    graph = settled(residual_network().model())
    assert [op for op in order(graph) if op not in ("Reshape", "Conv")] == [
        "Quantize",
        "Transpose",
        "Transpose",
        "Dequantize",
    ]
    assert count(graph, "Conv") == 7


def test_a_classifier_is_transposed_at_its_input_only() -> None:
    assert perms(settled(classifier().model())) == [TO_NHWC]


def test_a_network_over_time_is_transposed_at_its_ends_only() -> None:
    graph = settled(sound_network().model())
    assert len(perms(graph)) == 2
    assert count(graph, "Conv") == 3


def test_shuffled_channels_are_one_transpose_of_channels() -> None:
    assert perms(settled(split_network().model())) == [TO_NHWC, (0, 1, 2, 4, 3), TO_NCHW]


def test_an_input_with_one_channel_moves_no_data() -> None:
    b = Network((1, 1, 8, 8))
    b.finished(b.layer(b.x, 4))
    assert perms(settled(b.model())) == [TO_NCHW]


def test_a_gate_on_pooled_channels_is_part_of_its_convolution() -> None:
    graph = settled(squeeze_excite_network().model())
    assert count(graph, "Lut") == 0
    assert [bool(n.inputs[5]) for n in graph.nodes if n.op == "Conv"] == [False, False, True, False]


def test_attention_needs_no_transpose_of_its_keys() -> None:
    """Q·Kᵀ: the transpose in front of the product is its `b_transposed` form."""
    b = Network((2, 6, 8))
    keys = b.qdq(b.node("Transpose", b.x, perm=[0, 2, 1]), like=b.x)
    scores = b.qdq(b.node("Softmax", b.qdq(b.node("MatMul", b.x, keys)), axis=-1))
    b.finished(b.qdq(b.node("MatMul", scores, b.x)))
    graph = settled(b.model())
    assert perms(graph) == []
    assert [n.attrs["b_transposed"] for n in graph.nodes if n.op == "MatMul"] == [True, False]


@pytest.mark.parametrize(
    ("axis", "left"), [(2, [TO_NHWC, TO_NCHW]), (1, [TO_NHWC, TO_NCHW, TO_NHWC, TO_NCHW])]
)
def test_a_transpose_passes_a_running_sum_whose_axis_does_not_come_last(
    axis: int, left: list[tuple[int, ...]]
) -> None:
    b = Network(IMAGE)
    summed = b.qdq(b.node("CumSum", b.layer(b.x, 8), b.constant(axis)))
    b.finished(b.layer(summed, 4))
    assert perms(settled(b.model())) == left


@settings(max_examples=200, deadline=None)
@given(moving_graphs(), st.integers(0, 2**32 - 1))
def test_settling_a_graph_changes_no_value(graph: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, graph.values["x"].shape, np.int8)
    wanted, found = evaluate(graph, x), evaluate(settle_layout(graph), x)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])


# --- permutations -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.permutations(range(5)))
def test_the_inverse_undoes_a_permutation(perm: list[int]) -> None:
    shape = (2, 3, 4, 5, 6)
    assert permuted(permuted(shape, perm), inverse(perm)) == shape


SMALL = st.lists(st.integers(1, 3), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.data())
def test_a_transpose_is_free_exactly_when_the_bytes_stay(data: st.DataObject) -> None:
    shape = data.draw(SMALL)
    perm = data.draw(st.permutations(range(len(shape))))
    array = np.arange(np.prod(shape)).reshape(shape)
    assert is_free(shape, perm) == (array.transpose(perm).ravel().tolist() == list(range(array.size)))


# --- a reshape behind a transpose -------------------------------------------------------------------------


@st.composite
def reshaped_transposes(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """Shape, permutation and a target shape that merges and splits axes of the transposed tensor."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5))
    perm = draw(st.permutations(range(len(shape))))
    target: list[int] = []
    for size in (shape[p] for p in perm):
        if draw(st.booleans()) and target:
            target[-1] *= size
        else:
            target.append(size)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(target) - 1))
        parts = draw(st.sampled_from([d for d in range(1, target[at] + 1) if target[at] % d == 0]))
        target[at : at + 1] = [parts, target[at] // parts]
    return shape, list(perm), target


@settings(max_examples=500, deadline=None)
@given(reshaped_transposes())
def test_reshape_then_transpose_moves_elements_as_transpose_then_reshape(
    case: tuple[list[int], list[int], list[int]],
) -> None:
    shape, perm, target = case
    plan = regroup(shape, perm, target)
    if plan is None:
        return
    early, late = plan
    array = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(array.reshape(early).transpose(late), array.transpose(perm).reshape(target))


@pytest.mark.parametrize(
    ("shape", "perm", "target", "plan"),
    [
        ((2, 3, 4, 5), (0, 3, 1, 2), (2, 5, 12), ((2, 12, 5), (0, 2, 1))),  # H and W stay together
        ((2, 4, 5, 6), (0, 3, 1, 2), (2, 2, 3, 4, 5), ((2, 4, 5, 2, 3), (0, 3, 4, 1, 2))),  # channels split
        ((2, 3, 4), (0, 2, 1), (2, 12), None),  # what the transpose tears apart is merged
        ((2, 6), (1, 0), (3, 4), None),  # as above, merged and split at once
        ((5, 2, 6), (1, 2, 0), (3, 4, 5), ((5, 3, 4), (1, 2, 0))),  # merged and split, but kept together
        ((1, 4, 5, 6), (0, 3, 1, 2), (6, 20), ((20, 6), (1, 0))),  # the batch of one is dropped
        ((1, 3, 4, 1), (0, 2, 3, 1), (4, 3), ((3, 4), (1, 0))),  # axes of one go along
    ],
)
def test_plans_of_known_cases(
    shape: tuple[int, ...], perm: tuple[int, ...], target: tuple[int, ...], plan: object
) -> None:
    assert regroup(shape, perm, target) == plan


@settings(deadline=None)
@given(SMALL, SMALL)
def test_groups_of_axes_have_equal_products_and_cover_everything(
    source: list[int], target: list[int]
) -> None:
    if np.prod(source) != np.prod(target):
        target = [int(np.prod(source))]
    groups = factor(source, target)
    if groups is None:
        return
    assert [i for left, _ in groups for i in left] == list(range(len(source)))
    assert [i for _, right in groups for i in right] == list(range(len(target)))
    assert all(np.prod([source[i] for i in a]) == np.prod([target[i] for i in b]) for a, b in groups)


@pytest.mark.parametrize(("perm", "moves"), [([0, 2, 1, 3], 1), ([0, 3, 1, 2], 3)])
def test_a_function_of_rows_moves_nothing_where_rows_stay_rows(perm: list[int], moves: int) -> None:
    """Transposes around a Softmax that cancel are gone unless they turn the axis that it sums over."""
    b = Network((2, 3, 5, 7))
    turned = b.qdq(b.node("Transpose", b.x, perm=perm), like=b.x)
    rows = b.qdq(b.node("Softmax", turned, axis=-1))
    back = b.qdq(b.node("Transpose", rows, perm=[perm.index(i) for i in range(4)]), like=rows)
    b.finished(b.qdq(b.node("Sigmoid", back)))
    assert len(perms(settled(b.model()))) == moves - 1
