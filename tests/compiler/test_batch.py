"""`batch`: a model of one image becomes one of several, whose run is worth as many runs; or it is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from onnx import ModelProto

from openbpu.arch.errors import CompileError, OptionError
from openbpu.compiler import compile as build
from openbpu.compiler.ir.graph import Array
from openbpu.quantization.onnx import quantize_random
from openbpu.runtime import Session
from quantization.float_models import float_model, noise
from witness.random_graphs import qdq_models

IMAGE, TOKENS = "float[1,4,8,8] x", "float[1,6,8] x"
WEIGHTS: dict[str, Array] = {
    "w": noise(8, 4, 3, 3),
    "v": noise(4, 2, 2, 2),
    "gemm": noise(256, 5),
    "row": noise(8, 8),
    "bias": noise(8),
    "place": noise(1, 6, 8),
    "token": noise(1, 1, 8),
    "scale": np.abs(noise(4)) + 0.5,
    "table": noise(10, 8),
    "one": np.array([1]),
    "zero": np.array([0]),
    "first": np.array(0),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "sizes": np.array([1, 4, 16, 16]),
    "two": np.array([2]),
    "big": np.array([2**62]),
    "anchors": np.array([2, 2, 8, 8]),
    "image": np.array([1, 4, 8, 8]),
    "heads": np.array([1, 6, 2, 4]),
    "joined": np.array([1, 6, 8]),
    "folded": np.array([6, 8]),
    "spread": np.array([1, 4, 8, 8]),
    "wide": noise(1, 4, 8, 8),
    "grid": np.tanh(noise(1, 5, 6, 2)),
}
ATTENTION = """
    p = Add(x, place) q = MatMul(p, row) h = Reshape(q, heads)
    t = Transpose<perm=[0,2,1,3]>(h) u = Transpose<perm=[0,2,3,1]>(h)
    a = MatMul(t, u) s = Softmax<axis=3>(a) o = MatMul(s, t)
    z = Transpose<perm=[0,2,1,3]>(o) j = Reshape(z, joined)
    n = LayerNormalization(j, bias, bias) y = Add(n, p)
