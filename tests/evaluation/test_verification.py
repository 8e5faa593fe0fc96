"""`verify`: right binaries pass, wrong ones fail at the tensor that is wrong, and ties are no mistakes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.reading import model as text_model
from evaluation.verified import Array, ends_in_codes, given, network, with_wrong_weight
from openbpu.arch.errors import ModelError
from openbpu.compiler import compile as compile_model
from openbpu.evaluation import Explanation, verify
from openbpu.evaluation.ends import noise, random_inputs
from openbpu.evaluation.images import part, part_like, part_of, together
from openbpu.evaluation.reference import evaluate, layerwise
from openbpu.report.verify import sentences, verify_json
from openbpu.runtime import Session
from witness.builder import GraphBuilder, Style


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("style", ["int8", "uint8", "int16"])
def test_a_right_binary_equals_float64(style: str, march: str) -> None:
    model = network(style).model()
    found = verify(model, compile_model(model, march=march), samples=2)
    assert found.passed
    assert found.judge == "float64"
    assert found.explanation is None or found.explanation.holds
    assert [c.elements for c in found.outputs] == [2 * 5 * 6 * 6]


@pytest.mark.parametrize("style", ["int8", "uint8", "int16"])
def test_codes_are_compared_with_codes(style: str) -> None:
    model = ends_in_codes(network(style).model())
    found = verify(model, compile_model(model, march="nash-e"))
    (output,) = found.outputs
    assert (output.step, output.max_abs, output.differing) == (1.0, 0.0, 0.0)
    assert output.cosine == pytest.approx(1.0)
    assert found.passed


def test_a_wrong_binary_fails_at_the_layer_that_is_wrong() -> None:
    model = network().model()
    found = verify(model, compile_model(with_wrong_weight(model, 1), march="nash-e"))
    assert not found.passed
    assert found.explanation is not None
    said = found.explanation.first_wrong
    assert "steps from float64, not 0.5" in said
    assert found.explanation.tensors > 1
    names = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert f"'{names[0]}'" not in said  # the layers before it are right


@pytest.mark.parametrize(
    "chain",
    ["m = Mul(d, d) p = Mul(m, m)", "p = Sqrt(d)", "m = Mul(d, half) p = Max(d, m)"],
    ids=["a function of plain products", "what is not defined everywhere", "lines"],
)
@pytest.mark.parametrize(("kind", "step"), [("int16", 1e-4), ("uint8", 0.01)])
def test_a_table_of_int16_is_within_its_bound(chain: str, kind: str, step: float) -> None:
    model = text_model(
        f"""g (int16[65536] x) => ({kind}[65536] y)
        <float s = {{3.0e-5}}, int16 z = {{0}}, float t = {{{step}}}, {kind} v = {{0}}, float half = {{0.5}}>
        {{ d = DequantizeLinear(x, s, z) {chain} y = QuantizeLinear(p, t, v) }}"""
    )
    feed = {"x": np.arange(-32768, 32768).astype(np.int16)}
    found = verify(model, compile_model(model, march="nash-e"), feed)
    assert found.passed, found.failures


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_a_batch_is_as_many_runs_each_judged_alone(march: str) -> None:
    model = network().model()
    right = verify(model, compile_model(model, march=march, batch=3))
    assert (right.passed, right.judge, right.outputs[0].elements) == (True, "float64", 3 * 5 * 6 * 6)
    wrong = with_wrong_weight(model, 1)
    many, one = (verify(model, compile_model(wrong, march=march, batch=n)) for n in (3, 1))
    assert many.explanation is not None
    assert one.explanation is not None
    assert not many.passed
    assert many.explanation.tensors == 3 * one.explanation.tensors
    (seen, expected) = (e.first_wrong.split(":")[0] for e in (many.explanation, one.explanation))
    assert seen == expected


@pytest.mark.parametrize(
    ("shape", "full", "found"),
    [
        ((1, 4, 3), (2, 4, 3), 0),
        ((4, 1, 3), (4, 2, 3), 1),
        ((1, 1, 4), (2, 4), 0),
        ((4, 3), (4, 1, 6), 1),
        ((1, 2, 1), (2, 2), None),  # before or behind the 2?
        ((1, 4, 3), (2, 12), None),
    ],
)
def test_the_share_of_a_run_is_found_where_its_axis_is_clear(
    shape: tuple[int, ...], full: tuple[int, ...], found: int | None
) -> None:
    x = np.arange(np.prod(full)).reshape(full)
    shares = [part_like(x, shape, k, 2) for k in range(2)]
    if found is None:
        assert shares == [None, None]
        return
    a, b = shares
    assert a is not None
    assert b is not None
    assert a.shape == shape
    np.testing.assert_array_equal(np.concatenate([a, b], found).ravel(), x.ravel())


@pytest.mark.parametrize(
    ("shape", "axis", "shares"),
    [
        ((6,), 0, [[0, 1, 2], [3, 4, 5]]),
        ((2, 3), 0, [[[0, 1, 2]], [[3, 4, 5]]]),
        ((1, 4), 1, [[[0, 1]], [[2, 3]]]),
        ((), 0, [0, 0]),
    ],
)
def test_every_run_has_its_share_and_all_of_a_scalar(
    shape: tuple[int, ...], axis: int, shares: list[object]
) -> None:
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    assert [part(x, k, 2, axis).tolist() for k in range(2)] == shares
    assert part(x, 0, 1, axis) is x
    if axis == 0:
        assert [part_of({"x": x}, k, 2)["x"].tolist() for k in range(2)] == shares


def test_the_outputs_of_runs_are_joined_unless_one_has_none() -> None:
    a, b = {"y": np.array([[1, 2]])}, {"y": np.array([[3, 4]])}
    assert together([a, b])["y"].tolist() == [[1, 2], [3, 4]]
    assert together([a, {}]) == together([{}, b]) == together([{}]) == {}
    assert together([a]) == a


@pytest.mark.parametrize("seed", [0, 5])
def test_the_seed_of_each_run_of_noise_is_one_above_the_last(seed: int) -> None:
    session = Session(compile_model(network().model(), march="nash-e"))
    runs = [x for feed in noise(session, 3, seed) for x in feed.values()]
    assert len({x.tobytes() for x in runs}) == 3
    for x, each in zip(runs, range(seed, seed + 3), strict=True):
        (expected,) = random_inputs(session, each).values()
        np.testing.assert_array_equal(x, expected)
    assert not [*noise(session, 0, seed)]


def test_without_inputs_the_noise_of_the_seed_is_judged() -> None:
    model = network().model()
    wrong = compile_model(with_wrong_weight(model, 1), march="nash-e")
    found = verify(model, wrong, samples=2, seed=5)
    same = verify(model, wrong, [random_inputs(Session(wrong), each) for each in (5, 6)])
    assert (found.noise, same.noise) == (True, False)
    assert (found.outputs, found.samples) == (same.outputs, 2)


def test_a_model_that_describes_gigabytes_is_not_evaluated() -> None:
    program = compile_model(text_model("g (float[1,8] x) => (float[1,8] y) { y = Relu (x) }"), march="nash-e")
    huge = text_model("""g (float[1,8] x) => (float[1,8] y) { n = Constant <value_ints = [1099511627776]> ()
        c = ConstantOfShape (n) m = ReduceMax <keepdims = 0> (c) y = Add (x, m) }""")
    with pytest.raises(ModelError, match="output 'c': size must be at most 2 GiB"):
        verify(huge, program, [{"x": np.zeros((1, 8), np.float32)}])


def test_a_threshold_takes_the_place_of_the_verdict() -> None:
    model = network().model()
    other = compile_model(with_wrong_weight(model, 1), march="nash-e")
    assert verify(model, other, min_cosine=-1).passed
    assert "more than 0" in verify(model, other, min_cosine=-1, max_steps=0).failures[0]


# --- Ties ------------------------------------------------------------------------------------------


def flipped_once(model: onnx.ModelProto, feed: dict[str, Array]) -> tuple[dict[str, Array], str]:
    """Every quantized tensor, but the first with near ties has them rounded the other way."""
    meant = evaluate(model, feed)
    name = next(n for n, r in meant.roundings.items() if r.near_tie.any())
    return {name: meant.roundings[name].flipped}, name


def ties_and_what_follows() -> GraphBuilder:
    """A quantized tensor with ties, and another one that is computed from it."""
    b = GraphBuilder(style=Style(power_of_two=True))
    halves = b.qdq(b.node("Mul", b.quantized_input((1, 64)), b.constant(0.75)))
    b.output(b.qdq(b.node("Mul", halves, b.constant(9.0))))
    return b


def test_ties_rounded_the_other_way_explain_what_follows_from_them() -> None:
    b = ties_and_what_follows()
    model = b.model()
    seen, name = flipped_once(model, b.inputs)
    told = Explanation()
    for report in layerwise(model, lambda n, *_: seen.get(n), b.inputs).reports.values():
        told.add(report, frozenset())
    assert told.holds
    assert told.ties == np.count_nonzero(seen[name] != evaluate(model, b.inputs).values[name]) > 0
    assert f"'{name}' behind Mul" in told.first_tie


def test_what_follows_a_tie_is_judged_from_the_tie_on() -> None:
    """The outputs of `layerwise` are what the shown tensors lead to, not what float64 alone gives."""
    b = ties_and_what_follows()
    model = b.model()
    seen, _ = flipped_once(model, b.inputs)
    found = layerwise(model, lambda n, *_: seen.get(n), b.inputs)
    (name,) = found.outputs
    assert not np.array_equal(found.outputs[name], evaluate(model, b.inputs).outputs[name])


def chain_of_ties(layers: int = 8, size: int = 128) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Products whose steps are a twentieth of their result: many sums are ties, which the next layer sees."""
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {"z": np.int8(0), "step": np.float32(0.1), "half": np.float32(0.05)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "step", "z"], ["q0"])]
    for i in range(layers):
        weights[f"w{i}"] = rng.integers(-3, 4, (size, size)).astype(np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{i}", "step", "z"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", "half", "z"], [f"v{i}"]),
            helper.make_node("MatMul", [f"d{i}", f"v{i}"], [f"m{i}"]),
            helper.make_node("QuantizeLinear", [f"m{i}", "step", "z"], [f"q{i + 1}"]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", [f"q{layers}", "step", "z"], ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, size]) for n in "xy")
    constants = [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "ties", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model, {"x": (rng.integers(-40, 40, (4, size)) * 0.1).astype(np.float32)}


def test_a_right_binary_passes_where_float32_breaks_ties_that_cascade() -> None:
    model, feed = chain_of_ties()
    found = verify(model, compile_model(model, march="nash-e"), feed)
    assert found.onnxruntime is not None
    (ours,), (theirs,) = found.outputs, found.onnxruntime
    assert (found.passed, ours.differing) == (True, 0.0)
    assert theirs.differing > 0.1
    assert theirs.max_steps is not None
    assert theirs.max_steps > 1
    assert found.parting is not None  # one sum of 128 products, and seven layers of what it began
    assert (found.parting.tensor, found.parting.elements) == ("tensor 'q1' behind MatMul", 512)
    assert 0 < found.parting.differing == found.parting.ties < 0.1 * 512
    assert found.parting.error == pytest.approx(0.5, abs=1e-5)
    assert any("'q1' behind MatMul" in line for line in sentences(found))
    assert verify_json(found)["onnxruntime_parts"]["ties"] == found.parting.ties


def test_onnx_runtime_that_does_not_part_is_not_said_to() -> None:
    found = given()[1]
    assert found.parting is None
    assert not any("leaves" in line for line in sentences(found))
