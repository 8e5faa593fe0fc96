"""A compiled program against the ONNX model it came from, judged by the float64 meaning of the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import onnx

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, ModelError, must
from openbpu.arch.hbm import Source
from openbpu.arch.program import Program
from openbpu.compiler.reader import check_readable
from openbpu.evaluation.beside import Parting, parting, stand_beside
from openbpu.evaluation.ends import Ends, noise, takers
from openbpu.evaluation.fallback import OnnxRuntime
from openbpu.evaluation.images import part_of, runs_in_one, together
from openbpu.evaluation.inside import Inside, as_type, made_of_lines, nodes_on_cpu
from openbpu.evaluation.judge import Explanation, failure
from openbpu.evaluation.reference import evaluate, layerwise
from openbpu.evaluation.reference.compare import See
from openbpu.evaluation.tally import Comparison, Tally
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.load import read_model
from openbpu.runtime import Session
from openbpu.runtime.reference import Feed

Judge = Literal["float64", "ONNX Runtime"]
Progress = Callable[[str, float], None]
"""Called as progress(stage, share done)."""

_CODES = tuple(np.dtype(t) for t in ("int8", "uint8", "int16", "uint16"))
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "QLinear", "QGemm")


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    outputs: the program against the judge, in the order of the model · onnxruntime: ONNX Runtime against the
    judge, None where it cannot run the model · parting: where ONNX Runtime first leaves the judge, on the
    first sample whose outputs differ, None where none does or nothing shows it · explanation: of
    differences, None where there are none or nothing can be seen · failures: why it does not pass, in words ·
    remarks: what to know besides · float32: operators that the judge has no float64 rule for · noise: whether
    nobody gave any data.
    """

    judge: Judge
    outputs: tuple[Comparison, ...]
    onnxruntime: tuple[Comparison, ...] | None
    parting: Parting | None
    explanation: Explanation | None
    failures: tuple[str, ...]
    remarks: tuple[str, ...]
    float32: tuple[str, ...]
    samples: int
    noise: bool

    @property
    def passed(self) -> bool:
        """Whether every output passes."""
        return not self.failures


class Verifier:
    """A model and a program that can be compared on feeds; what is wrong with either is said at once.

    model: path or ModelProto · program: a session, or what makes one · further arguments as of `Session`.
    Raises ModelError, HbmError, InputError.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | onnx.ModelProto,
        program: Session | Program | Source,
        *,
        mode: Literal["fast", "exact"] = "fast",
        threads: int = 1,
        march: str | None = None,
    ) -> None:
        self.session = (
            program
            if isinstance(program, Session)
            else Session(program, mode=mode, threads=threads, march=march)
        )
        self.where = "the model" if isinstance(model, onnx.ModelProto) else os.fspath(model)
        self.model = read_model(model)
        check_readable(self.model)  # a small file can describe tensors of any size
        inputs = fed_inputs(self.model)
        names = [o.name for o in self.model.graph.output]
        self.ends = Ends(self.session, [i.name for i in inputs], names)
        self.runs = runs_in_one(self.session.program, inputs)
        self.inputs = takers(self.session, inputs, self.runs)
        self.is_float = not any(
            n.op_type.startswith(_QUANTIZED) or n.op_type.endswith("Integer") for n in self.model.graph.node
        )
        self.runtime = OnnxRuntime(self.model, threads)
        self.beside, self.why_not = stand_beside(model, threads)

    def check(self, feed: Feed) -> dict[str, Array]:
        """Return a feed under the model's names; raises InputError where the program does not take it."""
        named = self.ends.feed(feed)
        self.session.check(self.ends.given(named), finite=True)
        return named

    def run(
        self,
        feeds: Iterable[Feed],
        *,
        noise: bool = False,
        min_cosine: float | None = None,
        max_steps: float | None = None,
        progress: Progress | None = None,
    ) -> Verification:
        """Compare on every feed, by the model's names or the program's; see `verify`."""
        work = _Work(self, progress)
        for feed in feeds:
            work.add(self.check(feed))
        if not work.samples:
            raise InputError(must("verify", "the number of samples", "at least 1", 0, "give an input"))
        return work.result(noise=noise, min_cosine=min_cosine, max_steps=max_steps)


