"""Puts the operators that were found in the place of the nodes that they stand for."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from openbpu.arch.arrays import Array
from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx.engine import session
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import reads
from openbpu.quantization.onnx.patterns.emit import written
from openbpu.quantization.onnx.patterns.norms import Norm
from openbpu.quantization.onnx.patterns.search import Match, find
from openbpu.quantization.onnx.patterns.softmax import Softmax
from openbpu.quantization.onnx.patterns.steps import in_steps
from openbpu.quantization.onnx.patterns.whole import OPSET_SOFTMAX

OPSET_LAYER_NORM = 17
OPSET_RMS_NORM = 23


def opset_of_patterns(net: Net) -> int:
    """Return the opset that all patterns of `net` need to be fused."""
    return max((_opset(match) for match in find(_alive(net)) if _runs(match)), default=0)


def fuse_patterns(net: Net) -> Net:
    """Return `net` with its patterns fused, as far as its opset has operators for them.

    The ends of a pattern keep their names; the new node has the name and metadata of the last one. What
    nobody reads is left out.
    """
    net = _alive(net)
    matches = [match for match in find(net) if _opset(match) <= net.opset and _runs(match)]
    logs = [match for match in matches if _is_log(match)]
    if logs:
        rest = [match for match in matches if not _is_log(match)]
        matches = [*rest, *in_steps(net, logs, _fused(net, matches))]
    return _fused(net, matches) if matches else net


def _is_log(match: Match) -> bool:
    return isinstance(match.what, Softmax) and match.what.log


def _fused(net: Net, matches: Sequence[Match]) -> Net:
    names, consts = Names(net), dict[str, Array]()
    inside = {index for match in matches for index in match.nodes}
    ends = {match.root: match for match in matches}
    nodes: list[NodeProto] = []
    for index, node in enumerate(net.nodes):
        if index in ends:
            build = written(net, ends[index], names)
            nodes.extend(build.nodes)
            consts.update(build.consts)
        elif index not in inside:
            nodes.append(node)
    return infer(_alive(net.with_nodes(nodes, consts)))


def _alive(net: Net) -> Net:
    """Return `net` without the nodes that no output needs."""
    read = set(net.outputs)
    kept: list[NodeProto] = []
    for node in reversed(net.nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(reads(node))
    return net if len(kept) == len(net.nodes) else net.with_nodes(reversed(kept))


def _opset(match: Match) -> int:
    if isinstance(match.what, Softmax):
        return OPSET_SOFTMAX
    centred = not isinstance(match.what, Norm) or match.what.centred
    return OPSET_LAYER_NORM if centred else OPSET_RMS_NORM


def _runs(match: Match) -> bool:
    return _opset(match) < OPSET_RMS_NORM or _engine_has_rms_norm()


@functools.cache
def _engine_has_rms_norm() -> bool:
    """Whether onnx and ONNX Runtime, as installed, know RMSNormalization; older ones do not."""
    if onnx.defs.onnx_opset_version() < OPSET_RMS_NORM:
        return False
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    gain = onnx.numpy_helper.from_array(np.ones(4, np.float32), "g")
    graph = helper.make_graph(
        [helper.make_node("RMSNormalization", ["x", "g"], ["y"])], "probe", ends[:1], ends[1:], [gain]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET_RMS_NORM)], ir_version=10)
    try:
        session(model, optimize=False)
    except ModelError:
        return False
    return True
