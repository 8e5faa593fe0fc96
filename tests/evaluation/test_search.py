"""A search on a small network: what it says of every configuration is true of the files that are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, numpy_helper

from evaluation.analysed import TEXT, named
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError
from openbpu.arch.isa import Engine
from openbpu.arch.march import get_march
from openbpu.arch.program import BpuSegment
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.analysis import Analyzer
from openbpu.evaluation.search import Goal, Search, search
from openbpu.evaluation.search.readers import Names, find_readers
from openbpu.evaluation.search.score import held_out_data
from openbpu.evaluation.search.times import node_times
from openbpu.quantization.onnx import quantize
from openbpu.quantization.onnx.report import hold_out
from openbpu.runtime.latency import latency_of
from quantization.float_models import float_model, noise, samples
from witness import ort

Array = npt.NDArray[Any]

BUDGET = 0.01
FAR = """(float[1, 3, 8, 8] x) => (float[1, 5] y, float[1, 6, 8, 8] z) {
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    g = GlobalAveragePool (r)
    f = Flatten (g)
    y = Gemm (f, j)
    t = Tanh (x)
    d = Conv <kernel_shape = [1, 1]> (t, u)
    z = Sigmoid (d)
}"""


@pytest.fixture(scope="module")
def net() -> ModelProto:
    """y is made of the few large values of x, z of the small ones: no range of int8 suits both."""
    made = named(FAR)
    more = {"j": noise(8, 5, seed=4), "u": noise(6, 3, 1, 1, seed=5)}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in more.items())
    return made


@pytest.fixture(scope="module")
def data(net: ModelProto) -> dict[str, Array]:
    images = samples(net, 20)["x"]
    large = np.random.default_rng(1).random(images.shape) < 0.02
    return {"x": np.where(large, 300 * images, images)}


@pytest.fixture(scope="module")
def found(net: ModelProto, data: dict[str, Array]) -> Search:
    return search(net, data, goal=Goal(budget=BUDGET), march="nash-m")


def cosine(net: ModelProto, model: ModelProto, images: list[Array]) -> float:
    """Of the worst output, the mean over the samples, by the witness."""
    of = dict[str, list[float]]()
    for x in images:
        expected, made = (ort.run(m, {"x": x}) for m in (net, model))
        for name in ("y", "z"):
            a, b = (run[name].astype(np.float64).ravel() for run in (expected, made))
            of.setdefault(name, []).append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return min(float(np.mean(values)) for values in of.values())


def test_the_nodes_that_read_large_and_small_values_are_int16(found: Search) -> None:
    assert found.reached
    assert not found.why
    assert found.base.loss > BUDGET > found.best.loss
    assert found.nodes("int16") == ("n_c", "n_t")
    assert found.best.name == "2 int16"
    assert found.gains[0].nodes == ("n_c", "n_t")
    assert found.config["node_config"] == {"n_c": {"qtype": "int16"}, "n_t": {"qtype": "int16"}}


def test_every_point_of_the_front_is_what_its_config_gives(
    net: ModelProto, data: dict[str, Array], found: Search
) -> None:
    _, held = hold_out([{"x": x} for x in data["x"]])
    march = get_march("nash-m")
    for point in found.front:
        model = quantize(net, data, config=point.setup.config({}), judge=True)
        assert point.score == pytest.approx(cosine(net, model, [feed["x"] for feed in held]), abs=1e-7)
        latency = latency_of(compile_model(model, march=march), march)
        assert (point.bpu_us, point.cpu_us) == (latency.bpu_us, latency.cpu_us)
    assert found.samples == len(held)
    assert found.float_score == 1.0


def test_what_the_user_asked_for_is_kept(net: ModelProto, data: dict[str, Array]) -> None:
    config = {"node_config": {"n_[ctg]": {"qtype": "int8"}}, "op_config": {"Sigmoid": {"qtype": "int16"}}}
    found = search(
        net, data, goal=Goal(budget=BUDGET), march="nash-m", config=config, asymmetric=True, trials=8
    )
    assert not found.reached
    assert 4 < len(found.points) <= 8
    for point in found.points:
        assert {"n_c", "n_t", "n_g", "n_z"}.isdisjoint(dict(point.setup.types))
        chosen = point.setup.config(found.config)
        assert chosen["op_config"] == config["op_config"]
        assert chosen["node_config"]["n_[ctg]"] == {"qtype": "int8"}
        assert chosen["model_config"]["activation"]["asymmetric"] is True
    assert found.why.startswith("the budget of 1 % is not reached: the closest is ")


def test_a_search_begins_with_int8(net: ModelProto, data: dict[str, Array]) -> None:
    with pytest.raises(
        InputError, match=r"--auto: model_config.all_node_type must be int8, not int16; leave it"
    ):
        search(net, data, config={"model_config": {"all_node_type": "int16"}})
    found = search(net, data, goal=Goal(budget=1.0), tail=DType.INT8)
    assert found.config == {"model_config": {"all_node_type": "int8"}}
    assert found.reached
    assert len(found.points) == 1


def test_few_samples_judge_themselves_and_that_is_told(net: ModelProto, data: dict[str, Array]) -> None:
    found = search(net, {"x": data["x"][:3]}, goal=Goal(budget=1.0))
    assert found.told == ("judged on 3 samples that ranges were taken from: give 10 or more, or --data",)


def test_zero_points_of_inputs_are_tried_and_taken_where_they_win(net: ModelProto) -> None:
    """Pixels in 0 … 1 use half of the codes around 0."""
    pixels = {"x": np.random.default_rng(3).random((20, 3, 8, 8), np.float32)}
    found = search(net, pixels, goal=Goal(budget=1e-9), march="nash-m", trials=4)
    words = [point.setup.recipe.words for point in found.points]
    assert words == [
        (),
        ("--asymmetric",),
        ("--method mse", "--asymmetric"),
        ("--method percentile", "--asymmetric"),
    ]
    assert found.points[1].loss < found.base.loss
    assert found.points[1].latency_us == found.base.latency_us
    kept = search(
        net, pixels, goal=Goal(budget=1e-9), march="nash-m", trials=4, asymmetric=False, method="mse"
    )
    assert all(point.setup.recipe.method == "" and not point.setup.recipe.asymmetric for point in kept.points)


def test_all_samples_calibrate_where_there_is_data_to_judge_by(
    net: ModelProto, data: dict[str, Array]
) -> None:
    judged = held_out_data([{"x": x} for x in data["x"][:2]])
    kept, _ = hold_out([{"x": x} for x in data["x"]])
    for apart, calibrating in ((None, data["x"]), (True, np.stack([feed["x"] for feed in kept]))):
        found = search(net, data, goal=Goal(budget=1.0), march="nash-m", data=judged, hold_out=apart)
        model = quantize(net, {"x": calibrating})
        assert found.base.score == pytest.approx(cosine(net, model, list(data["x"][:2])), abs=1e-9)
        assert found.samples == 2


def readers(model: ModelProto, fixed: frozenset[str] = frozenset()) -> dict[str, tuple[str, ...]]:
    data = samples(model, 2)
    analyzer = Analyzer(model, quantize(model, data))
    match, _, _ = analyzer.matched({name: x[0] for name, x in data.items()})
    found = find_readers(analyzer.quantized, match, Names(analyzer.float), fixed)
    return {r.tensor: r.nodes for r in found}


def test_readers_are_those_behind_what_moves_and_not_what_takes_int8_only() -> None:
    plain = named(TEXT)
    assert readers(plain) == {"x": ("n_c",), "r": ("n_d",), "d": ("n_s",), "s": ("n_g",), "g": ("n_y",)}
    assert "d" not in readers(plain, frozenset({"s"}))
    product = float_model(
        """(float[1, 4, 4] a, float[1, 4, 4] b) => (float[1, 4, 4] y) {
            c = Add (a, b)
            d = Relu (b)
            t = Transpose <perm = [0, 2, 1]> (d)
            m = MatMul (c, t)
            y = MatMul (m, w)
        }""",
        {"w": noise(4, 4)},
    )
    found = readers(product)
    assert found["c"] == ("m",)  # of nodes without a name, what they make
    assert found["b"] == ("c", "d")
    assert "d" not in found  # the second of two computed operands is int8 whatever is asked


def test_what_float_nodes_alone_read_is_int16_with_the_node_that_makes_it() -> None:
    model = named("""(float[1, 3, 8, 8] x) => (float[1, 6, 8, 8] y) {
        a = Softmax (x) h = Hardmax (a) s = Shape (h) t = Tanh (h) r = Reshape (t, s)
        y = Conv <kernel_shape = [1, 1]> (r, u) }""")
    model.graph.initializer.append(numpy_helper.from_array(noise(6, 3, 1, 1, seed=5), "u"))
    found = readers(model)
    assert found["a"] == ("n_a",)
    assert found["h"] == ("n_t",)


def test_an_input_that_is_only_handed_out_is_made_by_no_node() -> None:
    """The last node of the model has nothing to do with it, the first one makes a tensor like all others."""
    found = readers(
        named("""(float[1, 3, 8, 8] x, float[1, 3, 8, 8] z) => (float[1, 3, 4, 4] m, float[1, 8, 8, 8] c) {
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (z, w, b) }""")
    )
    assert found == {"z": ("n_c",)}
    first = named("""(float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y, float[1, 3, 4, 4] o) {
        g = Hardmax (x) m = MaxPool <kernel_shape = [1, 1]> (g) h = Hardmax <axis = 1> (x)
        y = MatMul (h, m) o = Hardmax (m) }""")
    assert readers(first) == {"g": ("n_g",), "h": ("n_y",)}


@pytest.mark.parametrize(
    ("busy", "cycles"),
    [
        ({Engine.LOAD: 3, Engine.STORE: 4, Engine.TAE: 6, Engine.VPU: 5}, 7),  # one memory behind both
        ({Engine.LOAD: 3, Engine.STORE: 4, Engine.TAE: 5, Engine.TRANS: 8}, 8),
        ({Engine.STORE: 1}, 1),
        ({Engine.AAE: 1}, 1),
        ({}, 0),  # what is folded away
    ],
)
@pytest.mark.parametrize("cores", [1, 4])
def test_a_layer_takes_as_long_as_its_busiest_engine(
    busy: dict[Engine, int], cycles: int, cores: int
) -> None:
    """Its operators one after another, the cores at the same time."""
    march = get_march("nash-m")
    net = named("(float[1, 3, 8, 8] x) => (float[1, 8, 8, 8] c) { c = Conv <pads = [1, 1, 1, 1]> (x, w, b) }")
    program = compile_model(quantize(net, samples(net, 2)), march=march)
    latency = latency_of(program, march)
    (segment,) = latency.segments
    timing = segment.timing
    assert timing is not None
    made = np.zeros_like(timing.layers.busy)
    made[:, list(busy)] = [*busy.values()]
    layers, shared = replace(timing.layers, busy=made), timing.cores[:1] * cores
    segment = replace(segment, timing=replace(timing, layers=layers, cores=shared))
    found = sum(node_times(program, replace(latency, segments=(segment,)), march).values())
    (bpu,) = program.segments
    assert isinstance(bpu, BpuSegment)
    known = sum(op.node >= 0 and bool(program.debug[op.node].origins) for op in bpu.operators)
    assert 1 < known <= len(made)
    assert found == pytest.approx(known * cycles / cores / timing.clock_hz * 1e6)


def test_a_node_without_a_name_is_named_by_what_it_makes_unless_that_names_another() -> None:
    bare = named(TEXT)
    for node in bare.graph.node:
        node.name = {"n_c": "", "n_s": "", "n_d": "s"}.get(node.name, node.name)
    found = readers(bare)
    assert (found["x"], found["r"]) == (("c",), ("s",))
    assert "d" not in found  # who reads it makes 's', which is the name of another


@pytest.mark.slow  # starts processes
def test_workers_find_the_same(net: ModelProto, data: dict[str, Array], found: Search) -> None:
    pytest.importorskip("distributed")
    from openbpu.evaluation.distribution import Pool

    with Pool(workers=2) as pool:
        there = search(net, data, goal=Goal(budget=BUDGET), march="nash-m", pool=pool)
    assert (there.points, there.gains, there.config) == (found.points, found.gains, found.config)


def test_what_travels_finds_the_same(
    net: ModelProto, data: dict[str, Array], found: Search, tmp_path: Path
) -> None:
    class There:
        """A pool elsewhere, in this process."""

        is_here = False

        def sees(self, paths: Any) -> bool:
            return False

        def run(self, task: Any, items: Any, on_result: Any = None) -> Any:
            work = cloudpickle.loads(cloudpickle.dumps(task)).open()
            for number, item in reversed(list(enumerate(items))):
                on_result(number, work(item))

    cloudpickle = pytest.importorskip("cloudpickle")
    path = tmp_path / "net.onnx"
    path.write_bytes(net.SerializeToString())
    there = search(path, data, goal=Goal(budget=BUDGET), march="nash-m", trials=3, pool=cast(Any, There()))
    assert [(p.name, p.score, p.latency_us) for p in there.points] == [
        (p.name, p.score, p.latency_us) for p in found.points[:3]
    ]
