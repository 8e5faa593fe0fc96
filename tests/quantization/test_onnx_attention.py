"""Attention of ONNX Runtime and of ONNX is quantized as what it means; ONNX Runtime is the witness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from openbpu.arch.errors import QuantizationError
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import Choice, quantize, quantize_unseen
from openbpu.quantization.onnx.net import assemble
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import noise
from witness import ort

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

B, S, L, C, N, P = 2, 5, 7, 16, 4, 3
"""Batch, queries, keys of another sequence, channels, heads, steps of a cache."""
D = C // N


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


def some(*shape: int, seed: int = 3) -> Array:
    return (np.random.default_rng(seed).random(shape) > 0.4).astype(np.int32)


CONSTS: Feeds = {
    "w": noise(C, 3 * C) / 4,
    "w28": noise(C, 28) / 4,
    "b": noise(3 * C, seed=1),
    "b28": noise(28, seed=1),
    "b44": noise(2 * C + 12, seed=2),
    "codes": np.random.default_rng(0).integers(0, 255, (C, 3 * C)).astype(np.uint8),
    "each": np.random.default_rng(1).random(3 * C).astype(np.float32) / 100 + np.float32(0.001),
    "centre": np.full(3 * C, 128, np.uint8),
    "one": np.array(0.01, np.float32),
    "zero": np.array(128, np.uint8),
}
FED: Feeds = {
    "x": noise(B, S, C),
    "step": noise(B, 1, C),
    "past": noise(2, B, N, P, D, seed=4),
    "q": noise(B, S, C, seed=5),
    "k": noise(B, L, C, seed=6),
    "v": noise(B, L, 12, seed=7),
    "own k": noise(B, S, C, seed=8),
    "own v": noise(B, S, C, seed=9),
    "past k": noise(B, N, P, D, seed=10),
    "past v": noise(B, N, P, D, seed=11),
    "head k": noise(B, N, L, D, seed=12),
    "head v": noise(B, N, L, D, seed=13),
    "ends": ints(3, 5),
    "ends starts": ints(3, 5, 0, 2),
    "long": some(B, S + P),
    "seen": some(B, S),
    "rows": some(B, S, S),
    "seen keys": some(B, L),
    "rows keys": some(B, S, L),
    "bias": noise(1, N, S, S, seed=14),
    "bias keys": noise(1, 1, S, L, seed=15),
    "x codes": np.random.default_rng(2).integers(0, 255, (B, S, C)).astype(np.uint8),
}
Form = tuple[list[str], list[str], dict[str, Any]]


def form(inputs: str, outputs: str = "y", **attributes: Any) -> Form:
    """Names between commas."""
    return [n.strip() for n in inputs.split(",")], [n.strip() for n in outputs.split(",")], attributes


ATTENTION = {
    "plain": form("x,w,b"),
    "causal": form("x,w,b", unidirectional=1),
    "ends": form("x,w,b,ends"),
    "ends, causal": form("x,w,b,ends", unidirectional=1),
    "ends and starts": form("x,w,b,ends starts"),
    "keys": form("x,w,b,seen"),
    "keys, causal": form("x,w,b,seen", unidirectional=1),
    "keys of each query": form("x,w,b,rows", mask_filter_value=-30.0),
    "a bias of the positions": form("x,w,b,,,bias", scale=0.3),
    "a cache": form("x,w,b,,past", "y,present"),
    "a cache, a mask, causal": form("x,w,b,long,past", "y,present", unidirectional=1),
    "keys and values that are read": form("x,w,b", "y,present"),
    "values of their own size": form("x,w28,b28", qkv_hidden_sizes=[8, 8, 12]),
}
MULTI_HEAD = {
    "plain": form("q,k,v"),
    "a bias": form("q,k,v,b44"),
    "ends": form("q,k,v,,ends"),
    "keys": form("q,k,v,b44,seen keys"),
    "keys of each query": form("q,k,v,,rows keys"),
    "a bias of the positions": form("q,k,v,,,bias keys", scale=0.5),
    "causal": form("q,own k,own v", unidirectional=1),
    "a cache": form("q,own k,own v,b,,,past k,past v", "y,present k,present v"),
    "a cache, a mask, causal": form(
        "q,own k,own v,,long,,past k,past v", "y,present k,present v", unidirectional=1
    ),
    "keys in heads": form("q,head k,head v", "y,present k,present v"),
    "keys in heads, a bias": form("q,head k,head v,b"),
    "scores that are read": form("q,k,v,,seen keys", "y,,,scores"),
}
QUANTIZED = {
    "one scale": form("x codes,codes,b,one,one,,zero,zero", unidirectional=1),
    "a scale per column": form("x codes,codes,b,one,each,ends,zero,centre"),
    "a cache": form("x codes,codes,b,one,one,,zero,zero,past", "y,present", unidirectional=1),
}
FORMS = {
    f"{op}: {name}": (op, one)
    for op, forms in (("Attention", ATTENTION), ("MultiHeadAttention", MULTI_HEAD), ("QAttention", QUANTIZED))
    for name, one in forms.items()
}
FORMS["DecoderMaskedMultiHeadAttention: keys in heads"] = (
    "DecoderMaskedMultiHeadAttention",
    form("step,head k,head v", "y,,,scores", output_qk=1),
)


def model_of(op: str, one: Form, fed: Mapping[str, Array] = FED, domain: str = "com.microsoft") -> ModelProto:
    inputs, outputs, attributes = one
    given: dict[str, Any] = ({"num_heads": N} if domain else {}) | attributes
    node = helper.make_node(op, inputs, outputs, "heads", domain=domain, **given)
    made = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(fed[n].dtype), fed[n].shape)
            for n in dict.fromkeys(inputs)
            if n and n not in CONSTS
        ],
        [helper.make_tensor_value_info(n, 1, None) for n in outputs if n],
        [numpy_helper.from_array(CONSTS[n], n) for n in dict.fromkeys(inputs) if n in CONSTS],
    )
    for value in made.output:
        value.type.tensor_type.ClearField("shape")
    opsets = [helper.make_opsetid("", 17 if domain else 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def written_out(model: ModelProto) -> ModelProto:
    made = assemble(read(model))
    assert not [n for n in made.graph.node if n.domain or n.op_type == "Attention"]
    return made


def run(model: ModelProto, fed: Mapping[str, Array]) -> dict[str, Array]:
    return ort.run(model, {v.name: fed[v.name] for v in model.graph.input})


def agree(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_out_is_what_onnx_runtime_computes(name: str) -> None:
    model = model_of(*FORMS[name])
    agree(run(written_out(model), FED), run(model, FED))


def test_a_packed_tensor_is_its_parts() -> None:
    q, k, v = (x.reshape(B, S, N, D) for x in (FED["q"], FED["own k"], FED["own v"]))
    wanted = run(model_of("MultiHeadAttention", form("q,own k,own v")), FED)
    for inputs, fed in (
        ("all", {"all": np.stack([q, k, v], axis=3)}),
        ("q,pair", {"q": FED["q"], "pair": np.stack([k, v], axis=3)}),
    ):
        found = written_out(model_of("MultiHeadAttention", form(inputs), fed))
        agree(run(found, fed), wanted)  # ONNX Runtime has no kernel for them on a CPU


def test_a_decoder_of_one_step_is_the_attention_behind_a_cache() -> None:
    fed = {"x": FED["step"], "past": FED["past"], "seen": some(B, P + 1)}
    wanted = run(model_of("Attention", form("x,w,b,seen,past", "y,present"), fed), fed)
    one = form("x,w,b,seen,past,,", "y,present")
    agree(run(written_out(model_of("DecoderMaskedSelfAttention", one, fed)), fed), wanted)
    fed = {n: FED[n] for n in ("past k", "past v")} | dict.fromkeys(("q", "k", "v"), FED["step"])
    wanted = run(model_of("MultiHeadAttention", form("q,k,v,b,,,past k,past v", "y,a,b2"), fed), fed)
    one = form("q,k,v,,,past k,past v,,,,b", "y,a,b2")
    agree(run(written_out(model_of("DecoderMaskedMultiHeadAttention", one, fed)), fed), wanted)


HEADS: Feeds = {
    "q": noise(B, N, S, D),
    "k": noise(B, N, L, D, seed=1),
    "v": noise(B, N, L, 3, seed=2),
    "few k": noise(B, 2, L, D, seed=3),
    "few v": noise(B, 2, L, 3, seed=4),
    "flat q": noise(B, S, C, seed=5),
    "flat k": noise(B, L, 8, seed=6),
    "flat v": noise(B, L, 6, seed=7),
    "past k": noise(B, N, P, D, seed=8),
    "past v": noise(B, N, P, 3, seed=9),
    "mask": noise(S, L, seed=10),
    "seen": np.maximum(some(B, 1, S, L), np.eye(S, L, dtype=np.int32)) > 0,
}
STANDARD = {
    "plain": form("q,k,v"),
    "causal": form("q,k,v", is_causal=1),
    "a scale and a cap": form("q,k,v", scale=0.3, softcap=2.0),
    "flat, shared heads": form("flat q,flat k,flat v", q_num_heads=N, kv_num_heads=2),
    "shared heads": form("q,few k,few v"),
    "added": form("q,k,v,mask", is_causal=1),
    "seen": form("q,k,v,seen", is_causal=1),
    "a cache": form("q,k,v,,past k,past v", "y,present k,present v", is_causal=1),
    **{f"scores {m}": form("q,k,v,mask", "y,,,s", softcap=1.5, qk_matmul_output_mode=m) for m in range(4)},
}


@pytest.mark.parametrize("name", STANDARD)
def test_attention_of_onnx_is_written_out(name: str) -> None:
    model = model_of("Attention", STANDARD[name], HEADS, domain="")
    agree(run(written_out(model), HEADS), run(model, HEADS))


def test_a_mask_that_ends_early_hides_the_keys_behind_it() -> None:
    short = HEADS | {"mask": HEADS["mask"][:, :5], "seen": HEADS["seen"][..., :5]}
    longer = HEADS | {
        "mask": np.pad(short["mask"], ((0, 0), (0, 2)), constant_values=-np.inf),
        "seen": np.pad(short["seen"], ((0, 0),) * 3 + ((0, 2),)),
    }
    for which in ("mask", "seen"):
        one = form(f"q,k,v,{which}")
        wanted = run(model_of("Attention", one, longer, domain=""), longer)
        agree(run(written_out(model_of("Attention", one, short, domain="")), short), wanted)


def test_lengths_of_a_cache_outside_are_a_mask() -> None:
    fed = HEADS | {"lengths": np.array([6, 7])}
    for causal in (0, 1):
        model = model_of("Attention", form("q,k,v,,,,lengths", is_causal=causal), fed, domain="")
        model.opset_import[0].version = 24
        agree(run(written_out(model), fed), run(model, fed))


def layers(mask: Array | str, batch: int | str = 1) -> ModelProto:
    """Two layers of a transformer; mask: a constant, or the form of an input."""
    consts: Feeds = {"head": noise(32, 8) / 4} | ({"mask": mask} if isinstance(mask, np.ndarray) else {})
    nodes, x = [], "x"
    for i in range(2):
        for n, name in enumerate("qkv"):
            consts[f"w{name}{i}"] = noise(32, 32, seed=10 * i + n) / 6
            nodes.append(helper.make_node("MatMul", [x, f"w{name}{i}"], [f"m{name}{i}"], f"to {name} {i}"))
        consts |= {f"b{i}": noise(96, seed=20 + i) / 4, f"o{i}": noise(32, 32, seed=30 + i) / 6}
        consts |= {f"g{i}": 1 + noise(32, seed=40 + i) / 8, f"s{i}": noise(32, seed=50 + i) / 8}
        given = [f"mq{i}", f"mk{i}", f"mv{i}", f"b{i}", "mask"]
        nodes += [
            helper.make_node(
                "MultiHeadAttention", given, [f"a{i}"], f"heads {i}", domain="com.microsoft", num_heads=4
            ),
            helper.make_node("MatMul", [f"a{i}", f"o{i}"], [f"p{i}"], f"from heads {i}"),
            helper.make_node(
                "SkipLayerNormalization",
                [f"p{i}", x, f"g{i}", f"s{i}"],
                [f"n{i}"],
                f"norm {i}",
                domain="com.microsoft",
            ),
        ]
        x = f"n{i}"
    nodes.append(helper.make_node("MatMul", [x, "head"], ["y"], "head"))
    rows: int | str = 12 if batch == 1 else "S"
    inputs = [helper.make_tensor_value_info("x", 1, (batch, rows, 32))]
    if isinstance(mask, str):
        shape = (batch,) if mask == "ends" else (batch, rows)
        inputs.append(helper.make_tensor_value_info("mask", 6, shape))
    output = helper.make_tensor_value_info("y", 1, (batch, rows, 8))
    weights = [numpy_helper.from_array(value, name) for name, value in consts.items()]
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


LENGTHS = (12, 9, 7, 5)


@pytest.mark.parametrize("kind", ["constant", "keys", "ends", "free axes"])
def test_a_transformer_of_fused_operators_is_quantized_with_its_masks(kind: str) -> None:
    masks = np.stack([[np.arange(12) < n] for n in LENGTHS]).astype(np.int32)
    mask: Array | str = masks[1] if kind == "constant" else kind
    model = layers(mask, batch="B" if kind == "free axes" else 1)
    data: Feeds = {"x": noise(len(LENGTHS), 1, 12, 32)}
    if kind != "constant":
        data["mask"] = masks.sum(-1).astype(np.int32) if kind == "ends" else masks
    told: list[Choice] = []
    made = quantize(model, data, told=told.append)
    assert told[0].findings == ()
    found, wanted = (
        np.concatenate([run(m, {n: v[i] for n, v in data.items()})["y"].ravel() for i in range(len(LENGTHS))])
        for m in (made, model)
    )
    assert found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)) > 0.999
    shapes = {"x": (1, 12, 32)} | ({"mask": (1, 12)} if kind == "free axes" else {})
    on_cpu = {row.op for row in build(made, march="nash-e", shapes=shapes).placement if row.on == "CPU"}
    of_masks = {"Greater", "Unsqueeze", "Reshape", "Cast", "Less", "Where", "DequantizeLinear"}
    assert not on_cpu if kind == "constant" else on_cpu <= of_masks


def types_of(model: ModelProto, part: str) -> set[int]:
    """The types of what the nodes of a fused one make."""
    made = {name for n in model.graph.node if n.name.startswith(part) for name in n.output}
    zeros = {t.name: t.data_type for t in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    return {zeros[n.input[2]] for n in pairs if n.input[0] in made}


def test_the_name_of_a_fused_operator_means_all_that_it_is_written_out_in() -> None:
    model, data = layers("keys"), {"x": noise(4, 1, 12, 32), "mask": np.ones((4, 1, 12), np.int32)}
    told: list[Choice] = []
    wide = quantize(model, data, config={"node_config": {"heads 0": {"qtype": "int16"}}}, told=told.append)
    assert types_of(quantize(model, data), "heads 0") == {TensorProto.INT8}
    assert TensorProto.INT16 in types_of(wide, "heads 0")
    assert types_of(wide, "heads 1") == {TensorProto.INT8}
    left = quantize(model, data, config={"node_config": {"heads 0": {"qtype": "float"}}}, told=told.append)
    on_cpu = {row.node for row in build(left, march="nash-e").placement if row.on == "CPU"}
    assert {"heads 0_Softmax_1", "heads 0_MatMul_1", "heads 0"} <= on_cpu
    assert not any(name.startswith(("heads 1_Softmax", "heads 1_MatMul")) for name in on_cpu)
    assert [f for choice in told for f in choice.findings if "is part of" in f.text] == []
    config = {"node_config": {"heads 0": {"input0": "int16"}}}
    with pytest.raises(QuantizationError, match="left out: 'heads 0' is taken apart into several nodes"):
        quantize_unseen(model, config=config)


@pytest.mark.parametrize(
    ("op", "one", "why"),
    [
        ("Attention", form("x,w,b", do_rotary=1), "as it turns queries and keys itself (do_rotary)"),
        ("Attention", form("x,w,b", past_present_share_buffer=1), "as its cache is shared between calls"),
        ("Attention", form("x,w,b,four axes"), "as its mask has 4 axes"),
        ("Attention", form("x,w,b,eight"), "as its mask has 8 numbers for a batch of 2"),
        ("MultiHeadAttention", form("q,k,v", unidirectional=1), "as it is causal with 7 keys for 5 queries"),
        ("MultiHeadAttention", form("many,,,b"), "as it has a bias for queries, keys and values that share"),
        ("Attention", form("x,w,b", num_heads=5), "as its 5 heads do not share [16, 16, 16] columns evenly"),
        (
            "Attention",
            form("x,w,b", qkv_hidden_sizes=[16, 16, 999]),
            "with qkv_hidden_sizes of [16, 16, 999]",
        ),
        ("Attention", form("x,w,b", qkv_hidden_sizes=[16, 32]), "with qkv_hidden_sizes of [16, 32]"),
        ("Attention", form("x,,b"), "as its input 1 is left out"),
        ("Attention", form("x,one"), "as its weights have None columns"),
        ("Attention", form("x,w,one"), "as its inputs and attributes contradict each other"),
        ("MultiHeadAttention", form("q,k"), "as its input 2 is left out"),
        ("MultiHeadAttention", form("q,k,v", num_heads=3), "as its 3 heads do not share its queries evenly"),
        ("GroupQueryAttention", form("q,k,v,,,lengths,total", kv_num_heads=4), "stays float: export"),
    ],
)
def test_a_form_that_is_not_written_out_stays_on_the_cpu_by_name(op: str, one: Form, why: str) -> None:
    from openbpu.quantization.onnx.contrib import contrib_findings

    fed = FED | {"four axes": np.ones((B, 1, 8, 8), np.int32), "eight": ints(*[1] * 8)}
    fed |= {"many": noise(B, S, N, 3, D), "lengths": ints(4, 4), "total": np.array(5, np.int32)}
    (found,) = contrib_findings(read(model_of(op, one, fed)))
    assert (found.kind, found.node) == ("kept", "heads")
    assert f"node 'heads' ({op} of com.microsoft) stays float" in found.text
    assert why in found.text


def test_an_operator_for_gpus_alone_is_refused_by_name() -> None:
    fed = FED | {"rows": noise(2 * S, C), "places": np.zeros((B, S), np.int32), "sums": ints(0, 5, 10)}
    model = model_of("PackedMultiHeadAttention", form("rows,rows,rows,,places,sums"), fed)
    with pytest.raises(
        QuantizationError, match=r"'heads' \(PackedMultiHeadAttention of com\.microsoft\): the"
    ):
        quantize_unseen(model)
