"""Mechanical fixes: every one does what its words say on its examples, and changes no output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from typer.testing import CliRunner

import operators  # noqa: F401 - registers models that break limits
from compiler.limit_cases import Case, cases
from openbpu.arch.arrays import Array
from openbpu.arch.definition.rooms import IncompleteError, Room, require_total
from openbpu.arch.march import get_march
from openbpu.arch.program import Placement
from openbpu.cli.commands import app
from openbpu.compiler import check
from openbpu.compiler.ops.mechanical import WORDS, mechanical
from openbpu.evaluation.fixing import FIXES, cure
from openbpu.evaluation.fixing.draft import Draft
from openbpu.evaluation.fixing.table import Example, codes, example
from openbpu.evaluation.foresight import foresee
from openbpu.quantization.onnx import quantize
from openbpu.runtime.cpu import make_engine

RUNNER = CliRunner()
EXAMPLES = [(name, n) for name, fix in FIXES.items() for n in range(len(fix.examples()))]


def on_cpu(model: ModelProto, march: str) -> list[Placement]:
    rows = check(model, march=march)
    return [r for r in rows if r.on == "CPU" and r.op not in {"QuantizeLinear", "DequantizeLinear"}]


def feeds(model: ModelProto) -> list[dict[str, Array]]:
    rng, found = np.random.default_rng(7), list[dict[str, Array]]()
    for _ in range(2):
        feed = dict[str, Array]()
        for value in model.graph.input:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            drawn = rng.normal(size=shape) * 3 if dtype.kind == "f" else rng.integers(0, 2, shape)
            feed[value.name] = np.asarray(drawn, dtype)
        found.append(feed)
    return found


def runs(model: ModelProto, data: list[dict[str, Array]]) -> list[Array]:
    engine = make_engine("a test", model.SerializeToString(), 1, plain=True)
    return [np.asarray(out) for feed in data for out in engine.run(None, feed)]


def difference(before: ModelProto, after: ModelProto) -> float:
    data = feeds(before)
    pairs = zip(runs(before, data), runs(after, data), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9)) for a, b in pairs)


# --- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n"), EXAMPLES)
def test_a_fix_takes_its_example_off_the_cpu_and_changes_no_output(name: str, n: int) -> None:
    case = FIXES[name].examples()[n]
    before = on_cpu(case.model, case.march)
    meant = [r.node for r in before if mechanical(r.fix) == name]
    draft = Draft(case.model, get_march(case.march))
    ops = FIXES[name].ops
    done = [
        FIXES[name].rewrite(draft, node)
        for one in meant
        if (node := draft.node(one)) is not None and (not ops or node.op_type in ops)
    ]
    fixed = draft.done()
    onnx.checker.check_model(fixed, full_check=True)
    assert any(done)
    assert len(on_cpu(fixed, case.march)) < len(before)
    bound = FIXES[name].bound or 0.009  # a step of int8 where float32 lies on the other side of a tie
    assert difference(case.model, fixed) <= bound


def _mechanical_limits() -> list[Case]:
    """The limits whose advice can be carried out, but two.

    A fused Add is rounded by the compiler itself; more columns of a constant than a Concat may have stay.
    """
    march = get_march("nash-e").limits
    found = [c for c in cases() if mechanical(c.limit.fix) and (not c.limit.when or march[c.limit.when])]
    return [c for c in found if "fused Add" not in c.limit.text and "N (columns)" not in c.limit.text]


@pytest.mark.parametrize("case", _mechanical_limits(), ids=lambda c: c.id)
def test_the_advice_of_every_limit_that_can_be_carried_out_helps(case: Case) -> None:
    march = case.on(get_march("nash-e"))
    model = case.breaks(march.limits)[0].model()
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"n{number}"
    name = mechanical(case.limit.fix)
    (row,) = (r for r in check(model, march=march) if r.on == "CPU" and mechanical(r.fix) == name)
    draft = Draft(model, march)
    node = draft.node(row.node)
    assert node is not None
    assert not FIXES[name].ops or node.op_type in FIXES[name].ops
    assert FIXES[name].rewrite(draft, node)
    fixed = draft.done()
    onnx.checker.check_model(fixed, full_check=True)
    moves = {"QuantizeLinear", "DequantizeLinear"}
    assert not [r for r in check(fixed, march=march) if r.on == "CPU" and r.op not in moves]
    assert difference(model, fixed) <= 0.009


def test_every_advice_that_can_be_carried_out_has_a_function_and_an_example() -> None:
    assert set(FIXES) == set(WORDS)
    assert all(FIXES[name].examples() for name in WORDS)


def test_a_fix_without_a_function_refuses_the_import() -> None:
    lacking: Room[str, object] = Room("the fix", tuple(WORDS), "openbpu.evaluation.fixing.rules")
    with pytest.raises(IncompleteError, match="zeros in the kernel"):
        require_total("openbpu.evaluation.fixing", lacking)


def test_the_words_of_no_fix_are_part_of_anothers() -> None:
    assert all(mechanical(f"do this: {words}") == name for name, words in WORDS.items())
    assert not mechanical("leave it to the CPU")


def test_the_page_says_what_every_fix_is_for() -> None:
    page = Path(__file__).parents[2].joinpath("docs/placement.md").read_text(encoding="utf-8")
    assert [words for words in WORDS.values() if words.strip() not in page] == []


# --- the whole --------------------------------------------------------------------------------------------


def dilated(quantized: bool) -> ModelProto:
    case: Example = FIXES["zeros in the kernel"].examples()[0]
    if quantized:
        return case.model
    text = "(float[1,4,48,48] x) => (float y)\ny = Conv<dilations=[20,20]>(x, w)"
    return example(text, w=codes(4, 4, 3, 3).astype(np.float32) / 100).model


@pytest.mark.parametrize("quantized", [True, False])
def test_a_cured_model_has_fewer_nodes_on_the_cpu_less_latency_and_a_proof(*, quantized: bool) -> None:
    found = cure(dilated(quantized), march="nash-e")
    assert [c.nodes for c in found.changes] == [("Conv_c" if quantized else "Conv_y",)]
    assert (found.before.on_cpu, found.after.on_cpu) == (1, 0)
    assert found.before.latency_us is not None
    assert found.after.latency_us is not None
    assert found.after.latency_us < found.before.latency_us
    assert found.proof.runs == 2
    assert found.proof.holds
    assert found.proof.bound == (0.02 if quantized else 1e-4)
    assert difference(dilated(quantized), found.model) <= 1e-4
    assert not found.left


def test_a_float_model_stays_float() -> None:
    found = cure(dilated(quantized=False), march="nash-e", as_="int16")
    assert {n.op_type for n in found.model.graph.node} == {"Conv"}
    assert all(r.on == "BPU" for r in foresee(found.model, march="nash-e", as_="int16").placement)


def test_what_needs_no_fix_is_left_as_it_is() -> None:
    text = "(float[1,4,8,8] x) => (float y)\nd = pair(x); k = codes(w); c = Conv(d, k); y = pair(c)"
    model = example(text, w=codes(4, 4, 3, 3)).model
    found = cure(model, march="nash-e")
    assert found.changes == ()
    assert found.model.SerializeToString() == model.SerializeToString()


def test_what_would_cost_accuracy_is_shown_and_not_applied() -> None:
    text = """(float[1,4,8,8] x) => (float y)
        d = pair(x); k = codes(w); c = Conv(d, k); p = pair(c); h = Hardmax(p); y = pair(h)"""
    found = cure(example(text, w=codes(4, 4, 3, 3)).model, march="nash-e")
    assert found.changes == ()
    assert [r.op for r in found.left] == ["Hardmax"]
    assert found.left[0].fix


def test_a_fix_that_costs_more_hand_over_than_it_saves_is_not_applied() -> None:
    text = """(float[4,8] x, int64[4,8] i) => (float y)
        d = pair(x); v = GatherElements(d, i); c = Mul(d, v); y = pair(c)"""
    found = cure(example(text).model, march="nash-e")
    assert found.changes == ()


def test_a_fix_that_changes_the_outputs_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    from openbpu.evaluation.fixing.rules import kernels

    monkeypatch.setattr(kernels, "_spread", lambda data, axis, step: np.repeat(data, 1, axis))
    found = cure(dilated(quantized=True), march="nash-e")
    assert found.changes == ()


def partly() -> ModelProto:
    """Conv with pairs, then Conv and Relu without."""
    text = """(float[1,4,8,8] x) => (float y)
        d = pair(x); k = codes(w); c = Conv(d, k); p = pair(c); e = Conv(p, v); r = Relu(e); y = Sigmoid(r)"""
    return example(text, w=codes(4, 4, 3, 3), v=codes(4, 4, 1, 1).astype(np.float32) / 100).model


def test_neighbours_of_quantized_nodes_are_quantized_where_there_is_data() -> None:
    data = {"x": np.random.default_rng(0).normal(size=(4, 4, 8, 8)).astype(np.float32)}
    without, found = (cure(partly(), march="nash-e", calibration=c) for c in (None, data))
    assert without.changes == ()
    assert found.after.on_cpu == 0 < found.before.on_cpu
    assert not found.drawn
    assert found.proof.runs == 4
    assert found.proof.difference <= found.proof.bound


def test_an_old_opset_becomes_one_with_scales_per_channel() -> None:
    case = example("(float[1,2,4] x) => (float y)\ny = Relu(x)", opset=11)
    found = cure(case.model, march="nash-e")
    assert [c.words for c in found.changes] == ["opset 11 → 13"]
    assert {i.version for i in found.model.opset_import} == {13}


def test_a_model_that_does_not_run_is_refused_in_words(tmp_path: Path) -> None:
    node = helper.make_node("Strange", ["x"], ["y"], "strange", domain="nowhere")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    made = RUNNER.invoke(app, ["check", str(tmp_path / "m.onnx"), "--march", "nash-e", "--fix", str(out)])
    assert made.exit_code != 0
    assert not out.exists()


# --- completing -------------------------------------------------------------------------------------------


def test_quantizing_what_is_left_leaves_pairs_and_codes_as_they_are() -> None:
    model = partly()
    data = {"x": np.random.default_rng(0).normal(size=(4, 4, 8, 8)).astype(np.float32)}
    made = quantize(model, data)
    kept = {t.name: t for t in made.graph.initializer}
    for name in ("w", "s", "z"):
        old = next(t for t in model.graph.initializer if t.name == name)
        assert kept[name].SerializeToString() == old.SerializeToString()
    old = [n for n in model.graph.node if "Linear" in n.op_type]
    assert all(any(n.SerializeToString() == o.SerializeToString() for n in made.graph.node) for o in old)
    assert not on_cpu(made, "nash-e")


# --- the command ------------------------------------------------------------------------------------------


def test_the_command_writes_the_model_and_says_what_it_did(tmp_path: Path) -> None:
    onnx.save(dilated(quantized=True), tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    asked = ["check", str(tmp_path / "m.onnx"), "--march", "nash-e", "--fix", str(out)]
    made = RUNNER.invoke(app, asked)
    said = " ".join(made.output.split())
    assert made.exit_code == 0
    assert "fixed: spread the kernel with zeros and dilate less (Conv_c)" in said
    assert "proof: outputs differ by at most 0 of their largest magnitude (bound 0.02) in 2 runs" in said
    assert "before: 0 of" in said
    assert "nodes on the BPU in 1 subgraph" in said
    assert not on_cpu(onnx.load(out), "nash-e")


def test_the_command_with_nothing_to_fix_writes_the_model_as_it_is(tmp_path: Path) -> None:
    model = example("(float[1,2,4] x) => (float y)\nd = pair(x); c = Relu(d); y = pair(c)").model
    onnx.save(model, tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    made = RUNNER.invoke(app, ["check", str(tmp_path / "m.onnx"), "--march", "nash-e", "--fix", str(out)])
    assert made.exit_code == 0
    assert "nothing to fix" in made.output
    assert onnx.load(out).SerializeToString() == model.SerializeToString()


def test_options_that_mean_nothing_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(dilated(quantized=True), path)
    alone = RUNNER.invoke(app, ["check", str(path), "--march", "nash-e", "--calib", str(tmp_path)])
    over = RUNNER.invoke(app, ["check", str(path), "--march", "nash-e", "--fix", str(path)])
    assert alone.exit_code == 2
    assert "--calib: must be given with --fix" in alone.output
    assert over.exit_code == 1
    assert "--fix: the path must be another file than the model" in over.output + str(over.exception)
