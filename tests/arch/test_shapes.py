"""Facts about strides, merged axes and vectors along an axis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbpu.arch.shapes import along, broadcast_strides, collapse, dense_strides, same_pads

SHAPES = st.lists(st.integers(1, 3), max_size=5).map(tuple)


@given(SHAPES, st.sampled_from(["int8", "int16", "float32"]))
def test_dense_strides_are_those_of_numpy(shape: tuple[int, ...], dtype: str) -> None:
    array = np.zeros(shape, dtype)
    assert dense_strides(shape, array.itemsize) == array.strides


@given(SHAPES, st.data())
def test_broadcast_strides_read_what_numpy_reads(target: tuple[int, ...], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(target)))
    shape = tuple(data.draw(st.sampled_from([1, n])) for n in target[kept:])
    array = np.arange(np.prod(shape, dtype=int), dtype=np.int8).reshape(shape)
    strides = broadcast_strides(shape, target)
    assert len(strides) == len(target)
    walked = [
        array.reshape(-1)[sum(i * s for i, s in zip(at, strides, strict=True))] for at in np.ndindex(target)
    ]
    assert walked == np.broadcast_to(array, target).reshape(-1).tolist()


@given(SHAPES, st.data(), st.integers(0, 1))
def test_merged_axes_walk_the_same_elements(shape: tuple[int, ...], data: st.DataObject, least: int) -> None:
    moved = data.draw(st.permutations(range(len(shape))))
    dense = dense_strides([shape[i] for i in moved])
    operands = (dense_strides(shape), tuple(dense[moved.index(i)] for i in range(len(shape))))
    sizes, strides = collapse(shape, operands, least=least)
    assert len(sizes) >= least
    assert 1 not in sizes or len(sizes) == least == 1

    def walk(counts: tuple[int, ...], steps: tuple[tuple[int, ...], ...]) -> list[list[int]]:
        return [
            [sum(i * s for i, s in zip(at, step, strict=True)) for step in steps] for at in np.ndindex(counts)
        ]

    assert walk(sizes, strides) == walk(shape, operands)


def test_neighbours_merge_where_every_operand_steps_evenly() -> None:
    assert collapse((2, 1, 3, 4), ((12, 12, 4, 1), (24, 9, 8, 2))) == ((24,), ((1,), (2,)))
    assert collapse((2, 3), ((3, 1), (1, 2))) == ((2, 3), ((3, 1), (1, 2)))
    assert collapse((1, 1), ((5, 7),)) == ((), ((),))
    assert collapse((1, 1), ((5, 7),), least=1) == ((1,), ((1,),))


@pytest.mark.parametrize(
    ("axis", "rank", "shape"), [(1, 3, (1, -1, 1)), (-1, 2, (1, -1)), (None, 2, (1, 1)), (None, 0, ())]
)
def test_a_vector_lies_along_an_axis(axis: int | None, rank: int, shape: tuple[int, ...]) -> None:
    assert along(axis, rank) == shape


@pytest.mark.parametrize(
    ("upper", "pads"), [(True, (0, 1, 1, 1)), (False, (1, 1, 0, 1))], ids=["upper", "lower"]
)
def test_same_padding_is_as_even_as_it_can_be(upper: bool, pads: tuple[int, ...]) -> None:
    assert same_pads((8, 7), (4, 7), (3, 2), (2, 1), (1, 2), upper=upper) == pads


def test_a_window_that_fits_is_not_padded() -> None:
    assert same_pads((6,), (3,), (1,), (2,), (1,), upper=True) == (0, 0)