"""
MADE = {
    "convolutions": (IMAGE, "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) y = MaxPool<kernel_shape=[2,2]>(r)"),
    "groups": (IMAGE, "y = ConvTranspose<group=2, strides=[2,2]>(x, v)"),
    "normalized": (IMAGE, "b = BatchNormalization(x, scale, scale, scale, scale) y = Sigmoid(b)"),
    "classifier": (IMAGE, "f = Flatten(x) y = Gemm(f, gemm)"),
    "pooled": (IMAGE, "p = GlobalAveragePool(x) y = Relu(p)"),
    "reduced": (IMAGE, "m = ReduceMean<axes=[2,3], keepdims=0>(x) y = Neg(m)"),
    "padded": (IMAGE, "p = Pad(x, pads) y = Relu(p)"),
    "resized": (IMAGE, 'r = Resize<mode="nearest">(x, , , sizes) y = Relu(r)'),
    "sampled": (IMAGE, "y = GridSample(x, grid)"),
    "sampled by itself": (
        IMAGE,
        "a, b = Split<axis=1>(x) t = Transpose<perm=[0,2,3,1]>(a) g = Tanh(t) y = GridSample(b, g)",
    ),
    "sampled places": (
        IMAGE,
        "a, b = Split<axis=1>(x) g = Transpose<perm=[0,2,3,1]>(a) y = GridSample(wide, g)",
    ),
    "cut": (IMAGE, "c = Slice(x, one, two, one) y = Relu(c)"),
    "constant map": (IMAGE, "y = Add(x, wide)"),
    "anchors": (IMAGE, "a = Reshape(x, anchors) s = Softmax<axis=2>(a) y = Reshape(s, image)"),
    "shuffled": (IMAGE, "t = Transpose<perm=[1,0,2,3]>(x) r = Relu(t) y = Transpose<perm=[1,0,2,3]>(r)"),
    "joined": (IMAGE, "r = Relu(x) y = Concat<axis=1>(x, r)"),
    "parts": (IMAGE, "a, b = Split<axis=1>(x) y = Mul(a, b)"),
    "scanned": (IMAGE, "y = CumSum(x, axis3)"),
    "picked": (IMAGE, "a = ArgMax<axis=1>(x) y = Cast<to=1>(a)"),
    "top": (IMAGE, "r = Relu(x) y, i = TopK<axis=1>(r, two)"),
    "attention": (
        TOKENS,
        ATTENTION,
    ),
    "token": (TOKENS, "c = Concat<axis=1>(token, x) y = MatMul(c, row)"),
    "folded rows": (
        TOKENS,
        "f = Reshape(x, folded) m = MatMul(f, row) b = Add(m, bias) y = Reshape(b, joined)",
    ),
    "folded place": (TOKENS, "f = Reshape(x, folded) y = Add(f, folded_place)"),
    "first token": (TOKENS, "g = Gather<axis=1>(x, first) y = MatMul(g, row)"),
    "embedded": (TOKENS, "a = ArgMax<axis=1>(x) y = Gather(table, a)"),
    "embedded across": (
        TOKENS,
        "a = ArgMax<axis=1>(x) g = Gather<axis=1>(table, a) y = Transpose<perm=[1,0,2,3]>(g)",
    ),
    "inserted": (TOKENS, "u = Unsqueeze(x, zero) r = Relu(u) s = Squeeze(r, zero) y = Sigmoid(s)"),
}
REFUSED = {
    "softmax": (IMAGE, "y = Softmax<axis=0>(x)", "Softmax"),
    "sum": (IMAGE, "y = ReduceSum(x, zero)", "ReduceSum"),
    "squeeze": (TOKENS, "r = Relu(x) y = Squeeze(r, zero)", "Squeeze"),
    "pick": (TOKENS, "r = Relu(x) y = Gather<axis=0>(r, first)", "Gather"),
    "turned": (TOKENS, "r = Relu(x) y = Transpose<perm=[1,0,2]>(r)", "output 'y'"),
    "unknown": (TOKENS, 'y = Einsum<equation="abc,cd->abd">(x, row)', "Einsum"),
    "inner": (TOKENS, "t = Transpose<perm=[1,0,2]>(x) y = MatMul(tokens, t)", "MatMul"),
}
EXTRA: dict[str, Array] = {"axis3": np.array(3), "folded_place": noise(6, 8), "tokens": noise(6, 4, 1)}


def model(given: str, text: str) -> ModelProto:
    known: dict[str, Array] = {**WEIGHTS, **EXTRA}
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    weights = {name: known[name] for name in sorted(words & known.keys())}
    return float_model(f"({given}) => (float y) {{ {text} }}", weights)


def quantized(name: str) -> ModelProto:
    made = model(*MADE[name])
    try:
        return quantize_random(made)
    except Exception:  # noqa: BLE001 - nothing in it for the BPU: then it runs on the CPU
        return made


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("name", MADE)
def test_a_run_of_three_is_worth_three_runs(name: str, march: str) -> None:
    proto = quantized(name)
    one, three = Session(build(proto, march=march)), Session(build(proto, march=march, batch=3))
    shape = one.inputs[0].shape
    images = np.random.default_rng(0).random((3, *shape), dtype=np.float32) - np.float32(0.3)
    expected = [one.run({"x": image}).outputs["y"] for image in images]
    found = three.run({"x": np.concatenate(list(images))}).outputs["y"]
    np.testing.assert_array_equal(found, np.concatenate(expected))
    assert [p.on for p in three.placement] == [p.on for p in one.placement]


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_mix_images_is_refused_by_name(name: str) -> None:
    given, text, said = REFUSED[name]
    with pytest.raises(CompileError, match=f"{said}.*a batch of 4 must leave images apart") as refused:
        build(model(given, text), march="nash-e", batch=4)
    assert "export the model with a batch of 4" in str(refused.value)
    assert dict(build(model(given, text), march="nash-e").options)["batchable"] == "no"


def test_a_batch_is_a_multiple_of_the_models_own() -> None:
    text = "(float[2,4,8,8] x) => (float y) { r = Relu(x) y = Add(r, wide) }"
    proto = float_model(text, {"wide": noise(2, 4, 8, 8)})
    two, four = Session(build(proto, march="nash-e")), Session(build(proto, march="nash-e", batch=4))
    x = noise(4, 4, 8, 8)
    expected = np.concatenate([two.run({"x": half}).outputs["y"] for half in (x[:2], x[2:])])
    np.testing.assert_array_equal(four.run({"x": x}).outputs["y"], expected)
    with pytest.raises(OptionError, match="batch must be a multiple of 2, the model's own batch, not 3"):
        build(proto, march="nash-e", batch=3)


def test_inputs_of_several_batches_are_refused() -> None:
    proto = float_model("(float[1,4] x, float[2,4] z) => (float y) { y = Add(x, z) }")
    with pytest.raises(CompileError, match=r"inputs: .*first sizes are \[1, 2\]"):
        build(proto, march="nash-e", batch=4)


@pytest.mark.parametrize("batch", [-1, 5000, 1.5, "4"])
def test_a_batch_that_is_none_is_refused(batch: int) -> None:
    with pytest.raises(OptionError, match=r"batch must be a whole number in 0\.\.4096"):
        build(quantized("convolutions"), march="nash-e", batch=batch)


@pytest.mark.parametrize(
    ("text", "can"), [(MADE["convolutions"][1], True), ("c = Conv(x, w) y = Softmax<axis=0>(c)", False)]
)
def test_a_batch_is_only_advised_where_it_can_be_had(text: str, can: bool) -> None:
    proto = quantize_random(model(IMAGE, text))
    session = Session(build(proto, march="nash-e"))
    advised = [c for c in session.roofline.changes if c.key == "batch"]
    assert bool(advised) == can
    for change in advised:
        four = Session(build(proto, march="nash-e", batch=4))
        saved = session.latency.bpu_us - four.latency.bpu_us / 4
        assert saved == pytest.approx(change.gain_us, rel=0.35)
        assert [c for c in four.roofline.changes if c.key == "batch"] == []


@settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(drawn=qdq_models(max_nodes=6))
def test_random_networks_are_worth_as_many_runs_or_refused(
    drawn: tuple[ModelProto, dict[str, Array]],
) -> None:
    proto, inputs = drawn
    one = Session(build(proto, march="nash-e"))
    images = {i.shape[0] for i in one.inputs}
    assume(len(images) == 1)
    try:
        three = Session(build(proto, march="nash-e", batch=3 * images.pop()))
    except CompileError:
        return
    rng = np.random.default_rng(0)
    feeds = [{n: rng.permutation(x.ravel()).reshape(x.shape) for n, x in inputs.items()} for _ in range(3)]
    runs = [one.run(feed).outputs for feed in feeds]
    together = three.run({n: np.concatenate([feed[n] for feed in feeds]) for n in inputs}).outputs
    for name, found in together.items():
        # A last digit: ONNX Runtime's float kernels on the CPU add in an order that the batch decides.
        np.testing.assert_allclose(found, np.concatenate([run[name] for run in runs]), rtol=1e-6, atol=1e-7)
