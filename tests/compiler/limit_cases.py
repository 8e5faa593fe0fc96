"""For every limit of the operator table, the smallest model that breaks it on a march."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compiler.breaking import BREAKING, Breaking, Build, Limits
from compiler.networks import Network
from compiler.one_operator import axes, binary, conv, deconv, ended, move, normalization, pool, product, unary
from openbpu.arch.march import March
from openbpu.arch.numerics.functions import COMPARISONS
from openbpu.compiler.ops import OPS, Limit
from openbpu.compiler.ops.rule import BYTES, RANK

__all__ = ["BREAKING", "Case", "cases", "key_of"]


@dataclass(frozen=True, slots=True)
class Case:
    """A limit of an operator; `breaks` makes the model from the numbers of a march.

    `tight` holds numbers for marches on which another limit always strikes first, or that lack the rule.
    """

    op: str
    limit: Limit
    breaks: Build
    tight: Mapping[str, int]

    @property
    def id(self) -> str:
        """For pytest's `ids`."""
        return f"{self.op}: {self.limit.text}"

    def on(self, march: March) -> March:
        """The march, with tight numbers where its own cannot be broken alone."""
        return replace(march, limits={**march.limits, **self.tight})


# --- the cases --------------------------------------------------------------------------------------------


def _square(area: int) -> int:
    """The side of the smallest square larger than `area`."""
    return int(np.sqrt(area)) + 1


def _spread(n: int) -> tuple[int, int]:
    """Two kernel sides within 31 and channels whose product just exceeds n."""
    return 31, n // 961 + 1


CONV: dict[str, tuple[Build, Mapping[str, int]]] = {
    "batch_max": (lambda m: (conv((m["batch_max"] + 1, 1, 1, 1), (1, 1, 1, 1)), f"{m['batch_max'] + 1}"), {}),
    "conv_size_max": (
        lambda m: (conv((1, 1, 1, m["conv_size_max"] + 1), (1, 1, 1, 1)), f"1×1×{m['conv_size_max'] + 1}"),
        {},
    ),
    "conv_channels_max": (
        lambda m: (conv((1, n := m["conv_channels_max"] + 1, 1, 1), (1, n, 1, 1)), f"{n}"),
        {},
    ),
    "conv_outputs_last_max": (
        lambda m: (conv((1, 1, 1, 1), (m["conv_outputs_max"] + 1, 1, 1, 1)), f"{m['conv_outputs_max'] + 1}"),
        {},
    ),
    "conv_taps_max": (
        lambda m: (
            conv((1, (s := _spread(m["conv_taps_max"]))[1], 31, 31), (1, s[1], 31, 31)),
            f"{s[1] * 961}",
        ),
        {},
    ),
    "conv_stride_max": (
        lambda m: (
            conv((1, 1, 3, 3), (1, 1, 1, 1), strides=[1, m["conv_stride_max"] + 1]),
            f"1×{m['conv_stride_max'] + 1}",
        ),
        {},
    ),
    "conv_stride_dilated_max": (
        lambda m: (
            conv(
                (1, 1, 8, 8),
                (1, 1, 2, 2),
                strides=[1, n := m["conv_stride_dilated_max"] + 1],
                dilations=[2, 2],
            ),
            f"1×{n}",
        ),
        {"conv_stride_dilated_max": 1},
    ),
    "conv_stride_add_max": (
        lambda m: (
            conv((1, 1, 8, 8), (1, 1, 1, 1), strides=[n := m["conv_stride_add_max"] + 1] * 2, add=True),
            f"{n}×{n}",
        ),
        {"conv_stride_add_max": 2},
    ),
    "conv_dilation_max": (
        lambda m: (
            conv((1, 1, 3, 40), (1, 1, 1, 2), dilations=[1, m["conv_dilation_max"] + 1]),
            f"1×{m['conv_dilation_max'] + 1}",
        ),
        {},
    ),
    "conv_dilation_power_of_two": (
        lambda _: (conv((1, 1, 3, 8), (1, 1, 1, 2), dilations=[1, 3]), "1×3"),
        {"conv_dilation_power_of_two": 1},
    ),
    "conv_int16_depthwise_even_stride_max": (
        lambda m: (
            conv(
                (1, 2, 9, 9),
                (2, 1, 1, 1),
                style="int16",
                group=2,
                strides=[1, m["conv_int16_depthwise_even_stride_max"] + 2],
            ),
            f"1×{m['conv_int16_depthwise_even_stride_max'] + 2}",
        ),
        {},
    ),
}

