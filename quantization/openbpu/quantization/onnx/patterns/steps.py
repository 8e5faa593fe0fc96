"""The logarithm of a softmax goes in steps where nothing is masked in front of it.

LogSoftmax is no operator of the BPU, but its steps are, and in int16 they are as exact. With a mask of −∞ or
−10⁹ in front, what the steps read and make has no range; LogSoftmax alone takes such rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from openbpu.quantization.onnx.masks import find_masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.patterns.search import Match
from openbpu.quantization.onnx.patterns.softmax import Softmax

_STEPS = ["Exp", "Log", "ReduceMax", "ReduceSum", "Sub", "Sub"]

_BIAS = 100.0
"""A constant that is added and stays below this, either side of zero, is a bias, not a mask."""


def in_steps(net: Net, logs: Iterable[Match], fused: Net) -> Iterator[Match]:
    """Yield the logarithms of softmaxes that are to be rewritten, in steps but for the masked ones.

    `fused` is `net` with all of `logs` as LogSoftmax. What is in these very steps already is left alone.
    """
    masked = {row.out for row in find_masks(fused).rows if any(_masks(fused, name) for name, _ in row.fills)}
    for match in logs:
        if not isinstance(match.what, Softmax) or net.nodes[match.root].output[0] in masked:
            yield match
        elif sorted(net.nodes[index].op_type for index in match.nodes) != _STEPS:
            yield replace(match, what=replace(match.what, in_steps=True))


def _masks(net: Net, name: str) -> bool:
    """Whether what meets the scores may mask: what is computed or fed, or goes far."""
    value = net.consts.get(name)
    return value is None or bool((np.abs(value) >= _BIAS).any())