class _Work:
    """What is added up over the feeds of one verification."""

    def __init__(self, of: Verifier, progress: Progress | None) -> None:
        self._of, self._progress = of, progress
        self.samples = 0
        self._ours: dict[str, Tally] = {}
        self._theirs: dict[str, Tally] = {}
        self._why_not = of.why_not
        self._judge: Judge = "float64"
        self._no_judge = ""
        self._float32: dict[str, None] = {}
        self._explanation: Explanation | None = None
        self._parting: Parting | None = None
        self._looked_beside = False
        self._inside = Inside(of.session)
        self._cpu = nodes_on_cpu(of.session.program)
        self._lines = made_of_lines(of.session.program)

    def add(self, feed: dict[str, Array]) -> None:
        """Run one feed through the judge, the program and ONNX Runtime."""
        self.samples += 1
        given = self._of.ends.given(feed)
        parts = [part_of(feed, k, self._of.runs) for k in range(self._of.runs)]
        beside = [self._run_beside(one) for one in parts]
        expected = together([self._expected(one, y) for one, y in zip(parts, beside, strict=True)])
        theirs = together(beside)
        raw = self._of.session.run(given, finite=True).outputs
        made = self._of.ends.made(raw, expected)
        differ = sum(self._tally(self._ours, n, expected[n]).add(expected[n], made[n]) for n in expected)
        apart = sum(self._tally(self._theirs, n, expected[n]).add(expected[n], y) for n, y in theirs.items())
        if apart and self._judge == "float64":
            self._look_beside(parts)
        if differ and self._judge == "float64" and not self._of.is_float:
            shown, codes, runs = self._inside.run(given), self._of.ends.codes(raw), self._of.runs
            for k, one in enumerate(parts):
                ends = (part_of(x, k, runs) for x in (made, expected, codes))
                self._explain(one, partial(shown.tensor, run=k, runs=runs), *ends)

    def _tally(self, kept: dict[str, Tally], name: str, like: Array) -> Tally:
        return kept.setdefault(name, Tally(name, self._of.ends.step(name, like)))

    def _run_beside(self, feed: Feed) -> dict[str, Array]:
        beside = self._of.beside
        if beside is None or self._why_not:
            return {}
        try:
            return dict(beside.run(feed))
        except ModelError as error:
            self._why_not = str(error)
            self._theirs.clear()
            return {}

    def _look_beside(self, parts: Iterable[Feed]) -> None:
        """Find where ONNX Runtime first leaves float64; once, on the first sample whose outputs differ."""
        if not self._looked_beside and not self._of.is_float:
            self._looked_beside = True
            of = self._of
            found = (parting(of.model, one, of.session.threads, of.runtime) for one in parts)
            self._parting = next((p for p in found if p is not None), None)

    def _expected(self, feed: Feed, theirs: dict[str, Array]) -> dict[str, Array]:
        """Return what the model means; ONNX Runtime judges where float64 does not get through."""
        if self._judge == "float64":
            told = self._told("float64")
            try:
                found = evaluate(self._of.model, feed, keep=(), fallback=self._of.runtime, progress=told)
            except (NotImplementedError, IndexError, KeyError, TypeError, ValueError) as error:
                self._no_judge, self._judge = str(error), "ONNX Runtime"
            else:
                narrow = self._of.runtime.narrow
                self._float32.update({op: None for op in found.fell_back if op in narrow})
                return found.outputs
        if not theirs:
            fix = "simplify the model, or compare it with one that ONNX Runtime runs"
            raise ModelError(
                f"{self._of.where}: nothing evaluates it: {self._no_judge}; {self._why_not}; {fix}"
            )
        return theirs

    def _told(self, stage: str) -> Callable[[int, int], None] | None:
        told = self._progress
        if told is None:
            return None
        label = f"sample {self.samples}: {stage}"
        return lambda done, total: told(label, done / total)

    def _explain(
        self,
        feed: Feed,
        shown: See,
        made: Mapping[str, Array],
        expected: Mapping[str, Array],
        codes: Mapping[str, Array],
    ) -> None:
        """Judge every quantized tensor that the program shows on those before it."""
        if self._explanation is None:
            self._explanation = Explanation()
        found = layerwise(
            self._of.model,
            _see(shown, self._quantized(codes), self._dequantized(made)),
            feed,
            fallback=self._of.runtime,
            progress=self._told("explaining"),
        )
        for report in found.reports.values():
            self._explanation.add(report, self._cpu, self._lines)
        for name, y in made.items():
            if name in found.outputs and name not in found.reports:
                step = self._of.ends.step(name, expected[name])
                self._explanation.add_output(name, y, found, step, self._cpu)

    def _quantized(self, codes: Mapping[str, Array]) -> dict[str, Array]:
        """Return outputs of codes under the names of quantized tensors, also where the model dequantizes."""
        behind = {
            n.output[0]: n.input[0] for n in self._of.model.graph.node if n.op_type == "DequantizeLinear"
        }
        return {behind.get(name, name): y for name, y in codes.items()}

    def _dequantized(self, made: Mapping[str, Array]) -> dict[str, Array]:
        """Return float32 outputs that are one scale times codes, counted in it, under the names of the codes.

        So the last rounding is seen also where a CPU segment does it.
        """
        constants = {t.name: t for t in self._of.model.graph.initializer}
        found = {}
        for n in self._of.model.graph.node:
            y = made.get(n.output[0]) if n.op_type == "DequantizeLinear" else None
            if y is None or y.dtype != np.float32 or not set(n.input[1:]) <= set(constants):
                continue
            scale, *zero = (onnx.numpy_helper.to_array(constants[i]) for i in n.input[1:])
            if scale.size == 1 and scale.dtype == np.float32:
                codes = np.rint(y / scale.astype(np.float64).reshape(()))
                found[n.input[0]] = codes + (zero[0].astype(np.int64).reshape(()) if zero else 0)
        return found

    def result(self, *, noise: bool, min_cosine: float | None, max_steps: float | None) -> Verification:
        """Return the verdict."""
        outputs = tuple(t.comparison() for t in self._ours.values())
        beside = tuple(t.comparison() for t in self._theirs.values())
        said = self._explanation
        failures = (
            failure(c, min_cosine, max_steps, explained=None if said and c.name in said.unjudged else said)
            for c in outputs
        )
        return Verification(
            self._judge,
            outputs,
            None if self._why_not else beside,
            self._parting,
            said,
            tuple(f for f in failures if f),
            tuple(self._remarks()),
            tuple(self._float32),
            self.samples,
            noise,
        )

    def _remarks(self) -> Iterable[str]:
        if self._of.is_float and any(p.on == "BPU" for p in self._of.session.placement):
            yield (
                f"{self._of.where} is a float model: the differences include those of its quantization; "
                "compare with the quantized model to see the binary's alone"
            )
        if self._no_judge:
            yield f"ONNX Runtime judges, because float64 does not get through: {self._no_judge}"
        if self._why_not:
            yield f"ONNX Runtime does not run it: {self._why_not}"