DECONV: dict[str, tuple[Build, Mapping[str, int]]] = {
    "deconv_channels_max": (
        lambda m: (deconv((1, n := m["deconv_channels_max"] + 1, 1, 1), (n, 1, 2, 2)), f"{n}×1"),
        {},
    ),
    "deconv_kernel_max": (
        lambda m: (
            deconv((1, 1, 2, 2), (1, 1, 2, m["deconv_kernel_max"] + 1)),
            f"2×{m['deconv_kernel_max'] + 1}",
        ),
        {},
    ),
    "deconv_taps_min": (
        lambda m: (deconv((1, 1, 2, 2), (1, 1, 1, 1)), "1"),
        {},
    ),
    "deconv_stride_max": (
        lambda m: (
            deconv((1, 1, 2, 2), (1, 1, 2, 2), strides=[1, m["deconv_stride_max"] + 1]),
            f"1×{m['deconv_stride_max'] + 1}",
        ),
        {},
    ),
    "deconv_stride_power_of_two": (
        lambda _: (deconv((1, 1, 2, 2), (1, 1, 2, 2), strides=[3, 3]), "3×3"),
        {"deconv_stride_power_of_two": 1},
    ),
    "deconv_dilation_max": (
        lambda m: (
            deconv((1, 1, 2, 2), (1, 1, 2, 2), dilations=[1, m["deconv_dilation_max"] + 1]),
            f"1×{m['deconv_dilation_max'] + 1}",
        ),
        {},
    ),
}


def _pool_cases(op: str, side: str, area: str) -> dict[str, tuple[Build, Mapping[str, int]]]:
    return {
        "batch_max": (
            lambda m: (pool(op, (m["batch_max"] + 1, 1, 1, 1), (1, 1)), f"{m['batch_max'] + 1}"),
            {},
        ),
        "pool_stride_max": (
            lambda m: (
                pool(op, (1, 1, 2, 2), (1, 1), strides=[1, m["pool_stride_max"] + 1]),
                f"1×{m['pool_stride_max'] + 1}",
            ),
            {},
        ),
        "pool_pad_max": (
            lambda m: (
                pool(op, (1, 1, 3, 3), (1, (n := m["pool_pad_max"] + 1) + 1), pads=[0, n, 0, n]),
                f"0×{n}×0×{n}",
            ),
            {"pool_pad_max": 2},
        ),
        side: (lambda m: (pool(op, (1, 1, 1, m[side] + 1), (1, m[side] + 1)), f"1×{m[side] + 1}"), {}),
        area: (
            lambda m: (
                pool(op, (1, 1, s := _square(m[area]), s), (s, s)),
                f"{s * s}",
            ),
            {},
        ),
    }


def _product_cases(op: str) -> dict[str, tuple[Build, Mapping[str, int]]]:
    return {
        "conv_size_max": (
            lambda m: (product(op, (m["conv_size_max"] + 1, 2), (2, 2)), f"{m['conv_size_max'] + 1}"),
            {},
        ),
        "conv_taps_max": (
            lambda m: (product(op, (1, n := m["conv_taps_max"] + 1), (n, 1)), f"{n}"),
            {},
        ),
        "binary_channels_max": (
            lambda m: (product(op, (1, 1), (1, n := m["binary_channels_max"] + 1)), f"{n}"),
            {},
        ),
    }


def _reduced(op: str) -> Build:
    def build(m: Limits) -> Breaking:
        n = m["reduce_axis_max"] + 1
        return (unary(op, (1, 1, 1, n)) if op.startswith("Global") else axes(op, (1, n), [1])), f"{n}"

    return build


def _channels(op: str) -> Build:
    def build(m: Limits) -> Breaking:
        n = m["binary_channels_max"] + 1
        if op != "Concat":
            return binary(op, (1, n, 1, 1)), f"{n}"
        b = Network((1, n - 1, 1, 1))
        return ended(b, b.node("Concat", b.x, b.quantized_input((1, 1, 1, 1)), axis=1)), f"{n}"

    return build


def _joined(m: Limits) -> Breaking:
    b, n = Network((1, 1)), m["concat_inputs_max"] + 1
    return ended(b, b.node("Concat", *[b.x] * n, axis=1)), f"{n}"


def _masked(m: Limits) -> Breaking:
    n = m["binary_channels_max"] + 1
    b = Network((1, n, 1, 2))
    mask = b.constant(np.array([True, False]))
    return ended(b, b.node("Where", mask, b.x, b.constant(np.zeros(1, np.float32)))), f"{n}"


