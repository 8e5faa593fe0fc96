"""Adaptive rounding: each weight is rounded up or down so that the product, not the weight, is closest.

    error of a channel = Σ over samples of (q·x̂ − w·x̂)²  =  d H dᵀ        d = q − w in steps,  H = Σ x̂ x̂ᵀ

with x̂ what the quantized net gives the layer. It is what AdaRound (Nagel et al., *Up or Down?*,
2020) minimizes by gradient descent on a relaxation. H is all that is needed of the data, and with
it the best code of one weight, given the others, is known exactly: so weights are visited in turn,
each takes the better of its two neighbours, until none moves, at most SWEEPS times. No step raises
the error, so it never ends above that of rounding to nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Array, Float64
from openbpu.quantization.onnx.calibrate import Progress
from openbpu.quantization.onnx.corrections.layers import Layer, layers
from openbpu.quantization.onnx.corrections.patches import columns
from openbpu.quantization.onnx.corrections.walk import Walk, affordable
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.samples import Feed

SWEEPS = 8
"""Times that every weight is visited, at most."""

SAMPLES = 32
ROWS = 8192
"""Samples, and places of the output over all of them, that a layer's H is made of, at most."""

LONGEST = 4608
"""Products that sum up more values keep their codes: H would take more than 170 MB."""

DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean: what the samples do not show is rounded to nearest."""

_BLOCK = 64
"""Weights whose effect on the others is added up before it is passed on."""


def round_adaptively(
    net: Net, weights: Sequence[Array | None], feeds: Sequence[Feed], progress: Progress
) -> tuple[Net, int]:
    """Return the quantized `net` with weights rounded anew, and how many layers changed.

    `weights`: the float weights of each of `layers(net)`, None where they are not known.
    """
    found = [(layer, w) for layer, w in zip(layers(net), weights, strict=True) if w is not None]
    feeds = feeds[: min(SAMPLES, affordable(net, [layer.dequantize for layer, _ in found]))]
    walk, changed = Walk(net, feeds), 0
    for done, (layer, w) in enumerate(found):
        walk.advance(layer.dequantize, layer.source)
        codes = _rounded(walk, layer, w)
        if codes is not None and (codes != walk.consts[layer.codes]).any():
            walk.consts[layer.codes] = codes
            changed += 1
        progress("round weights", done + 1, len(found))
    return net.with_nodes(net.nodes, walk.consts), changed


def _rounded(walk: Walk, layer: Layer, weight: Array) -> Array | None:
    """Return the new codes of a layer; None where it keeps those it has."""
    node, nearest = walk.net.nodes[layer.index], walk.consts[layer.codes]
    rows = columns(node, [tensors[layer.source] for tensors in walk.live], nearest.shape, ROWS)
    if rows is None or rows.shape[2] > LONGEST or not rows.shape[1]:
        return None
    groups = len(rows)
    second = np.matmul(rows.transpose(0, 2, 1), rows).astype(np.float64) / rows.shape[1]
    if not np.isfinite(second).all():
        return None
    shape = [-1 if i == layer.axis else 1 for i in range(nearest.ndim)]
    exact = weight.astype(np.float64) / walk.consts[layer.scale].astype(np.float64).reshape(shape)
    limits = np.iinfo(nearest.dtype)
    flat = _by_group(exact, layer.axis, groups)
    codes = round_rows(flat, _by_group(nearest, layer.axis, groups), second, (limits.min, limits.max))
    made: Array = np.moveaxis(codes.reshape(_moved_shape(nearest, layer.axis)), 0, layer.axis)
    return np.ascontiguousarray(made.astype(nearest.dtype))


def _by_group(weight: Array, axis: int, groups: int) -> Float64:
    """Return weights as (groups, outputs of a group, inputs of a group)."""
    rows = np.moveaxis(weight, axis, 0)
    flat: Float64 = rows.reshape(groups, len(rows) // groups, -1).astype(np.float64)
    return flat


def _moved_shape(weight: Array, axis: int) -> tuple[int, ...]:
    return np.moveaxis(weight, axis, 0).shape


def round_rows(exact: Float64, nearest: Float64, second: Float64, limits: tuple[int, int]) -> Float64:
    """Return codes within a step of `exact` (G, O, K) of little error by `second` (G, K, K).

    Starts from the codes `nearest`; of every row the error is at most theirs.
    """
    length = exact.shape[2]
    diagonal = np.einsum("gkk->gk", second)
    damped = second + np.eye(length) * (DAMPING * diagonal.mean(axis=1) + 1e-30)[:, None, None]
    low = np.clip(np.minimum(np.floor(exact), nearest), *limits)
    high = np.clip(np.maximum(np.ceil(exact), nearest), *limits)
    codes, moved = nearest.copy(), np.ones(nearest.shape[:2], dtype=bool)
    for _ in range(SWEEPS):
        # A row that did not move never will: rows do not know of each other.
        groups, rows = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
        if not groups.size:
            break
        part, own = np.ix_(groups, rows), damped[groups]
        some = codes[part]
        slope = np.matmul(some - exact[part], own)
        moved[:] = False
        moved[part] = _sweep(some, slope, own, low[part], high[part])
        codes[part] = some
    better = row_errors(codes - exact, second) <= row_errors(nearest - exact, second)
    return np.where(better[..., None], codes, nearest)


def _sweep(
    codes: Float64, slope: Float64, second: Float64, low: Float64, high: Float64
) -> npt.NDArray[np.bool_]:
    """Give every code in turn its best value; return which rows moved. `slope` is (codes − exact) · H."""
    moved = np.zeros(codes.shape[:2], dtype=bool)
    for start in range(0, codes.shape[2], _BLOCK):
        block = slice(start, min(start + _BLOCK, codes.shape[2]))
        own, effect, least, most = (_by_column(x[:, :, block]) for x in (codes, slope, low, high))
        steps = _steps(own, effect, least, most, second[:, block, block])
        some = steps.any(axis=0)
        if some.any():
            moved |= some
            made = np.moveaxis(steps, 0, 2)
            codes[:, :, block] += made
            slope += np.matmul(made, second[:, block, :])
    return moved


def _by_column(rows: Float64) -> Float64:
    """Return (G, O, B) as (B, G, O): a column at a time is read, so it lies together."""
    return np.ascontiguousarray(np.moveaxis(rows, 2, 0))


def _steps(codes: Float64, slope: Float64, low: Float64, high: Float64, second: Float64) -> Float64:
    """Return by how much each code of a block moves (B, G, O); `slope` is used up. second: (G, B, B)."""
    steps = np.zeros_like(codes)
    effects = np.ascontiguousarray(np.moveaxis(second, 0, 2))[..., None]  # (B, B, G, 1)
    for k in range(len(codes)):
        wanted = np.rint(codes[k] - slope[k] / effects[k, k])
        step = np.minimum(np.maximum(wanted, low[k]), high[k]) - codes[k]
        if step.any():
            steps[k] = step
            slope[k + 1 :] += effects[k, k + 1 :] * step
    return steps


def row_errors(difference: Float64, second: Float64) -> Float64:
    """Return d H dᵀ of every row of `difference` (G, O, K)."""
    errors: Float64 = np.einsum("gok,gok->go", np.matmul(difference, second), difference)
    return errors
