"""Inputs with free axes: any size of calibration data, and what shapes alone decide is a constant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto
from PIL import Image

from openbpu.arch.errors import InputError, ModelError
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import load_calibration, quantize, quantize_random
from openbpu.quantization.onnx.inputs import fed_inputs, set_axes_free
from openbpu.runtime import Session
from quantization.float_models import float_model, noise, ops
from witness import ort

Array = npt.NDArray[Any]

HEAD = "(float[N,3,H,W] x) => (float y) { c = Conv <strides = [8, 8]> (x, w) s = Shape(c) "
W: dict[str, npt.ArrayLike] = {
    "w": noise(4, 3, 8, 8) / 10,
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "three": np.array(3),
    "half": np.float32(0.5),
    "first": np.array([0]),
    "ones": np.array([1]),
    "twos": np.array([2]),
    "fours": np.array([4]),
    "minus": np.array([-1]),
    "ends": np.array([0, 1, 3]),
    "sides": np.array([0, 1]),
    "doubled": np.array([1, 1, 2, 2]),
    "anchors": noise(2, 1, 1) + 2,
    "none": np.zeros(0, np.float32),
    "table": noise(64, 8),
}
COLUMN = "h = Gather(s, two) v = Gather(s, three) r = Range(zero, h, one) f = Cast <to = 1> (r) "
GRIDS = {
    "range of a size": COLUMN + "g = Add(f, half) u = Unsqueeze(g, ends) y = Mul(c, u)",
    "two axes by Expand": COLUMN
    + """a = Unsqueeze(f, ones) t = Slice(s, twos, fours) g = Expand(a, t) u = Unsqueeze(g, sides)
        y = Add(c, u)""",
    "two axes by Tile": COLUMN
    + """a = Unsqueeze(f, ones) k = Unsqueeze(v, first) n = Concat <axis = 0> (ones, k) g = Tile(a, n)
        u = Unsqueeze(g, sides) y = Add(c, u)""",
    "anchors of a size": """t = Slice(s, twos, fours) n = Concat <axis = 0> (twos, t) e = Expand(anchors, n)
        p = Unsqueeze(e, first) q = Concat <axis = 1> (p, p) y = Mul(c, q)""",
    "a filled mask": "m = ConstantOfShape <value = float[1] {2.5}> (s) y = Mul(c, m)",
    "places of ones": """t = Slice(s, twos, fours) m = ConstantOfShape <value = float[1] {1.0}> (t)
        z = NonZero(m) row = Gather(z, zero) f = Cast <to = 1> (row) g = Reshape(f, t) u = Unsqueeze(g, sides)
        y = Add(c, u)""",
    "sizes of a Resize": """t = Slice(s, twos, fours) d = Mul(t, twos) n2 = Slice(s, first, twos)
        n = Concat <axis = 0> (n2, d) y = Resize <mode = "nearest"> (c, none, none, n)""",
    "a batch that stays": """b = Gather(s, zero) u = Unsqueeze(b, first)
        n = Concat <axis = 0> (u, fours, minus) y = Reshape(c, n)""",
    "rows of a table": COLUMN
    + """e = Gather(table, r) p = Slice(e, first, k8, ones) a = Unsqueeze(p, sides) y = Add(c, a)""",
    "a channel that is known": "k = Gather(s, one) f = Cast <to = 1> (k) q = Sqrt(f) y = Div(c, q)",
    "a size that scales": "k = Gather(s, two) f = Cast <to = 1> (k) y = Div(c, f)",
}
SHAPES = {"x": (1, 3, 64, 64)}


def cpu(made: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    program = compile_model(made, march="nash-e", shapes=shapes)
    return [f"{row.op} {row.reason}" for row in program.placement if row.on == "CPU"]


def run(made: ModelProto, feed: dict[str, Array]) -> Array:
    shapes = {name: array.shape for name, array in feed.items()}
    found = Session(compile_model(made, march="nash-e", shapes=shapes)).run(feed).outputs["y"]
    assert isinstance(found, np.ndarray)
    return found


def cosine(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


@pytest.mark.parametrize("name", GRIDS)
def test_what_shapes_decide_is_a_constant(name: str) -> None:
    model = float_model(HEAD + GRIDS[name] + " }", W | {"k8": np.array([8])})
    feeds = [{"x": noise(1, 3, 64, 64, seed=n)} for n in range(3)]
    made = quantize(model, feeds)
    assert made.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "H"
    assert not cpu(made, SHAPES)
    (wanted,) = ort.run(model, feeds[0]).values()
    assert cosine(run(made, feeds[0]), wanted) > 0.999


@pytest.mark.parametrize("name", GRIDS)
def test_shapes_that_are_given_make_it_one_before(name: str) -> None:
    model = float_model(HEAD + GRIDS[name] + " }", W | {"k8": np.array([8])})
    made = quantize(model, [{"x": noise(1, 3, 64, 64)}], shapes=SHAPES)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 3, 64, 64]
    assert {"Range", "Shape", "ConstantOfShape", "NonZero", "Gather"}.isdisjoint(ops(made))
    assert not cpu(made, {})


def test_a_size_that_data_decide_is_no_constant() -> None:
    """NonZero of data: how many there are differs from sample to sample."""
    text = """(float[N,4] x) => (float y) { p = Relu(x) z = NonZero(p) s = Shape(z) k = Gather(s, one)
        f = Cast <to = 1> (k) y = Mul(p, f) }"""
    model = float_model(text, W)
    feeds = [{"x": noise(1, 4, seed=n)} for n in range(4)]
    made = quantize(model, feeds)
    for feed in feeds:
        (wanted,), (found,) = ort.run(model, feed).values(), ort.run(made, feed).values()
        assert np.abs(found - wanted).max() < 0.1


@pytest.mark.parametrize(("written", "stays"), [(-2, True), (-1, False), (0, False), (1, True), (7, True)])
def test_an_axis_of_minus_one_or_none_has_no_number(written: int, stays: bool) -> None:
    model = float_model(
        "(float[N,3] x, float[2,3] w) => (float[N,3] y) { y = Add(x, w) }", {"w": noise(2, 3)}
    )
    ends = [*model.graph.input, *model.graph.output]
    model.graph.value_info.extend([onnx.ValueInfoProto(name="z"), ends[0]])  # the first has no type
    held = [v.type.tensor_type.shape.dim for v in (ends[0], ends[-1], model.graph.value_info[1])]
    for dims in held:
        dims[0].dim_value = written
    (copied,) = fed_inputs(model)
    assert [d.dim_value for d in held[0]] == [written, 3]  # it is a copy
    set_axes_free(model)
    for first, second in (*held, copied.type.tensor_type.shape.dim):
        assert (first.HasField("dim_value"), second.dim_value) == (stays, 3)
        assert first.dim_value == (written if stays else 0)


def test_the_name_of_a_free_axis_stays() -> None:
    model = float_model("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }", {})
    set_axes_free(model)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.mark.parametrize("written", [-1, 0, None])
def test_a_free_axis_of_an_older_exporter_takes_any_size(tmp_path: Path, written: int | None) -> None:
    model = float_model(
        "(float[N,3,H,W] x) => (float[N,4,H,W] y) { y = Conv(x, w) }", {"w": noise(4, 3, 1, 1)}
    )
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.ClearField("dim_param")
                if written is not None:
                    dim.dim_value = written
    onnx.save(model, tmp_path / "m.onnx")
    data = [{"x": noise(n, 3, 8 * n, 4)} for n in (1, 2, 3)]
    made = quantize(tmp_path / "m.onnx", data)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims if d.HasField("dim_value")] == [3]
    assert not cpu(made, {"x": (2, 3, 16, 4)})
    quantize_random(model, shapes={"x": (1, 3, 5, 5)})


def test_samples_of_several_sizes_are_taken_as_a_list_and_from_files(tmp_path: Path) -> None:
    text = "(float[N,3,H,W] x) => (float[N,4,H,W] y) { y = Conv(x, w) }"
    model = float_model(text, {"w": noise(4, 3, 1, 1)})
    arrays = [noise(1, 3, 8, 8 + n) for n in range(3)]
    for n, array in enumerate(arrays):
        np.save(tmp_path / f"{n}.npy", array)
    wanted = quantize(model, [{"x": array} for array in arrays])
    assert quantize(model, {"x": arrays}) == wanted
    assert quantize(model, load_calibration(tmp_path, model)) == wanted
    with pytest.raises(
        InputError, match=r"the samples must be of the shape \(N, 3, 8, 8\), not \(1, 3, 8, 8\), "
    ):
        load_calibration(tmp_path, float_model(text.replace("H,W", "8,8"), {"w": noise(4, 3, 1, 1)}))


def test_what_varies_stays_free_and_what_is_given_does_not() -> None:
    text = "(float[N,3,H,W] x) => (float[N,4,H,W] y) { y = Conv(x, w) }"
    model = float_model(text, {"w": noise(4, 3, 1, 1)})
    made = quantize(model, {"x": noise(2, 1, 3, 5, 5)}, shapes={"x": (1, 3, 5, 5)})
    for value in (*made.graph.input, *made.graph.output):
        assert not any(d.dim_param for d in value.type.tensor_type.shape.dim)
    with pytest.raises(
        InputError, match=r"the shape of input 'x' must be \(1, 3, 5, 5\), not \(1, 3, 6, 5\)"
    ):
        quantize(model, [{"x": noise(1, 3, 6, 5)}], shapes={"x": (1, 3, 5, 5)})


def test_pictures_of_a_free_size_need_one(tmp_path: Path) -> None:
    model = float_model("(float[N,3,H,W] x) => (float y) { y = Conv(x, w) }", {"w": noise(4, 3, 1, 1)})
    Image.new("RGB", (12, 9), (255, 0, 0)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"for images, not \(N, 3, H, W\); .*--shape x=1,3,224,224"):
        load_calibration(tmp_path, model)
    assert load_calibration(tmp_path, model, shapes={"x": (1, 3, 4, 6)})["x"].shape == (1, 1, 3, 4, 6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1,)}, r"shape of 'z': name must be an input \(x\), not 'z'"),
        ({"x": (1, 3, 64)}, r"input 'x': shape must be of rank 4, not \(1, 3, 64\)"),
        ({"x": (1, 4, 64, 64)}, "input 'x': axis 1 must be 3, not 4"),
    ],
)
def test_wrong_shapes_are_refused_as_compile_does(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    model = float_model("(float[N,3,H,W] x) => (float y) { y = Conv(x, w) }", {"w": noise(4, 3, 1, 1)})
    for attempt in (
        lambda: quantize(model, [{"x": noise(1, 3, 4, 4)}], shapes=shapes),
        lambda: load_calibration("nowhere.npz", model, shapes=shapes),
        lambda: compile_model(model, march="nash-e", shapes=shapes),
    ):
        with pytest.raises(ModelError, match=message):
            attempt()


MASKS = {
    "chosen and added": "m = Where(later, fill, nothing) t = Add(p, m) ",
    "chosen": "t = Where(later, fill, p) ",
    "filled and cut": """b = Concat <axis = 0> (k, k) f = ConstantOfShape <value = float[1] {-30000.0}> (b)
        m = Trilu <upper = 1> (f, one) t = Add(p, m) """,
}


@pytest.mark.parametrize("fill", [-1e4, -np.inf])
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_a_free_length_hides_what_it_hides(name: str, fill: float) -> None:
    text = """(float[N,S,16] x) => (float y) { h = Transpose <perm = [0, 2, 1]> (x) p = MatMul(x, h)
        s = Shape(x) n = Gather(s, one) k = Unsqueeze(n, first) r = Range(zero, n, one)
        row = Unsqueeze(r, ones) column = Unsqueeze(r, first) later = Greater(column, row)"""
    text += MASKS[name] + "q = Softmax <axis = -1> (t) y = MatMul(q, x) }"
    model = float_model(text, W | {"fill": np.float32(fill), "nothing": np.float32(0)})
    made = quantize(model, [{"x": noise(1, length, 16, seed=length)} for length in (4, 6, 9)])
    feed = {"x": noise(1, 8, 16, seed=3)}
    assert not cpu(made, {"x": (1, 8, 16)})
    (wanted,) = ort.run(model, feed).values()
    assert cosine(run(made, feed), wanted) > 0.99  # 0.4 where the mask takes the range
