"""Multiply-adds of CPU operators, against an evaluation that counts every product it makes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from openbpu.compiler.ir import Node, Value
from openbpu.compiler.lower.multiply_adds import RULES, multiply_adds

Shape = tuple[int, ...]
Convolution = tuple[Shape, Shape, Shape, Shape, Shape, int]
"""x, w, strides, pads, dilations, group"""


class Counter:
    """A number without a value that counts how often it is multiplied."""

    def __init__(self) -> None:
        self.products = 0

    def __mul__(self, _: object) -> Counter:
        self.products += 1
        return self

    def __add__(self, _: object) -> Counter:
        return self

    __rmul__, __radd__, __sub__, conjugate = __mul__, __add__, __add__, lambda self: self

    def array(self, shape: Shape) -> Any:
        """Fill an array with this number."""
        made = np.empty(shape, object)
        made.fill(self)
        return made


def counted(op: str, shapes: Sequence[Shape | None], domain: str = "", **more: Any) -> int:
    """What the compiler counts; `consts` are inputs by position, `outs` shapes of the outputs."""
    consts, outs = more.pop("consts", {}), more.pop("outs", [()])
    inputs = tuple("" if s is None else f"x{i}" for i, s in enumerate(shapes))
    values = {
        n: Value(n, s, "float32", consts.get(i))
        for i, (n, s) in enumerate(zip(inputs, shapes, strict=True))
        if s is not None
    }
    values |= {f"y{i}": Value(f"y{i}", s, "float32") for i, s in enumerate(outs)}
    found = multiply_adds(
        Node(op, inputs, tuple(f"y{i}" for i in range(len(outs))), more, "n", domain), values
    )
    assert found is not None
    return found


# --- Convolutions ---------------------------------------------------------------------------------


def convolved(case: Convolution) -> tuple[int, Shape]:
    """Products of a convolution, position by position, and the shape of its output."""
    x, w, strides, pads, dilations, group = case
    one, rank = Counter(), len(x) - 2
    padded = one.array((*x[:2], *(x[i + 2] + pads[i] + pads[i + rank] for i in range(rank))))
    weights = one.array(w)
    spans = [(w[i + 2] - 1) * dilations[i] + 1 for i in range(rank)]
    outs = tuple((padded.shape[i + 2] - spans[i]) // strides[i] + 1 for i in range(rank))
    for n, m, *at in np.ndindex(x[0], w[0], *outs):
        first = m // (w[0] // group) * w[1]
        geometry = zip(at, strides, spans, dilations, strict=True)
        window = [slice(p * s, p * s + k, d) for p, s, k, d in geometry]
        (padded[(n, slice(first, first + w[1]), *window)] * weights[m]).sum()
    return one.products, (x[0], w[0], *outs)


CONVOLUTIONS: dict[str, Convolution] = {
    "1d": ((2, 3, 9), (4, 3, 3), (2,), (1, 0), (1,), 1),
    "2d": ((1, 3, 6, 5), (4, 3, 3, 2), (1, 2), (1, 0, 1, 1), (1, 1), 1),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 3), (1, 1), (0, 0, 0, 0), (2, 3), 1),
    "grouped": ((2, 6, 5, 5), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "depthwise": ((1, 5, 5, 5), (10, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 5),
    "3d": ((1, 2, 4, 4, 3), (3, 2, 2, 3, 1), (1, 1, 1), (0, 1, 0, 0, 1, 0), (1, 1, 1), 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_sums_over_the_channels_of_its_group_and_the_kernel(name: str) -> None:
    x, w = CONVOLUTIONS[name][:2]
    products, out = convolved(CONVOLUTIONS[name])
    assert counted("Conv", [x, w], outs=[out]) == products
    assert counted("ConvInteger", [x, w, (), ()], outs=[out]) == products
    assert counted("QLinearConv", [x, (), (), w, (), (), (), ()], outs=[out]) == products
    assert counted("FusedConv", [x, w], "com.microsoft", outs=[out]) == products
    assert counted("DeformConv", [x, w, out], outs=[out]) == products


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_spreads_every_input_element(group: int) -> None:
    one, x, w = Counter(), (2, 4, 3, 5), (4, 3, 2, 3)
    for n, c, *at in np.ndindex(*x):
        assert len((n, c, *at)) == 4
        one.array((1,)) * one.array((w[1] * w[2] * w[3],))
    assert counted("ConvTranspose", [x, w], group=group) == one.products


# --- Matrices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_multiplies_the_same_however_its_operands_are_stored(trans_a: int, trans_b: int) -> None:
    one, (m, k, n) = Counter(), (3, 5, 7)
    one.array((m, k)) @ one.array((k, n))
    a, b = ((k, m) if trans_a else (m, k)), ((n, k) if trans_b else (k, n))
    assert counted("Gemm", [a, b], transA=trans_a, transB=trans_b) == one.products
    assert counted("FusedMatMul", [a, b], "com.microsoft", transA=trans_a, transB=trans_b) == one.products
    assert counted("QGemm", [a, (), (), b], "com.microsoft", transA=trans_a, transB=trans_b) == one.products


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 5), (5, 7)),
        ((5,), (5, 7)),
        ((3, 5), (5,)),
        ((5,), (5,)),
        ((2, 3, 5), (5, 7)),
        ((2, 1, 3, 5), (4, 5, 7)),
        ((5,), (2, 5, 7)),
    ],
)
def test_matmul_broadcasts_its_batch(a: Shape, b: Shape) -> None:
    one = Counter()
    np.matmul(one.array(a), one.array(b))
    assert counted("MatMul", [a, b]) == one.products
    assert counted("MatMulInteger", [a, b, (), ()]) == one.products
    assert counted("QLinearMatMul", [a, (), (), b, (), (), (), ()]) == one.products


def test_a_batch_behind_the_rows_is_a_batch() -> None:
    one = Counter()
    one.array((2, 3, 5)) @ one.array((2, 5, 7))
    assert counted("FusedMatMul", [(3, 2, 5), (2, 5, 7)], "com.microsoft", transBatchA=1) == one.products


def test_packed_weights_have_their_size_in_attributes() -> None:
    assert (
        counted("MatMulNBits", [(2, 3, 32), (7, 1, 16), (7,)], "com.microsoft", K=32, N=7) == 2 * 3 * 32 * 7
    )


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(3, 4), (4, 5)]),
        ("ij, jk", [(3, 4), (4, 5)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bij,bkj->bik", [(2, 3, 4), (2, 5, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("i,i->", [(6,), (6,)]),
        ("ij,ij->ij", [(3, 4), (3, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
        ("...ij,...jk->...ik", [(7, 2, 3, 4), (2, 4, 5)]),
        ("nchw,cd->ndhw", [(2, 3, 4, 5), (3, 6)]),
    ],
)
def test_einsum_of_two_multiplies_over_all_labels(equation: str, shapes: list[Shape]) -> None:
    one = Counter()
    np.einsum(equation.replace(" ", ""), *(one.array(s) for s in shapes), optimize=False)
    assert counted("Einsum", shapes, equation=equation) == one.products


def test_einsum_of_one_only_moves_and_sums() -> None:
    assert counted("Einsum", [(3, 4)], equation="ij->j") == 0


def test_einsum_of_three_takes_them_in_turn() -> None:
    one = Counter()
    left = one.array((3, 4)) @ one.array((4, 5))
    left @ one.array((5, 6))
    assert counted("Einsum", [(3, 4), (4, 5), (5, 6)], equation="ij,jk,kl->il") == one.products


# --- Recurrences and attention --------------------------------------------------------------------


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("lengths", [None, [2, 5, 1]])
@pytest.mark.parametrize("layout", [0, 1])
def test_a_recurrence_multiplies_every_step(
    op: str, gates: int, directions: int, lengths: list[int] | None, layout: int
) -> None:
    one, (steps, batch, size, hidden) = Counter(), (5, 3, 4, 6)
    for _, n in itertools.product(range(directions), range(batch)):
        for _ in range(lengths[n] if lengths else steps):
            for _ in range(gates):
                one.array((hidden, size)) @ one.array((size,))
                one.array((hidden, hidden)) @ one.array((hidden,))
    x = (batch, steps, size) if layout else (steps, batch, size)
    weights = [(directions, gates * hidden, size), (directions, gates * hidden, hidden)]
    consts = {4: np.array(lengths, np.int32)} if lengths else {}
    shapes = [x, *weights, None, (batch,)] if lengths else [x, *weights]
    found = counted(op, [*shapes], consts=consts, hidden_size=hidden, layout=layout)
    assert found == one.products


def attended(batch: int, heads: int, rows: int, columns: int, depth: int, width: int) -> int:
    one = Counter()
    scores = one.array((batch, heads, rows, depth)) @ one.array((batch, heads, depth, columns))
    scores @ one.array((batch, heads, columns, width))
    return one.products


def test_attention_makes_scores_and_sums_values() -> None:
    expected = attended(2, 4, 3, 5, 6, 7)
    assert counted("Attention", [(2, 4, 3, 6), (2, 4, 5, 6), (2, 4, 5, 7)]) == expected
    flat = [(2, 3, 24), (2, 5, 24), (2, 5, 28)]
    assert counted("Attention", [*flat], q_num_heads=4, kv_num_heads=4) == expected
    assert counted("MultiHeadAttention", [*flat], "com.microsoft", num_heads=4) == expected
    assert counted("DecoderMaskedMultiHeadAttention", [*flat], "com.microsoft", num_heads=4) == expected


def test_attention_counts_the_steps_in_its_cache_and_shared_heads() -> None:
    q, k = (2, 4, 3, 6), (2, 2, 3, 6)
    cached = [q, k, k, None, (2, 2, 5, 6), (2, 2, 5, 6)]
    assert counted("Attention", [*cached]) == attended(2, 4, 3, 8, 6, 6)
    grouped = [(2, 3, 24), (2, 3, 12), (2, 3, 12), (2, 2, 5, 6), (2, 2, 5, 6)]
    found = counted("GroupQueryAttention", [*grouped], "com.microsoft", num_heads=4, kv_num_heads=2)
    assert found == attended(2, 4, 3, 8, 6, 6)


def test_attention_that_projects_multiplies_its_weights_too() -> None:
    one = Counter()
    one.array((2, 3, 8)) @ one.array((8, 72))
    expected = one.products + attended(2, 4, 3, 3, 6, 6)
    assert counted("Attention", [(2, 3, 8), (8, 72), (72,)], "com.microsoft", num_heads=4) == expected


# --- Transforms -----------------------------------------------------------------------------------


def transformed(x: Any) -> Any:
    """A radix-2 transform of counters; a product of complex numbers is four of real ones."""
    if len(x) == 1:
        return x
    even, odd = transformed(x[::2]), transformed(x[1::2])
    turned = odd * odd
    for _ in range(3):
        odd * odd
    return np.concatenate([even + turned, even - turned])


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_a_transform_of_a_power_of_two_is_the_fast_one(n: int) -> None:
    one = Counter()
    transformed(one.array((n,)))
    axis = {2: np.array(1)}
    assert counted("DFT", [(3, n, 2), None, ()], consts=axis) == 3 * one.products
    frames = [(3, 200), (), (n,), ()]
    assert counted("STFT", frames, consts={3: np.array(n)}, outs=[(3, 7, n, 2)]) == 21 * one.products


def chirped(one: Counter, n: int) -> None:
    """Bluestein's transform of counters: a convolution of 2n − 1 points, made of three fast transforms."""
    longer = next(m for m in (1 << k for k in range(2 * n)) if m >= 2 * n - 1)
    for _ in range(3):  # of the input, of the chirp, and back
        transformed(one.array((longer,)))
    for _ in range(4):  # one product of complex numbers
        one.array((n,)) * one  # the input by the chirp
        one.array((longer,)) * one  # both spectra
        one.array((n,)) * one  # the output by the chirp