def _see(shown: See, outputs: Mapping[str, Array], floats: Mapping[str, Array]) -> See:
    """An output of codes is what the session gave; every other tensor what the run inside shows.

    `floats`: codes, as floats, of outputs that were dequantized, for what nothing else shows.
    """

    def see(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        given = outputs.get(name)
        if given is not None and given.size == np.prod(shape, dtype=np.int64):
            return as_type(given.reshape(shape), dtype)
        found = shown(name, shape, dtype)
        if found is None and name in floats and floats[name].shape == shape and dtype in _CODES:
            found = floats[name].clip(np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
        return found

    return see


def verify(  # noqa: PLR0913 - an argument per question
    model: str | os.PathLike[str] | onnx.ModelProto,
    program: Session | Program | Source,
    inputs: Iterable[Feed] | Feed | None = None,
    *,
    samples: int = 1,
    seed: int = 0,
    min_cosine: float | None = None,
    max_steps: float | None = None,
    mode: Literal["fast", "exact"] = "fast",
    threads: int = 1,
    march: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare a compiled program with its ONNX model on the same inputs.

    The judge is the model evaluated in float64, every rounding of it honoured; ONNX Runtime without
    optimisations stands beside it. An output passes where it equals the judge's. Where it differs, every
    quantized tensor that the program shows is judged on those before it: ties, and approximated operators
    within their stated bounds, explain a difference, and anything else fails. `inputs`: a feed, or several
    (arrays by input name); without them `samples` of reproducible noise, which says little about real data.

    Raises ModelError, HbmError, InputError; the message says what to do.
    """
    verifier = Verifier(model, program, mode=mode, threads=threads, march=march)
    if inputs is None:
        feeds: Iterable[Feed] = noise(verifier.session, samples, seed)
    else:
        feeds = [inputs] if isinstance(inputs, Mapping) else inputs
    return verifier.run(
        feeds, noise=inputs is None, min_cosine=min_cosine, max_steps=max_steps, progress=progress
    )
