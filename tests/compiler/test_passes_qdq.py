"""What Quantize and Dequantize nodes say is read once; nonsense is refused with the node and the value."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.passing import passed
from compiler.reading import model
from openbpu.arch.errors import QuantizationError
from openbpu.compiler import check
from openbpu.compiler.ir.qdq import Scaling, scaling

NODES = "q = QuantizeLinear<axis = {a}>(x, s, z)  y = DequantizeLinear<axis = {a}>(q, s, z)"


def text(constants: str, axis: int = 1, nodes: str = NODES) -> str:
    return f"g (float[2,3] x) => (float[2,3] y) <{constants}> {{ {nodes.format(a=axis)} }}"


def of_first(constants: str, axis: int = 1, nodes: str = NODES) -> Scaling | None:
    """The scaling of the first node."""
    graph = passed(model(text(constants, axis, nodes)))
    return scaling(graph, graph.nodes[0])


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["nan", "inf", "0.0"])
def test_a_scale_must_be_finite_and_not_0(scale: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        check(model(text(f"float s = {{{scale}}}, int8 z = {{0}}")), march="nash-e")
    assert "'QuantizeLinear_0' (QuantizeLinear): its scale must be finite and not 0" in str(caught.value)
    assert f"not {float(scale)}; calibrate" in str(caught.value)


def test_one_bad_scale_of_many_is_found() -> None:
    with pytest.raises(QuantizationError, match="not nan"):
        check(model(text("float[3] s = {1, nan, 1}, int8[3] z = {0, 0, 0}")), march="nash-e")


def test_scales_must_be_as_many_as_the_axis_is_long() -> None:
    with pytest.raises(QuantizationError, match=r"its scale must be 1 or 3 \(axis 1 of \[2, 3\]\), not 2;"):
        check(model(text("float[2] s = {1, 1}, int8[2] z = {0, 0}")), march="nash-e")


def test_zero_points_must_be_as_many_as_scales() -> None:
    with pytest.raises(QuantizationError, match="its zero point must be of the scale's length 3, not 2"):
        check(model(text("float[3] s = {1, 1, 1}, int8[2] z = {0, 0}")), march="nash-e")


@pytest.mark.parametrize("axis", [2, -3, 7])
def test_an_axis_must_lie_inside_the_rank(axis: int) -> None:
    with pytest.raises(QuantizationError, match=f"its axis must be inside rank 2, not {axis}"):
        check(model(text("float[3] s = {1, 1, 1}, int8[3] z = {0, 0, 0}", axis)), march="nash-e")


# --- what is read -----------------------------------------------------------------------------------------


def test_one_scale_holds_for_all_elements() -> None:
    found = of_first("float s = {0.1}, int8 z = {7}")
    assert found is not None
    assert found.per_tensor
    assert (found.s, found.z, found.dtype) == (float(np.float32(0.1)), 7, "int8")


def test_a_scale_of_rank_1_with_one_element_holds_for_all_elements() -> None:
    found = of_first("float[1] s = {0.5}, int8[1] z = {1}")
    assert found is not None
    assert found.per_tensor


@pytest.mark.parametrize("axis", [1, -1])
def test_scales_per_axis_count_the_axis_from_the_front(axis: int) -> None:
    found = of_first("float[3] s = {1, 2, 3}, int8[3] z = {0, 1, 2}", axis)
    assert found is not None
    assert (found.per_tensor, found.axis, found.scale.tolist(), found.zero.tolist()) == (
        False,
        1,
        [1, 2, 3],
        [0, 1, 2],
    )


def test_zero_points_left_out_are_zero_for_every_channel() -> None:
    nodes = "q = QuantizeLinear<axis = {a}>(x, s)  y = DequantizeLinear<axis = {a}>(q, s)"
    found = of_first("float[3] s = {1, 2, 3}", 1, nodes)
    assert found is not None
    assert (found.zero.tolist(), found.dtype) == ([0, 0, 0], "uint8")


def test_a_computed_scale_is_no_scaling() -> None:
    graph = passed(
        model(
            "g (float[2,3] x, float s) => (float[2,3] y) <int8 z = {0}> "
            "{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }"
        )
    )
    assert scaling(graph, graph.nodes[0]) is None


def test_scales_in_blocks_are_no_scaling() -> None:
    nodes = NODES.replace("axis = {a}", "axis = {a}, block_size = 2")
    assert of_first("float[1,3] s = {1, 2, 3}, int8[1,3] z = {0, 1, 2}", 0, nodes) is None


@pytest.mark.parametrize("change", ["scale", "zero", "dtype"])
def test_scalings_are_the_same_when_everything_is(change: str) -> None:
    def make(**given: object) -> Scaling:
        parts = {"scale": np.array([0.5], np.float32), "zero": np.array([3]), "dtype": "int8", **given}
        return Scaling(**parts)  # type: ignore[arg-type]  # the dictionary holds one of each

    other = {"scale": np.array([0.25], np.float32), "zero": np.array([0]), "dtype": "int16"}[change]
    assert make().same(make(axis=1))
    assert not make().same(make(**{change: other}))


def test_scalings_per_axis_differ_by_their_axis() -> None:
    scale, zero = np.ones(3, np.float32), np.zeros(3, np.int64)
    assert not Scaling(scale, zero, "int8", 0).same(Scaling(scale, zero, "int8", 1))
