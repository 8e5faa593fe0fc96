"""The compiled program beside the QDQ model: what its quantized tensors hold on the same samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
from onnx import helper

from openbpu.arch import numerics
from openbpu.arch.arrays import Array
from openbpu.arch.program import BpuSegment, DebugEntry
from openbpu.arch.shapes import along
from openbpu.evaluation.analysis.cut import Graph, Kind
from openbpu.evaluation.analysis.rounding import Rounding
from openbpu.evaluation.ends import Ends
from openbpu.evaluation.inside import Inside, Shown
from openbpu.runtime import Session


class Binary:
    """A session, run with everything inside it kept. Raises InputError where its ends are not the model's."""

    def __init__(self, session: Session, quantized: Graph) -> None:
        self._ends = Ends(session, quantized.fed, quantized.outputs)
        self._inside, self._session = Inside(session), session
        self.program = session.program

    def layer_of(self, pair: Rounding) -> str:
        """Return the module, or else the node, of the operator that makes a pair's codes; "" for none."""
        for made, entry in self._makers.items():
            if made == pair.codes or made.startswith(f"{pair.codes}/"):
                return entry.scope or entry.name
        return ""

    @cached_property
    def _makers(self) -> dict[str, DebugEntry]:
        """What the operators of the program make, by name."""
        operators = (op for s in self.program.segments if isinstance(s, BpuSegment) for op in s.operators)
        return {
            self.program.tensors[i].name: self.program.debug[op.node]
            for op in operators
            if op.node >= 0
            for i in op.outputs
        }

    def run(self, feed: Mapping[str, Array]) -> Simulated:
        """Run one sample, given as the model takes it. Raises InputError for one that does not fit."""
        given = self._ends.given(dict(feed))
        self._session.check(given, finite=True)
        shown = self._inside.run(given)
        program = self._session.program
        ends = zip(program.outputs, self._session.outputs, strict=True)
        return Simulated(shown, self._ends.made({t.name: shown.value(i) for i, t in ends}, {}))


class Simulated:
    """The tensors of one run under the names of the QDQ model; outputs: as floats."""

    def __init__(self, shown: Shown, outputs: Mapping[str, Array]) -> None:
        self._shown = shown
        self.outputs = outputs

    def codes(self, pair: Rounding, like: Array) -> Array | None:
        """Return the codes of a pair; None where the program does not make them.

        like: what the QDQ run has behind the pair. Where the program keeps the tensor in another order of
        axes, the order that agrees best with that is taken.
        """
        found = self._shown.tensor(pair.codes, like.shape, pair.dtype)
        if found is not None:
            return found
        laid_out = self._shown.laid_out(pair.codes, like.shape, pair.dtype)
        return min(
            laid_out, key=lambda codes: np.count_nonzero(self.value(pair, codes) != like), default=None
        )

    def tensors(self, wanted: Collection[str], kinds: Mapping[str, Kind]) -> dict[str, Array]:
        """Return what is shown of tensors of integers, by their names in the model."""
        found = {}
        for name in wanted:
            kind = kinds[name]
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem))
            codes = self._shown.tensor(name, kind.shape, dtype) if dtype.kind in "iu" else None
            if codes is not None:
                found[name] = codes
        return found

    def value(self, pair: Rounding, codes: Array) -> Array:
        """Return codes as the float values that they stand for."""
        scale = pair.scale if pair.scale is not None else np.ones((), dtype=np.float32)
        shape = along(pair.axis if scale.size > 1 else None, codes.ndim)
        return numerics.dequantize(codes, scale.reshape(shape), pair.zero.reshape(shape))
