"""Where a graph jumps, its float32 values decide: what they are behind a chain of element-wise operators.

Floor(x / 0.3) of a float32 x is 1 where the float32 quotient is, though the real one may lie below. All else
is computed in float64, so this looks back from a node that jumps, and rounds what every operator makes that
is element by element, up to the last tensor that no such operator made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from openbpu.evaluation.reference.kernel import Array, Quantized, Result, held

Run = Callable[[onnx.NodeProto, Mapping[str, Array]], Result]
"""The result of a node on these values by name."""

JUMPS = frozenset(
    """
    Floor Ceil Round Sign Mod Cast CastLike Equal Less LessOrEqual Greater GreaterOrEqual IsInf IsNaN
    """.split()  # noqa: SIM905 - a word per line hides the list
)
"""What float32 values decide altogether."""
TURNS = frozenset({"ThresholdedRelu", "Shrink", "Asin", "Acos", "Acosh", "Atanh"})
"""What follows its argument, but for a jump or an end."""
CHAINED = frozenset(
    """
    Identity Relu Clip LeakyRelu Sigmoid Tanh Exp Log Sqrt Reciprocal HardSigmoid HardSwish Swish Gelu Erf
    Softplus Softsign Mish Elu Selu Celu ThresholdedRelu Shrink Abs Neg Sin Cos Tan Asin Acos Atan Sinh Cosh
    Asinh Acosh Atanh Add Sub Mul Div Pow Max Min Sum Mean PRelu Where
    """.split()  # noqa: SIM905 - as above
)
"""What is looked back through: the element-wise operators whose results are floats."""
NOISE = 2.0**-16
"""What float32 roundings change of a value, relative to it, is less; a jump is more."""
_MOST = 64
_OWN = ("", "ai.onnx")


class Singles:
    """The float32 values in front of the nodes of a graph that jump."""

    def __init__(self, nodes: Sequence[onnx.NodeProto]) -> None:
        jumps = [n for n in nodes if _is(n, JUMPS | TURNS)]
        self._makers = {n.output[0]: n for n in nodes if _is(n, CHAINED)} if jumps else {}

    def reads(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield the tensors that `applied` wants for a node, besides those that it reads."""
        if _is(node, JUMPS | TURNS):
            seen: dict[str, None] = {}
            for name in node.input:
                self._behind(name, seen, _MOST)
            yield from seen

    def _behind(self, name: str, seen: dict[str, None], most: int) -> None:
        maker = self._makers.get(name)
        if maker is None or most == 0:
            return
        for read in maker.input:
            if read and read not in seen:
                seen[read] = None
                self._behind(read, seen, most - 1)

    def applied(self, node: onnx.NodeProto, values: Mapping[str, Array], run: Run) -> Array | None:
        """Return the result of a node that jumps behind a chain; None for every other."""
        if not _is(node, JUMPS | TURNS) or not any(name in self._makers for name in node.input):
            return None
        done: dict[str, Array] = {}
        given = {name: self._decisive(name, values, run, done) for name in node.input if name}
        single = _array(run(node, given))
        if node.op_type in JUMPS:
            to_float = node.op_type.startswith("Cast") and single.dtype.kind == "f"
            return None if to_float else single
        exact = _array(run(node, values))
        near = np.abs(exact - single) <= NOISE * (np.abs(exact) + np.abs(single))
        return np.where(near, exact, single)

    def _decisive(self, name: str, values: Mapping[str, Array], run: Run, done: dict[str, Array]) -> Array:
        """The float32 value, or the real one where float32 overflowed on the way."""
        exact = values[name]
        if exact.dtype.kind != "f":
            return exact
        single = self._single(name, values, run, done, _MOST)
        return np.where(np.isfinite(single) | ~np.isfinite(exact), single, exact)

    def _single(
        self, name: str, values: Mapping[str, Array], run: Run, done: dict[str, Array], most: int
    ) -> Array:
        if name not in done:
            maker = self._makers.get(name)
            if maker is None or most == 0 or any(n and n not in values for n in maker.input):
                done[name] = held(values[name])
            else:
                reads = {n: self._single(n, values, run, done, most - 1) for n in maker.input if n}
                done[name] = held(_array(run(maker, reads)))
        return done[name]


def _array(result: Result) -> Array:
    """The one result of an operator that is element by element."""
    if isinstance(result, tuple | Quantized):
        raise TypeError(f"witness: an element-wise operator must give one array, not {type(result).__name__}")
    return result


def _is(node: onnx.NodeProto, ops: frozenset[str]) -> bool:
    return node.op_type in ops and node.domain in _OWN