@pytest.mark.parametrize("n", [3, 5, 7, 9, 31, 33, 100])
def test_a_transform_of_any_other_length_is_a_convolution_by_fast_ones(n: int) -> None:
    one = Counter()
    chirped(one, n)
    assert counted("DFT", [(3, n, 1), None, ()], consts={2: np.array(1)}) == 3 * one.products
    frames = [(3, 200), (), (n,), ()]
    assert counted("STFT", frames, consts={3: np.array(n)}, outs=[(3, 7, n, 2)]) == 21 * one.products


def test_a_sampling_grid_multiplies_every_point_by_theta() -> None:
    one = Counter()
    one.array((5 * 4, 3)) @ one.array((3, 2))
    assert counted("AffineGrid", [(1, 2, 3), (4,)], outs=[(1, 5, 4, 2)]) == one.products


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_determinant_eliminates_row_by_row(n: int) -> None:
    one = Counter()
    for column in range(n):
        for _ in range(column + 1, n):
            one.array((n - column - 1,)) * one
    one.array((n - 1,)) * one  # the diagonal
    assert counted("Det", [(3, n, n)]) == 3 * one.products


@pytest.mark.parametrize(
    ("op", "weights"),
    [("LinearRegressor", "coefficients"), ("SVMClassifier", "support_vectors")],
)
def test_models_of_one_layer_multiply_every_sample_with_their_weights(op: str, weights: str) -> None:
    one = Counter()
    one.array((6, 4)) @ one.array((4, 3))
    assert counted(op, [(6, 4)], "ai.onnx.ml", **{weights: [0.5] * 12}) == one.products


# --- Of any kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", RULES)
@pytest.mark.parametrize("shapes", [[], [()], [(1,), ()], [None, (2, 2)], [(2, 3), (4, 5), (6,)]])
def test_shapes_that_contradict_an_operator_count_nothing_and_raise_nothing(
    key: str, shapes: list[Shape | None]
) -> None:
    domain, _, op = key.rpartition(".")
    assert counted(op, shapes, domain) >= 0
