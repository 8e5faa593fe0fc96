"""Loops that are sure to take long, and draws that end the process, are refused by name before they run."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper
from onnx.parser import parse_model

from openbpu.arch.errors import ModelError
from openbpu.arch.runnable import MAX_STEPS, check_runnable

_BODY = "b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {{ {0} w = Neg(v) }}"
_KEEP = "d = Identity(c)"
_TRUE = "d = Constant<value = bool {1}>()"
_COMPUTED = "d = Less(i, most)"


def model(
    nodes: str, body: str = _KEEP, start: str = "", outer: str = "int64 most = {5}", functions: str = ""
) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["": 17, "f": 1]>
        g (float[2] x, bool given) => (float[2] y) <{outer}> {{ {start} {nodes} }} {functions}"""
    return parse_model(text.replace("BODY", _BODY.format(body)).replace("TRUE", _BODY.format(_TRUE)))


_MANY, _HELD = "int64 n = {1000001}", "Constant<value = int64 {1000001}>()"
_LOOP = "[l] y = Loop<body = BODY>"


@pytest.mark.parametrize(
    ("made", "steps"),
    [
        (model(f"{_LOOP}(n, , x)", outer="int64 n = {1099511627776}"), "1,099,511,627,776"),
        (model(f"{_LOOP}(n, , x)", outer="int64[1] n = {9223372036854775807}"), "9,223,372,036,854,775,807"),
        (model(f"{_LOOP}(n, c, x)", outer="int64 n = {1000001}, bool c = {1}"), "1,000,001"),
        (model(f"{_LOOP}(n, c, x)", _TRUE, outer="int64 n = {1000001}, bool c = {1}"), "1,000,001"),
        (model(f"{_LOOP}(n, , x)", "e = Identity(c) d = Identity(e)", outer=_MANY), "1,000,001"),
        (model(f"{_LOOP}(n, , x)", start="n = Constant<value_int = 1000001>()"), "1,000,001"),
        (model(f"{_LOOP}(n, , x)", start=f"m = {_HELD} n = Identity(m)"), "1,000,001"),
        (model(f"{_LOOP}(, c, x)", outer="bool c = {1}"), "endless"),
        (model(f"{_LOOP}(, , x)", _TRUE), "endless"),
        (model(f"{_LOOP}(, , x)", "d = Identity(yes)", outer="bool yes = {1}"), "endless"),
        (model("y = f.long(x)", functions="""<domain: "f", opset_import: ["": 17]>
            long (x) => (y) { [l] y = Loop<body = TRUE>(, , x) }"""), "endless"),
        (model("[i] y = If<then_branch = t () => (float[2] y) { [l] y = Loop<body = BODY>(, , x) }, "
               "else_branch = e () => (float[2] y) { y = Neg(x) }>(given)"), "endless"),
    ],
)  # fmt: skip
def test_what_is_sure_to_take_long_is_refused(made: onnx.ModelProto, steps: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_runnable(made)
    said = f"node 'l' (Loop): the steps it takes must be at most {MAX_STEPS:,}, not {steps};"
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "made",
    [
        model(f"{_LOOP}(n, , x)", outer="int64 n = {1000000}"),
        model(f"{_LOOP}(n, c, x)", outer="int64 n = {9223372036854775807}, bool c = {0}"),
        model(f"{_LOOP}(n, given, x)", outer="int64 n = {9223372036854775807}"),
        model(f"{_LOOP}(n, , x)", _COMPUTED, outer="int64 n = {9223372036854775807}, int64 most = {5}"),
        model(f"{_LOOP}(, , x)", _COMPUTED),
        model(f"{_LOOP}(, , x)", "d = Constant<value = bool {0}>()"),
        model(f"{_LOOP}(n, , x)", outer="int64 n = {-1}"),
        model(f"{_LOOP}(n, , x)", start="n = Size(x)", outer="int64 most = {1099511627776}"),
    ],
)
def test_what_may_end_is_not(made: onnx.ModelProto) -> None:
    check_runnable(made)


