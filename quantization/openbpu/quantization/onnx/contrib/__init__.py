"""Operators of ONNX Runtime's optimizer and of exporters, ONNX's Attention, LSTM, GRU, …, as simpler ones.

    x, skip → SkipLayerNormalization → y      becomes      x, skip → Add → LayerNormalization, written out →

They are written out in full; `fuse_patterns` makes norms and GELUs of that, `masks` finds what hides the keys
of an attention. The last node keeps the name and the origin. A form that is not known here (a turned
batch, a mean that is an output, a cache that calls share) is left alone, and named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.contrib import recurrent, rotary, runtime, standard
from openbpu.quantization.onnx.contrib import steps as written
from openbpu.quantization.onnx.contrib.writer import KeptError, Writer
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.fold import ask_engine
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Names, Net

DOMAIN = "com.microsoft"

FIX = "export the model without it, or save what ONNX Runtime loads at ORT_DISABLE_ALL"

OPSET = 11
"""First opset whose operators attention and recurrences are written out in."""

_Write = Callable[[Writer], list[str] | None]


def unfold_contrib(net: Net) -> Net:
    """Return `net` with simpler operators for those that are known here.

    Raises QuantizationError for one that ONNX Runtime runs on GPUs alone, and that cannot be written out.
    """
    if all(_writing(node) is None and not _is_foreign(node) for node in net.nodes):
        return net
    net = ask_engine(infer(net))  # a product is turned by its rank, and attention has many forms
    names, consts, nodes, changed = Names(net), dict[str, Array](), list[NodeProto](), False
    for node in net.nodes:
        made = _written_out(net, names, node, consts)
        if isinstance(made, str):
            if _is_foreign(node):
                raise _refusal(node, made)
            nodes.append(node)
        else:
            nodes += made
            changed = True
    return infer(net.with_nodes(nodes, consts)) if changed else net


def contrib_findings(net: Net) -> tuple[Finding, ...]:
    """Return a finding for every fused operator that stays float, on the CPU."""
    kept = [n for n in net.nodes if _writing(n) is not None or (n.domain == DOMAIN and n.op_type in _FUSED)]
    return tuple(Finding("kept", "", n.name, _told(net, n)) for n in kept)


def _told(net: Net, node: NodeProto) -> str:
    why = _written_out(net, Names(net), node, {})
    because = f", as {why}" if isinstance(why, str) and why else ""
    return f"{_called(node)} stays float{because}: {FIX}"


def _called(node: NodeProto) -> str:
    domain = f" of {node.domain}" if node.domain else ""
    return f"node '{node.name}' ({node.op_type}{domain})"


def _refusal(node: NodeProto, why: str) -> QuantizationError:
    found = "one for GPUs" + (f" that stays as it is, as {why}" if why else "")
    return QuantizationError(must(_called(node), "the operator", "one that runs on a CPU", found, FIX))


def _is_foreign(node: NodeProto) -> bool:
    return node.domain == DOMAIN and node.op_type in _FOREIGN


def _writing(node: NodeProto) -> _Write | None:
    """Return how an operator is written out; None where that is not known."""
    known = node.domain in {"", "ai.onnx"}
    return (_STANDARD if known else _KNOWN if node.domain == DOMAIN else {}).get(node.op_type)


def _written_out(net: Net, names: Names, node: NodeProto, consts: dict[str, Array]) -> list[NodeProto] | str:
    """Return the nodes that stand for one, or why it has none; "" where there is nothing to say."""
    write, made = _writing(node), Writer(net, names, node, consts)
    if write is None:
        return ""
    if net.opset < OPSET and write in _NEWER:
        return f"the model has opset {net.opset}: {OPSET} is the first that it can be written out in"
    try:
        results = write(made)
    except KeptError as error:
        return str(error)
    except (IndexError, TypeError, ValueError):  # of shapes or attributes that it cannot have
        return "its inputs and attributes contradict each other"
    return made.made if results is not None and _renamed(made, results) else ""


def _renamed(w: Writer, results: Sequence[str]) -> bool:
    """Let the nodes make what the node makes; False where that has a result which they lack."""
    wanted = {place: name for place, name in enumerate(w.node.output) if name}
    if any(place >= len(results) or not results[place] for place in wanted):
        return False
    own = {name for one in w.made for name in one.output}
    new: dict[str, str] = {}
    for place, name in wanted.items():
        found = results[place]
        new[found if found in own and found not in new else w.op("Identity", found)] = name
    for one in w.made:
        one.input[:] = [new.get(name, name) for name in one.input]
        one.output[:] = [new.get(name, name) for name in one.output]
    last = next(one for one in w.made if w.node.output[0] in one.output)
    last.name = w.node.name
    last.metadata_props.extend(w.node.metadata_props)
    return True


_KNOWN: dict[str, _Write] = {
    "Attention": runtime.attention,
    "BiasGelu": written.bias_gelu,
    "DecoderMaskedMultiHeadAttention": runtime.decoder_multi_head,
    "DecoderMaskedSelfAttention": runtime.decoder_attention,
    "FastGelu": written.fast_gelu,
    "FusedConv": written.conv,
    "FusedMatMul": written.matmul,
    "Gelu": written.gelu,
    "MultiHeadAttention": runtime.multi_head,
    "QAttention": runtime.quantized_attention,
    "QuickGelu": written.quick_gelu,
    "RotaryEmbedding": rotary.rotary_of_runtime,
    "SimplifiedLayerNormalization": written.simplified_norm,
    "SkipLayerNormalization": written.skip_norm,
    "SkipSimplifiedLayerNormalization": written.skip_simplified_norm,
}
"""Of com.microsoft."""

_STANDARD: dict[str, _Write] = {
    "Attention": standard.attention,
    "GRU": recurrent.gru,
    "LSTM": recurrent.lstm,
    "LpNormalization": rotary.sum_norm,
    "RNN": recurrent.rnn,
    "RotaryEmbedding": rotary.rotary,
    "SimplifiedLayerNormalization": written.simplified_norm,  # ONNX Runtime writes it without a domain
}

_NEWER = frozenset(
    {
        *(runtime.attention, runtime.decoder_attention, runtime.decoder_multi_head, runtime.multi_head),
        *(runtime.quantized_attention, recurrent.lstm, recurrent.gru, recurrent.rnn),
        *(rotary.rotary, rotary.rotary_of_runtime),
    }
)

_FUSED = frozenset(
    {
        *("EmbedLayerNormalization", "FusedGemm", "GroupQueryAttention", "LinearAttention"),
        "SparseAttention",
    }
)
"""Other fusions of float operators."""

_FOREIGN = frozenset(
    {
        *("BiasAdd", "BiasSoftmax", "BiasSplitGelu", "DecoderAttention", "DecoderMaskedSelfAttention"),
        *("GatedRelativePositionBias", "GroupNorm", "LongformerAttention", "NhwcConv", "NhwcFusedConv"),
        *("PackedAttention", "PackedMultiHeadAttention", "PagedAttention", "RelativePositionBias"),
        *("RemovePadding", "RestorePadding", "SkipGroupNorm"),
    }
)
"""Those that ONNX Runtime has for GPUs alone: nothing here could run the model."""
