"""analyze: what it measures is what float64 gives by hand, and what was damaged is named first."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, helper

from evaluation.analysed import TEXT, by_hand, changed, named, weights
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, ModelError
from openbpu.compiler import compile as build
from openbpu.evaluation import Analysis, analyze
from openbpu.evaluation.analysis import Analyzer, analyzer, dump
from openbpu.evaluation.reference import evaluate
from openbpu.quantization.onnx import Corrections, quantize
from quantization.float_models import constant, float_model, noise, samples

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def net() -> ModelProto:
    return named(TEXT)


@pytest.fixture(scope="module")
def data(net: ModelProto) -> dict[str, Array]:
    return samples(net, 4)


@pytest.fixture(scope="module")
def q(net: ModelProto, data: dict[str, Array]) -> ModelProto:
    """Symmetric: with hand-made steps a code is a multiple of the step; with biases as they are."""
    plain = Corrections(bias_correction=False)
    return quantize(net, data, tail=DType.INT8, asymmetric=False, corrections=plain)


@pytest.fixture(scope="module")
def found(net: ModelProto, q: ModelProto, data: dict[str, Array]) -> Analysis:
    return analyze(net, q, data)


def everything(model: ModelProto, data: dict[str, Array], name: str) -> Array:
    values = [evaluate(model, {"x": x}).values[name] for x in data["x"]]
    return np.stack(values)


def test_the_error_so_far_is_that_of_the_graphs_in_float64(
    net: ModelProto, q: ModelProto, data: dict[str, Array], found: Analysis
) -> None:
    assert [row.tensor for row in found.rows] == ["x", "c", "r", "m", "d", "s", "g", "f", "y"]
    for row in found.rows:
        made = row.tensor if row.tensor in "cy" else f"{row.tensor}_DequantizeLinear_Output"
        expected = by_hand(everything(net, data, row.tensor), everything(q, data, made))
        so_far = (row.so_far.cosine, row.so_far.sqnr, row.so_far.l1, row.so_far.max_abs)
        assert so_far == pytest.approx(expected, rel=2e-3)


def test_alone_means_own_weights_and_own_rounding_on_the_float_models_tensors(
    net: ModelProto, q: ModelProto, data: dict[str, Array], found: Analysis
) -> None:
    step = constant(q, "r_scale")
    r = everything(net, data, "r")
    rounded = np.clip(np.rint(r / step), -128, 127) * step
    row = found.row("n_r")
    assert (row.alone.cosine, row.alone.sqnr) == pytest.approx(by_hand(r, rounded)[:2], rel=1e-4)
    assert row.used == pytest.approx(np.unique(np.clip(np.rint(r / step), -128, 127)).size / 256)
    assert (row.part, row.dtype, row.clipped) == ("result", "int8", 0.0)

    scale = constant(q, "v_scale").reshape(-1, 1, 1, 1)
    coarse = changed(net, "v", lambda v: np.clip(np.rint(v / scale), -128, 127) * scale)
    step = constant(q, "d_scale")
    d = np.clip(np.rint(everything(coarse, data, "d") / step), -128, 127) * step
    expected = by_hand(everything(net, data, "d"), d)
    row = found.row("n_d")
    assert (row.alone.cosine, row.alone.sqnr, row.alone.l1) == pytest.approx(expected[:3], rel=1e-3)
    assert (row.part, row.dtype) == ("result", "int8")
    assert (found.row("n_c").part, found.row("n_c").dtype) == ("weights", "")


def test_what_only_moves_codes_adds_nothing(found: Analysis) -> None:
    for node in ("n_m", "n_f"):
        assert found.row(node).alone.equal
        assert not found.row(node).cause
        assert not found.row(node).so_far.equal


def test_small_chunks_find_the_same(
    net: ModelProto, q: ModelProto, data: dict[str, Array], found: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analyzer, "CHUNK_BYTES", 1)
    assert analyze(net, q, data) == found


def test_a_layer_with_damaged_weights_is_named_first(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    bad = changed(q, "v_quantized", lambda v: np.roll(v, 1, axis=0))
    found = analyze(net, bad, data)
    assert found.worst()[0].node == "n_d"
    assert found.first is not None
    assert found.first.row.node == found.first.most.node == "n_d"
    (remedy,) = found.worst()[0].remedies
    assert remedy.change == "weights"
    assert found.row("n_r").so_far.cosine > 0.999


def test_a_range_too_small_is_truncation_and_the_remedy_holds(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    bad = changed(changed(q, "r_scale", lambda s: s / 6), "m_scale", lambda s: s / 6)
    found = analyze(net, bad, data)
    row = found.worst()[0]
    assert (row.node, row.cause, row.part) == ("n_r", "truncation", "result")
    assert row.clipped is not None
    assert row.range is not None
    r = everything(net, data, "r")
    assert row.clipped == pytest.approx(np.mean(r > row.range[1] + (row.step or 0) / 2))
    widen = next(r for r in row.remedies if r.change == "widen")
    assert widen.sqnr == pytest.approx(analyze(net, q, data).row("n_r").alone.sqnr, abs=1.0)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_range_too_large_is_rounding_and_the_remedies_hold(
    net: ModelProto, data: dict[str, Array], asymmetric: bool
) -> None:
    options: Any = {"tail": DType.INT8, "asymmetric": asymmetric}
    q = quantize(net, data, **options)
    bad = changed(changed(q, "r_scale", lambda s: s * 12), "m_scale", lambda s: s * 12)
    row = analyze(net, bad, data).worst()[0]
    assert (row.node, row.cause, row.part) == ("n_r", "rounding", "result")
    assert row.used is not None
    assert row.used < 0.1
    foreseen = {r.change: r.sqnr for r in row.remedies}
    assert "narrow" in foreseen
    (text,) = (r.text for r in row.remedies if r.change == "int16")
    assert text.startswith("int16 for its result: --int16-nodes n_d, which reads it")  # n_m only moves it
    mse = quantize(net, data, method="mse", **options)
    assert foreseen["narrow"] == pytest.approx(analyze(net, mse, data).row("n_r").alone.sqnr, abs=1.0)


def test_noise_of_an_innocent_node_is_traced_to_the_one_that_adds_it(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    bad = changed(changed(q, "r_scale", lambda s: s * 5), "m_scale", lambda s: s * 5)
    clean = min(r.so_far.cosine for r in analyze(net, bad, data).rows[:4])
    found = analyze(net, bad, data, min_cosine=clean)  # no row is below it before the second Conv
    assert found.first is not None
    assert found.first.row.node in {"n_d", "n_s"}
    assert found.first.most.node == "n_r"


def test_channels_that_cannot_share_a_scale_are_found() -> None:
    w = noise(4, 3, 1, 1, seed=5)
    w[2] /= 300
    net = float_model("(float[1, 3, 4, 4] x) => (y) { c = Conv (x, w) y = Relu (c) }", {"w": w})
    q = quantize(net, samples(net))
    step = np.asarray(np.abs(w).max() / 127, np.float32)
    shared = changed(q, "w_quantized", lambda _: np.rint(w / step))
    shared = changed(shared, "w_scale", lambda _: step)
    shared = changed(shared, "w_zero_point", lambda _: np.zeros(()))
    shared = onnx.ModelProto.FromString(shared.SerializeToString())
    for node in shared.graph.node:
        if "w_quantized" in node.input:
            del node.attribute[:]
    (found,) = analyze(net, shared, samples(net)).weights
    assert (found.channels, found.narrow, found.narrowest) == (4, 1, 2)
    assert found.steps == pytest.approx(np.abs(w[2] / step).max())
    assert analyze(net, q, samples(net)).weights == ()


def test_nodes_whose_results_the_float_model_lacks_belong_to_the_next(data: dict[str, Array]) -> None:
    net = float_model(TEXT.replace("s = Sigmoid (d)", "t = Sigmoid (d) s = Mul (t, d)"), weights())
    q = quantize(net, data)
    made = onnx.ModelProto()
    made.CopyFrom(q)
    for node in made.graph.node:  # as if the quantizer had made one of its own
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = "own" if name == "t" else name
    a, b = analyze(net, q, data), analyze(net, made, data)
    assert [r.tensor for r in a.rows if r.tensor != "t"] == [r.tensor for r in b.rows]
    assert len(b.row("s").through) == 1
    assert b.row("s").alone == a.row("s").alone  # the function has no rounding inside
    assert b.row("y").so_far == a.row("y").so_far


def test_outputs_with_a_pair_and_renamed_tensors_are_matched(data: dict[str, Array]) -> None:
    net = float_model(TEXT.replace("y = Gemm (f, k)", "z = Gemm (f, k) y = Tanh (z)"), weights())
    q = quantize(net, data)
    found = analyze(net, q, data)
    assert found.rows[-1].tensor == "y"
    assert found.outputs == (found.rows[-1],)
    assert found.rows[-1].dtype == "int16"
    assert found.unmatched == ()


def test_modules_match_where_tensors_have_other_names(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(net)
    for model in (other, q := onnx.ModelProto.FromString(q.SerializeToString())):
        for node in model.graph.node:
            if node.op_type in {"Conv", "Sigmoid"}:
                scope = f"['', 'net', 'net.{node.name[-1]}', 'f']"
                node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scope)
    for node in other.graph.node:
        node.name = f"other {node.name}"
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = f"t_{name}" if name in set("crmdsgf") else name
    found = analyze(other, q, data)
    assert [r.tensor for r in found.rows] == ["x", "t_c", "t_d", "t_s", "y"]
    assert found.row("n_d").module == "net.d"
    assert found.row("n_d").through == ("n_r", "n_m")


def test_until_stops_and_dump_gives_the_tensors(
    net: ModelProto, q: ModelProto, data: dict[str, Array], found: Analysis
) -> None:
    part = analyze(net, q, data, until="n_m")
    assert part.rows == found.rows[:4]
    both = Analyzer(net, q)
    feeds, _ = both.feeds(data, 2)
    given = list(dump(both, feeds, ["n_r", "m_QuantizeLinear_Output"]))
    floats = {n: arrays["r"] for n, run, arrays in given if run == "float"}
    codes = {n: arrays["m_QuantizeLinear_Output"] for n, run, arrays in given if run == "qdq"}
    assert floats[1] == pytest.approx(everything(net, data, "r")[1], abs=1e-5)
    assert codes[1].dtype == np.int8
    names = {name for _, _, arrays in dump(both, feeds[:1], until="n_r") for name in arrays}
    assert {"c", "r", "r_QuantizeLinear_Output"} <= names
    assert "m" not in names
    with pytest.raises(InputError, match=r"--tensor: the name must be a tensor or a node, not 'n_q'"):
        list(dump(both, feeds, ["n_q"]))


def test_the_binary_stands_beside(net: ModelProto, q: ModelProto, data: dict[str, Array]) -> None:
    found = analyze(net, q, data, build(q, march="nash-e"))
    shown = [row for row in found.rows if row.simulated is not None]
    assert {"r", "y"} <= {row.tensor for row in shown}
    for row in shown:
        assert row.simulated is not None
        assert row.simulated.sqnr == pytest.approx(row.so_far.sqnr, abs=0.5)
        assert (row.deviating or 0.0) < 0.01
    bad = changed(q, "v_quantized", lambda v: np.roll(v, 1, axis=0))
    rows = analyze(net, q, data, build(bad, march="nash-e")).rows
    differ = [row.node for row in rows if (row.deviating or 0.0) > 0.05]
    assert differ[0] == "n_s"  # the first that the binary shows behind the damage
    both = Analyzer(net, q, build(q, march="nash-e"))
    feeds, _ = both.feeds(data, 1)
    simulated = [arrays for _, run, arrays in dump(both, feeds) if run == "simulated"]
    assert simulated[0]["r_QuantizeLinear_Output"].shape == (1, 8, 8, 8)


def test_histograms_count_every_value(net: ModelProto, data: dict[str, Array], found: Analysis) -> None:
    row = found.row("n_r")
    assert row.values is not None
    r = everything(net, data, "r").astype(np.float32)
    edges = row.values.start + row.values.width * np.arange(len(row.values.counts) + 1)
    assert row.values.counts == tuple(np.histogram(r, edges)[0])
    assert sum(row.values.counts) == r.size


def test_infinite_values_are_no_traceback(net: ModelProto, q: ModelProto, data: dict[str, Array]) -> None:
    wild = changed(net, "k", lambda k: np.full_like(k, np.inf))
    row = analyze(wild, q, data).rows[-1]
    assert row.so_far.max_abs == np.inf


def with_input(net: ModelProto, name: str) -> ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(net)
    copy.graph.input[0].name = name
    copy.graph.node[0].input[0] = name
    return copy


def test_models_that_do_not_belong_together_are_refused(
    net: ModelProto, q: ModelProto, data: dict[str, Array], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"the quantized model: the inputs must be image, not x; analyze"):
        analyze(with_input(net, "image"), q, {"image": data["x"]})
    other = float_model("(float[1, 3, 8, 8] x) => (u, t) { u = Relu (x) t = Neg (x) }")
    with pytest.raises(ModelError, match=r"the model must be one with tensors with the names of the float"):
        analyze(other, q, data)
    with pytest.raises(InputError, match=r"input 'x'"):
        analyze(net, q, {"x": noise(4, 3, 9, 8)})
    with pytest.raises(InputError, match=r"--until: the node must be one that both models have, not 'nope'"):
        analyze(net, q, data, until="nope")
    broken = onnx.ModelProto()
    broken.CopyFrom(q)
    broken.graph.node.append(helper.make_node("Nonsense", ["x"], ["nonsense"], "n"))
    with pytest.raises(ModelError, match=r"the quantized model: .*Nonsense"):
        analyze(net, broken, data)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        analyze(tmp_path / "bad.onnx", q, data)


def test_free_axes_take_the_sizes_of_the_samples(data: dict[str, Array]) -> None:
    net = float_model(TEXT.replace("1, 3, 8, 8", "N, 3, H, W"), weights())
    for size in (-1, 0):
        old = onnx.ModelProto()
        old.CopyFrom(net)
        old.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
        q = quantize(old, data, shapes={"x": (1, 3, 8, 8)})
        assert analyze(old, q, data).rows[-1].so_far.cosine > 0.999
    free = quantize(net, [{"x": data["x"][0]}, {"x": noise(1, 3, 12, 9)}])
    assert analyze(net, free, [{"x": data["x"][0]}, {"x": noise(2, 3, 12, 9)}]).samples == 2


LEAST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("fill", "given"),
    [
        *((fill, "constant") for fill in (-1e4, -np.inf, -30.0, LEAST)),
        *((fill, "input") for fill in (-1e4, -30.0, LEAST)),
    ],
)
def test_what_a_mask_hides_is_no_error(fill: float, given: str) -> None:
    text = """(float[1, 8, 16] q, float[1, 16, 8] k, float[1, 8, 16] v) => (float[1, 8, 16] y) {
        s = MatMul (q, k) a = Add (s, mask) p = Softmax <axis = -1> (a) y = MatMul (p, v) }"""
    mask = np.triu(np.full((1, 8, 8), fill, np.float32), 1)
    net = float_model(text, {"mask": mask} if given == "constant" else {})
    data = samples(net, 2)
    if given == "input":
        net = float_model(text.replace("v)", "v, float[1, 8, 8] mask)", 1))
        data["mask"] = np.stack([mask, mask])
    found = analyze(net, quantize(net, data), data)
    assert found.row("a").alone.sqnr > 30
    assert found.row("a").so_far.cosine > 0.99
    assert found.worst()[0].alone.sqnr > 30


def test_nodes_without_names_can_be_computed_alone() -> None:
    net = float_model("(float[1, 8] x) => (y) { a = Sigmoid (x) b = Tanh (a) y = Mul (a, b) }")
    for node in net.graph.node:
        node.name = ""
    q = quantize(net, samples(net))
    for node in q.graph.node:
        node.name = ""
    assert [row.node for row in analyze(net, q, samples(net)).rows] == [
        "x",
        "a",
        "b",
        "y_QuantizeLinear_Input",
    ]


def test_tensors_of_one_name_and_different_shapes_do_not_belong_together(data: dict[str, Array]) -> None:
    net = float_model(TEXT, weights())
    q = quantize(net, data)
    for node in q.graph.node:  # exporters count: their c need not be ours
        node.name = ""
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = {"c": "d", "d": "c"}.get(name, name)
    assert not {"c", "d"} & {row.tensor for row in analyze(net, q, data).rows}