def _compared(op: str) -> Build:
    def build(m: Limits) -> Breaking:
        n = m["binary_channels_max"] + 1
        b = Network((1, n, 1, 1))
        return ended(b, b.node("Cast", b.node(op, b.x, b.quantized_input((1, n, 1, 1))), to=1)), f"{n}"

    return build


def _gathered(m: Limits) -> Breaking:
    n = m["gather_index_max"] + 2
    b = Network((n, 1))
    return ended(b, b.node("Gather", b.x, b.constant(np.array([0, n - 1])), axis=0)), f"{n - 1}"


def _resized(_: Limits) -> Breaking:
    b = Network((1, 1, 4, 4))
    scales = b.constant(np.array([1, 1, 2, 1.5], np.float32))
    return ended(b, b.node("Resize", b.x, "", scales, mode="nearest")), "1.5"


def _sampled(m: Limits) -> Breaking:
    n = m["gridsample_both_max"] + 1
    b = Network((1, 1, n, n), opset=21)
    grid = b.constant(np.zeros((1, 2, 2, 2), np.int16))
    scale, zero = b.constant(np.float32(2.0**-15)), b.constant(np.int16(0))
    points = b.node("DequantizeLinear", grid, scale, zero)
    return ended(b, b.node("GridSample", b.x, points)), f"{n}×{n}"


def _others() -> dict[str, dict[str, tuple[Build, Mapping[str, int]]]]:
    reduced = [op for op in OPS if op.startswith(("Reduce", "Global"))]
    return {
        **{op: {"reduce_axis_max": (_reduced(op), {})} for op in reduced},
        **{
            op: {"binary_channels_max": (_channels(op), {})}
            for op in ("Add", "Sub", "Sum", "Mean", "Mul", "Max", "Min", "PRelu", "Div")
        },
        "Softmax": {
            "reduce_axis_max": (
                lambda m: (unary("Softmax", (1, 1, 1, n := m["reduce_axis_max"] + 1), axis=-1), f"{n}"),
                {},
            ),
        },
        "LayerNormalization": {
            "reduce_axis_max": (_normalized("LayerNormalization"), {}),
        },
        "Where": {"binary_channels_max": (_masked, {})},
        **{op: {"binary_channels_max": (_compared(op), {})} for op in COMPARISONS},
        "RMSNormalization": {"reduce_axis_max": (_normalized("RMSNormalization"), {})},
        "Concat": {"binary_channels_max": (_channels("Concat"), {}), "concat_inputs_max": (_joined, {})},
        "Gather": {"gather_index_max": (_gathered, {})},
        "GridSample": {"gridsample_both_max": (_sampled, {"gridsample_both_max": 50})},
        "Resize": {"resize_power_of_two": (_resized, {"resize_power_of_two": 1})},
    }


def _normalized(op: str) -> Build:
    def build(m: Limits) -> Breaking:
        n = m["reduce_axis_max"] + 1
        return normalization(op, n), f"{n}"

    return build


def _rank(op: str) -> Build:
    """Any operator on a tensor of one axis more than the march has."""

    def build(m: Limits) -> Breaking:
        n = m["rank_max"] + 1
        return move(op, n), f"{n}"

    return build


def _bytes(m: Limits) -> Breaking:
    """Codes of int8: a byte each, where the floats of the model would take four."""
    n = m["tensor_bytes_max"] + 1
    return unary("Transpose", (1, n)), f"{n}"


def key_of(limit: Limit) -> str:
    """The number that a limit is about: the last in its text."""
    return limit.when or limit.text.rpartition("{")[2].partition("}")[0]


BREAKING |= {
    "Conv": CONV,
    "ConvTranspose": DECONV,
    "MaxPool": _pool_cases("MaxPool", "maxpool_kernel_max", "maxpool_window_max"),
    "AveragePool": _pool_cases("AveragePool", "avgpool_kernel_max", "avgpool_window_bytes_max"),
    "Gemm": _product_cases("Gemm"),
    "MatMul": _product_cases("MatMul"),
    **_others(),
}

RANKED = ("Transpose", "Tile", "Pad", "Resize")
"""The other operators keep axes together, which count as one."""


def cases() -> list[Case]:
    """Every limit of every row that has a model here."""
    found = [Case(op, RANK, _rank(op), {}) for op in RANKED]
    found.append(Case("Transpose", BYTES, _bytes, {"tensor_bytes_max": 300}))
    for op, rule in OPS.items():
        known = BREAKING.get(op, {})
        found += [Case(op, limit, *known[key_of(limit)]) for limit in rule.limits if key_of(limit) in known]
    return found