def test_steps_of_loops_in_loops_multiply() -> None:
    def nested(outer: int, inner: int) -> onnx.ModelProto:
        made = model("[outer] y = Loop<body = BODY>(n, , x)", outer="int64 n = {1}, int64 m = {1}")
        loop = made.graph.node[0]
        loop.name = "outer"
        body = loop.attribute[0].g
        within = onnx.NodeProto()
        within.CopyFrom(loop)
        within.name = "inner"
        within.input[:] = ["m", "", "v"]
        within.output[:] = ["w"]
        body.node[-1].CopyFrom(within)
        for at, steps in enumerate((outer, inner)):
            tensor = helper.make_tensor("nm"[at], TensorProto.INT64, [], [steps])
            made.graph.initializer[at].CopyFrom(tensor)
        return made

    check_runnable(nested(999, 999))
    with pytest.raises(ModelError, match=r"'outer' \(Loop\).*not 10,001,000"):
        check_runnable(nested(1000, 10_000))
    with pytest.raises(ModelError, match=r"'inner' \(Loop\).*not 1,099,511,627,776"):
        check_runnable(nested(2, 1 << 40))


def test_a_name_of_the_body_hides_a_constant_outside() -> None:
    made = model(f"{_LOOP}(n, , x)", "most = Less(i, n) d = Identity(most)", outer="int64 n = {2000000}")
    made.graph.initializer.append(helper.make_tensor("most", TensorProto.BOOL, [], [True]))
    check_runnable(made)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("RandomNormal<shape = [2], scale = 0.0>()", "scale must be above 0, not 0.0"),
        ("RandomNormal<shape = [2], scale = -1.0>()", "scale must be above 0, not -1.0"),
        ("RandomNormalLike<scale = 0.0>(x)", "scale must be above 0, not 0.0"),
        ("RandomUniform<shape = [2], low = 1.0, high = -1.0>()", "low must be at most high, -1, not 1"),
        ("RandomUniform<shape = [2], low = 2.0>()", "low must be at most high, 1, not 2"),
        ("RandomUniformLike<high = -0.5>(x)", "low must be at most high, -0.5, not 0"),
    ],
)
@pytest.mark.parametrize("where", ["graph", "branch", "function"])
def test_draws_that_onnxruntime_does_not_survive_are_refused(node: str, said: str, where: str) -> None:
    op = node.split("<", maxsplit=1)[0]
    texts = {
        "graph": ("[draw] y = " + node, ""),
        "branch": ("[i] y = If<then_branch = t () => (float[2] y) { [draw] y = " + node + "}, "
                   "else_branch = e () => (float[2] y) { y = Neg(x) }>(given)", ""),
        "function": ("y = f.long(x)", """<domain: "f", opset_import: ["": 17]>
                     long (x) => (y) { [draw] y = """ + node + "}"),
    }  # fmt: skip
    made = model(texts[where][0], functions=texts[where][1])
    with pytest.raises(ModelError) as refused:
        check_runnable(made)
    assert str(refused.value).startswith(f"node 'draw' ({op}): {said}; ")


@pytest.mark.parametrize(
    "node",
    [
        "RandomNormal<shape = [2]>()",
        "RandomNormalLike<scale = 0.1>(x)",
        "RandomUniform<shape = [2], high = 0.0>()",
    ],
)
def test_other_draws_are_not(node: str) -> None:
    check_runnable(model(f"y = {node}"))


def test_a_draw_of_no_number_is_refused() -> None:
    made = model("y = RandomUniform<shape = [2], low = 0.5>()")
    next(item for item in made.graph.node[0].attribute if item.name == "low").f = float("nan")
    with pytest.raises(ModelError, match="low must be at most high, 1, not nan"):
        check_runnable(made)
