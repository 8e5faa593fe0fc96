"""The files of `openbpu eval`: a table of samples, and records to go on from."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openbpu.cli import outputs
from openbpu.cli.screen import as_json, note
from openbpu.cli.usage import WrongValue

if TYPE_CHECKING:
    from openbpu.evaluation.accuracy import Evaluation

_TABLES = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class Files:
    """What the user named; None where he did not."""

    output: Path | None
    records: Path | None
    resume: Path | None
    classes: Path | None = None
    page: Path | None = None

    @property
    def records_at(self) -> Path | None:
        """The file of records, new or not."""
        return self.records if self.resume is None else self.resume

    def check(self, models: Sequence[Path]) -> None:
        """Refuse names that exclude each other or cannot be written, before anything is computed."""
        if self.records is not None and self.resume is not None:
            fix = "--resume goes on in the file that it reads"
            raise WrongValue("left out with --resume", str(self.records), fix, option="--records")
        if self.classes is not None:
            self._check_classes(models)
        if self.page is not None:
            others = (self.output, self.records_at, self.classes)
            outputs.check_page(self.page, *models, *(path for path in others if path is not None))
        if self.output is None:
            return
        if self.output.suffix.lower() not in _TABLES:
            fix = "the suffix says in which form"
            raise WrongValue(f"a {' or '.join(_TABLES)} file", str(self.output), fix, option="-o / --output")
        kept = self.records_at
        if kept is not None and kept.resolve() == self.output.resolve():
            fix = "records are kept while it runs"
            raise WrongValue("another file than that of records", str(kept), fix, option="-o / --output")
        for model in models:
            outputs.refuse_overwriting(model, self.output)
        outputs.check_file(self.output)

    def _check_classes(self, models: Sequence[Path]) -> None:
        path = self.classes
        if path is None:
            return
        if path.suffix.lower() != ".csv":
            raise WrongValue("a .csv file", str(path), "--json prints the same", option="--per-class")
        if path.resolve() in {p.resolve() for p in (self.output, self.records_at) if p is not None}:
            raise WrongValue("a file of its own", str(path), "name another one", option="--per-class")
        for model in models:
            outputs.refuse_overwriting(model, path)
        outputs.check_file(path)

    def left_behind(self, done: int, total: int, scores: str) -> str:
        """Return what is left of a run that was cut short. scores: of the samples that are done."""
        kept = self.records_at
        so_far = f"{done} of {total} samples are done" + (f" ({scores})" if scores else "")
        if kept is None:
            return f"{so_far}; --records FILE would have kept them"
        return f"{so_far}; --resume {kept} goes on"

    def write(
        self, found: Evaluation, models: Sequence[Path], resamples: int, failures: Sequence[str]
    ) -> None:
        """Write the table of samples, that of classes and the page, if they are wanted."""
        from openbpu.arch.files import write_text
        from openbpu.report.accuracy import class_csv

        if self.classes is not None:
            write_text(self.classes, class_csv(found))
            note(f"wrote {self.classes}")
        if self.page is not None:
            self._write_page(self.page, found, models, resamples, failures)
        if self.output is None:
            return
        is_csv = self.output.suffix.lower() == ".csv"
        write_text(self.output, _as_csv(found) if is_csv else _as_json(found))
        note(f"wrote {self.output}")

    def _write_page(
        self,
        page: Path,
        found: Evaluation,
        models: Sequence[Path],
        resamples: int,
        failures: Sequence[str],
    ) -> None:
        from openbpu.arch.files import write_text
        from openbpu.cli.about import about
        from openbpu.report.page import accuracy_page

        files: dict[str, Path | None] = {f"model {n}": path for n, path in enumerate(models, 1)}
        write_text(page, accuracy_page(found, resamples, failures, about(files)))
        note(f"wrote {page}")


def _as_csv(found: Evaluation) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [(model, column) for model in found.models for column in found.rows[0].cells[model]]
    writer.writerow(["sample", "label", *(f"{model}: {column}" for model, column in heads)])
    for row in found.rows:
        cells = (row.cells[model].get(column, "") for model, column in heads)
        writer.writerow([row.key, "" if row.label is None else row.label, *cells])
    return text.getvalue()


def _as_json(found: Evaluation) -> str:
    rows = [{"sample": r.key, "label": r.label, "models": r.cells} for r in found.rows]
    return as_json({"samples": rows}) + "\n"
