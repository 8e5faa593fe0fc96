"""QuantAnalysis: from two stages of a model to the layers, quantizers and samples that lose precision."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from openbpu.arch.arrays import Array
from openbpu.arch.errors import QuantizationError, must
from openbpu.arch.files import write_atomic, write_text
from openbpu.compat.profiler.files import as_csv, as_text, finite, folder, write
from openbpu.compat.profiler.pairs import Pair, TorchPair, pair_of
from openbpu.compat.screen import say
from openbpu.quantization.layers import COLUMNS, LayerRow
from openbpu.quantization.measures import Closeness, closeness

TYPES = ("fake_quant", "pre_export", "export", "convert")
SENSITIVE = ("op_name", "sensitive_type", "op_type")
_MEASURES: dict[str, Callable[[Closeness], float]] = {
    "L1": lambda c: c.l1,
    "Cosine": lambda c: c.cosine,
    "MSE": lambda c: c.mse,
    "SQNR": lambda c: c.sqnr,
    "ATOL": lambda c: c.max_abs,
    "max_diff": lambda c: c.max_abs,
}
_FALLS = ("Cosine", "SQNR")


class QuantAnalysis:
    """Compares a baseline model with a later stage of it.

    analysis_type: fake_quant (float and prepared, or calibrated and trained), pre_export, export, convert:
    which stages they are, in words only; what is compared follows from the models. A PyTorch model of any
    stage, a module of `hbdk4.compiler`, an ONNX model or, to be analysed, a `.hbm` are taken. post_process:
    called with a PyTorch model's result before outputs are compared. out_dir: where files go (default: the
    working directory).
    """

    def __init__(
        self,
        baseline_model: Any,
        analysis_model: Any,
        analysis_type: str = "fake_quant",
        device_ids: Any = None,
        post_process: Callable[[Any], Any] | None = None,
        out_dir: str | os.PathLike[str] | None = None,
        **ignored: Any,
    ) -> None:
        del device_ids, ignored
        if analysis_type not in TYPES:
            raise QuantizationError(
                must("QuantAnalysis", "analysis_type", " or ".join(TYPES), repr(analysis_type))
            )
        self._pair: Pair = pair_of(baseline_model, analysis_model)
        self._place = folder(out_dir)
        self._post_process = post_process
        self._bad: Any = None
        self._rows: list[LayerRow] | None = None

    # --- the sample ----------------------------------------------------------------------------------------

    def set_bad_case(self, data: Any) -> None:
        """Take this sample, as the models take it."""
        self._bad, self._rows = data, None

    def load_bad_case(self, filename: Any = None) -> NoReturn:
        """Refused: a saved sample is read by whoever saved it."""
        raise QuantizationError(
            must("load_bad_case", "the sample", "given to set_bad_case", f"'{filename}'", "load it first")
        )

    def auto_find_bad_case(
        self,
        data_generator: Iterable[Any],
        num_steps: int | None = None,
        metric: str | Callable[[Any, Any], float] = "L1",
        device: Any = None,
        custom_metric: Callable[[Any, Any], float] | None = None,
        cached: Any = None,
        **ignored: Any,
    ) -> None:
        """Take the sample whose outputs differ most; writes `badcase.txt`: of every output the worst sample.

        metric: L1, Cosine, MSE, SQNR, ATOL, or custom_metric(expected, found), which grows with the error.
        """
        del device, cached, ignored
        by = custom_metric or metric
        worst: list[tuple[float, float, int]] = []  # per output: badness, value, sample
        best: tuple[float, Any] | None = None
        for number, data in enumerate(data_generator):
            if num_steps is not None and number >= num_steps:
                break
            values = self._measured(data, by)
            for k, (badness, value) in enumerate(values):
                if k == len(worst):
                    worst.append((badness, value, number))
                elif badness > worst[k][0]:
                    worst[k] = (badness, value, number)
            badness = max((badness for badness, _ in values), default=0.0)
            if best is None or badness > best[0]:
                best = (badness, data)
        if best is None:
            fix = "give a loader that yields what the models take"
            raise QuantizationError(must("auto_find_bad_case", "the samples", "at least one", "none", fix))
        self.set_bad_case(best[1])
        name = by if isinstance(by, str) else getattr(by, "__name__", "custom_metric")
        rows = [(k, name, value, sample) for k, (_, value, sample) in enumerate(worst)]
        text = as_text(("output", "metric", "value", "sample"), rows)
        write_text(self._place / "badcase.txt", text + "\n")
        say(text)

    def _measured(self, data: Any, by: str | Callable[[Any, Any], float]) -> list[tuple[float, float]]:
        """Return (badness, value) of every output for a sample."""
        expected, found = self._outputs(data)
        if callable(by):
            values = [float(by(a, b)) for a, b in zip(expected, found, strict=True)]
            return [(finite(v), v) for v in values]
        if by not in _MEASURES:
            raise QuantizationError(
                must("auto_find_bad_case", "metric", ", ".join(_MEASURES), repr(by), "or give custom_metric")
            )
        sign = -1.0 if by in _FALLS else 1.0
        values = [_MEASURES[by](closeness(a, b)) for a, b in zip(expected, found, strict=True)]
        return [(finite(sign * v), v) for v in values]

    def _outputs(self, data: Any) -> tuple[list[Array], list[Array]]:
        if self._post_process is None or not isinstance(self._pair, TorchPair):
            return self._pair.outputs(data)
        return self._pair.processed(data, self._post_process)

    # --- layers --------------------------------------------------------------------------------------------

    def run(self, device: Any = None, index: Any = None, **ignored: Any) -> list[LayerRow]:
        """Run both models on the sample and compare their layers."""
        del device, index, ignored
        self._rows = self._pair.rows(self._sample("run"), (), ())
        return self._rows

    def compare_per_layer(
        self, prefixes: Sequence[str] = (), types: Sequence[type] = (), **ignored: Any
    ) -> list[LayerRow]:
        """Write `compare_per_layer_out.txt` and `.csv`, and `abnormal_layer_advisor.csv`; returns the rows.

        The second has the layers that are far from the baseline's, in the order of the network: the first of
        them is where it goes wrong.
        """
        del ignored
        if prefixes or types or self._rows is None:
            rows = self._pair.rows(self._sample("compare_per_layer"), prefixes, types)
        else:
            rows = self._rows
        abnormal = [row for row in rows if row.abnormal]
        write(self._place, "compare_per_layer_out", COLUMNS, [row.cells() for row in rows])
        write_text(
            self._place / "abnormal_layer_advisor.csv", as_csv(COLUMNS, [row.cells() for row in abnormal])
        )
        say(as_text(COLUMNS, [row.cells() for row in rows]))
        if abnormal:
            first = abnormal[0]
            say(f"It goes wrong first at {first.name}: cosine {first.close.cosine:.6f}; {first.advice}")
        return rows

    # --- quantizers ----------------------------------------------------------------------------------------

    def sensitivity(
        self,
        device: Any = None,
        metric: str | Callable[[Any, Any], float] = "L1",
        reserve: bool = False,
        **ignored: Any,
    ) -> list[list[tuple[Any, ...]]]:
        """Write `output_<i>_<metric>_sensitive_ops.txt` and `.pt` for every output; returns the tables.

        A row is what the output is when one quantizer, and the weight that it rounds, are the analysed
        model's and all else is the baseline's; the most sensitive first (`reserve`: last).
        """
        del device, ignored
        data = self._sample("sensitivity")
        if not isinstance(self._pair, TorchPair):
            fix = "give the prepared PyTorch model, or use `openbpu analyze --sensitivity`"
            raise QuantizationError(
                must("sensitivity", "the analysed model", "one in PyTorch", "a compiled one", fix)
            )
        engine = importlib.import_module("openbpu.quantization.torch.profiler")
        found = engine.sensitivity_rows(*self._pair.ready(data), data, metric)
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "custom")
        tables = []
        for output in range(len(found[0].values)):
            rows = engine.ordered(found, output, name)
            rows = rows[::-1] if reserve else rows
            total = sum({row.name: row.flops for row in rows}.values()) or 1
            table = [
                (r.name, r.kind, r.op, r.values[output], f"{r.flops}({r.flops / total:.2%})") for r in rows
            ]
            self._write_sensitive(f"output_{output}_{name}_sensitive_ops", name, table)
            tables.append(table)
        return tables

    def _write_sensitive(self, stem: str, metric: str, rows: list[tuple[Any, ...]]) -> None:
        text = as_text((*SENSITIVE, metric, "flops"), rows)
        write_text(self._place / f"{stem}.txt", text + "\n")
        buffer = io.BytesIO()
        importlib.import_module("torch").save([list(row) for row in rows], buffer)
        write_atomic(self._place / f"{stem}.pt", [buffer.getbuffer()])
        say(text)

    def tune_bad_case(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it would train the model."""
        fix = "calibrate with other observers, give sensitive layers int16, or train in FakeQuantState.QAT"
        raise QuantizationError(must("tune_bad_case", "the model", "tuned by you", "(not here)", fix))

    def save(self, *_: Any, **__: Any) -> None:
        """Nothing: every method writes its files when it is called."""

    def _sample(self, method: str) -> Any:
        if self._bad is None:
            fix = "call set_bad_case(data) or auto_find_bad_case(loader) first"
            raise QuantizationError(must(f"QuantAnalysis.{method}", "the sample", "known", "not set", fix))
        return self._bad
