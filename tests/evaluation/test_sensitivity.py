"""Sensitivity is what whole runs of models with one node changed give, computed from less."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from evaluation.analysed import TEXT, by_hand, changed, named
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError
from openbpu.evaluation.analysis import Analyzer, Sensitivity, sensitivity
from openbpu.evaluation.distribution import Pool
from openbpu.evaluation.reference import evaluate
from openbpu.quantization.onnx import Corrections, quantize
from quantization.float_models import constant, samples

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def net() -> ModelProto:
    return named(TEXT.replace("(float[1, 5] y)", "(float[1, 5] y, float[1, 8, 8, 8] r)"))


@pytest.fixture(scope="module")
def data(net: ModelProto) -> dict[str, Array]:
    return samples(net, 4)


@pytest.fixture(scope="module")
def q(net: ModelProto, data: dict[str, Array]) -> ModelProto:
    return quantize(net, data, tail=DType.INT8, corrections=Corrections(bias_correction=False))


def output(model: ModelProto, data: dict[str, Array]) -> Array:
    return np.stack([evaluate(model, {"x": x}).values["y"] for x in data["x"]])


def with_pair(net: ModelProto, q: ModelProto, tensor: str) -> ModelProto:
    """The float model with one pair of the quantized one."""
    made = onnx.ModelProto()
    made.CopyFrom(net)
    for name in (f"{tensor}_scale", f"{tensor}_zero_point"):
        made.graph.initializer.append(numpy_helper.from_array(constant(q, name), name))
    at = next(k for k, n in enumerate(made.graph.node) if tensor in n.output) + 1
    for node in made.graph.node[at:]:
        for k, name in enumerate(node.input):
            node.input[k] = "rounded" if name == tensor else name
    pair = [f"{tensor}_scale", f"{tensor}_zero_point"]
    made.graph.node.insert(at, helper.make_node("QuantizeLinear", [tensor, *pair], ["codes"]))
    made.graph.node.insert(at + 1, helper.make_node("DequantizeLinear", ["codes", *pair], ["rounded"]))
    return made


def rows(found: Sequence[Sensitivity]) -> dict[str, Sensitivity]:
    return {row.tensor: row for row in found}


@pytest.mark.parametrize("by", ["cosine", "mse", "sqnr"])
def test_only_one_node_quantized_is_a_run_of_the_float_model_with_its_pair(
    net: ModelProto, q: ModelProto, data: dict[str, Array], by: str
) -> None:
    analyzer = Analyzer(net, q)
    found = rows(sensitivity(analyzer, data, by=lambda a, b: of_y(a, b, by)))
    assert set(found) == {"x", "c", "r", "d", "s", "g", "y"}  # m and f move codes
    scale = constant(q, "w_scale").reshape(-1, 1, 1, 1)
    coarse = changed(net, "w", lambda w: np.clip(np.rint(w / scale), -128, 127) * scale)
    expected = output(net, data)
    for tensor, model in (("s", with_pair(net, q, "s")), ("c", coarse), ("g", with_pair(net, q, "g"))):
        cosine, sqnr, _, _ = by_hand(expected, output(model, data))
        mse = float(((expected - output(model, data)) ** 2).mean())
        wanted = {"cosine": cosine, "sqnr": sqnr, "mse": mse}[by]
        assert found[tensor].value == pytest.approx(wanted, rel=2e-2 if by == "mse" else 5e-3)
        assert found[tensor].samples == 4


def test_only_a_pair_is_a_run_of_the_float_model_with_it_and_with_float_weights(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    found = rows(sensitivity(Analyzer(net, q), data, mode="pair", by=lambda a, b: of_y(a, b, "mse")))
    assert set(found) == {"x", "r", "d", "s", "g"}  # c and y have no pair, m and f move codes
    expected = output(net, data)
    for tensor in ("r", "d", "g"):
        model = with_pair(net, q, tensor)
        mse = float(((expected - output(model, data)) ** 2).mean())
        assert found[tensor].value == pytest.approx(mse, rel=2e-2)
        assert found[tensor].loss == -found[tensor].value  # of what is no error more is better


def of_y(a: Sequence[Mapping[str, Array]], b: Sequence[Mapping[str, Array]], by: str) -> float:
    x, y = (np.stack([sample["y"] for sample in part]) for part in (a, b))
    cosine, sqnr, _, _ = by_hand(x, y)
    mse = float(((x.astype(np.float64) - y) ** 2).mean())
    return {"cosine": cosine, "sqnr": min(sqnr, 200.0), "mse": mse}[by]


def test_all_but_one_is_a_run_of_the_quantized_model_without_its_pair(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    found = rows(sensitivity(Analyzer(net, q), data, mode="all-but", by=lambda a, b: of_y(a, b, "sqnr")))
    expected = output(net, data)
    bare = onnx.ModelProto()
    bare.CopyFrom(q)
    for node in bare.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = "s" if name == "s_DequantizeLinear_Output" else name
    assert found["s"].value == pytest.approx(by_hand(expected, output(bare, data))[1], rel=5e-3)
    fine = onnx.ModelProto()
    fine.CopyFrom(q)
    for node in fine.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = {"w_DequantizeLinear_Output": "w", "b_DequantizeLinear_Output": "b"}.get(
                name, name
            )
    fine.graph.initializer.extend(t for t in net.graph.initializer if t.name in {"w", "b"})
    assert found["c"].value == pytest.approx(by_hand(expected, output(fine, data))[1], rel=5e-3)
    whole = by_hand(expected, output(q, data))[1]
    assert found["s"].loss == pytest.approx(found["s"].value - whole, abs=0.1)


def test_the_most_sensitive_come_first_and_are_measured_on_all_samples(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    bad = changed(changed(q, "g_scale", lambda s: s * 9), "f_scale", lambda s: s * 9)
    steps: list[tuple[int, int]] = []
    for mode in ("only", "all-but"):
        found = sensitivity(
            Analyzer(net, bad), data, mode=mode, progress=lambda _, done, total: steps.append((done, total))
        )
        assert found[0].node == "n_g"
        assert found[0].loss > 3 * abs(found[1].loss)
        assert [row.samples for row in found] == [4, 4, 4, 1, 1, 1, 1]
        losses = [row.loss for row in found if row.samples == 4]
        assert losses == sorted(losses, reverse=True)
        assert steps[-1] == (10, 10)


def test_metrics_of_ones_own_are_scores_unless_they_say_otherwise(
    net: ModelProto, q: ModelProto, data: dict[str, Array]
) -> None:
    def error(a: Sequence[Mapping[str, Array]], b: Sequence[Mapping[str, Array]]) -> float:
        return of_y(a, b, "mse")

    error.lower_is_better = True  # type: ignore[attr-defined]
    by_error = sensitivity(Analyzer(net, q), data, by=error)
    by_score = sensitivity(Analyzer(net, q), data, by=lambda a, b: -error(a, b))
    assert [r.node for r in by_error] == [r.node for r in by_score]
    assert [r.loss for r in by_error] == pytest.approx([r.loss for r in by_score])
    with pytest.raises(
        InputError, match=r"--metric: the metric must be cosine, mse, sqnr or MODULE:FUNCTION"
    ):
        sensitivity(Analyzer(net, q), data, by="bleu")
    with pytest.raises(InputError, match=r"what <lambda> returns must be a number, not NoneType"):
        sensitivity(Analyzer(net, q), data, by=lambda _a, _b: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match=r"the mode must be only, all-but or pair, not 'both'"):
        sensitivity(Analyzer(net, q), data, mode="both")  # type: ignore[arg-type]


@pytest.mark.slow  # starts processes
def test_workers_find_the_same(net: ModelProto, q: ModelProto, data: dict[str, Array]) -> None:
    pytest.importorskip("distributed")
    analyzer = Analyzer(net, q)
    here = sensitivity(analyzer, data)
    with Pool(workers=2) as pool:
        assert sensitivity(analyzer, data, pool=pool) == here


def test_what_travels_finds_the_same(net: ModelProto, q: ModelProto, data: dict[str, Array]) -> None:
    class There:
        """A pool elsewhere, in this process."""

        is_here = False

        def run(self, task: Any, items: Any, on_result: Any = None) -> Any:
            work = cloudpickle.loads(cloudpickle.dumps(task)).open()
            for number, item in enumerate(items):
                on_result(number, work(item))

    cloudpickle = pytest.importorskip("cloudpickle")
    analyzer, there = Analyzer(net, q), cast(Any, There())
    assert sensitivity(analyzer, data, pool=there) == sensitivity(analyzer, data)
