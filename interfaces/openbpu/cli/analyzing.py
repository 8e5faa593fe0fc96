"""Options of `openbpu analyze`, and the files it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli import outputs
from openbpu.cli.usage import WrongValue, folder_option, number_option, whole_option

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Analysis, Analyzer, Sensitivity
    from openbpu.quantization.onnx import Calibration


class Sort(str, Enum):
    """What makes a node come first; `order` is the network's."""

    ALONE = "alone"
    COSINE = "cosine"
    SQNR = "sqnr"
    L1 = "l1"
    MAX = "max"
    CLIPPED = "clipped"
    USED = "used"
    ORDER = "order"


class Mode(str, Enum):
    """What is quantized when a node's sensitivity is measured."""

    ONLY = "only"
    ALL_BUT = "all-but"


Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR|FILE.npz", help="Samples: a folder of .npy files or images, or an .npz."
    ),
]
QuantizedFile = Annotated[Path, typer.Argument(metavar="Q.onnx", show_default=False)]
OptionalHbm = Annotated[Path | None, typer.Argument(metavar="[MODEL.hbm]", show_default=False)]
Samples = Annotated[
    int | None,
    whole_option("--samples", low=1, fix="16 is the default", about="Run so many samples at most: 16."),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="NODE", help="Stop behind this node or tensor.")
]
MinCosine = Annotated[
    float,
    number_option(
        "--min-cosine",
        low=-1,
        high=1,
        fix="0.99 is the default",
        about="A node whose cosine so far is below this has gone wrong.",
    ),
]
Top = Annotated[
    int,
    whole_option("--top", low=1, fix="--all shows every node", about="So many nodes, first in the order."),
]
Every = Annotated[bool, typer.Option("--all", help="Every node.")]
Sorted = Annotated[Sort, typer.Option("--sort", help="Which nodes come first.")]
Felt = Annotated[
    Mode | None,
    typer.Option(
        "--sensitivity", help="Also run the network with only, or with all but, each node quantized."
    ),
]
Metric = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="cosine|mse|sqnr|MODULE:FUNCTION",
        help="What a sensitivity is of: the outputs against the float model's.",
    ),
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write every node as a line of CSV.")]
Dump = Annotated[
    Path | None,
    folder_option(
        "--dump",
        metavar="DIR",
        about="Write tensors as DIR/float/NAME.npy, DIR/qdq/NAME.npy and DIR/simulated/NAME.npy; of "
        "several samples (--samples) in a folder each. Without --samples of the first.",
    ),
]
Tensors = Annotated[
    list[str] | None,
    typer.Option("--tensor", metavar="NAME", help="Dump this tensor or node only; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class Files:
    """What is written. tensors: names of those that are dumped, none for all."""

    csv: Path | None
    page: Path | None
    dump: Path | None
    tensors: tuple[str, ...]

    def check(self, *read: Path) -> None:
        """Refuse, before anything runs, what cannot be written, and what is read."""
        if self.csv is not None:
            outputs.check_file(self.csv)
        if self.dump is not None:
            outputs.check_folder(self.dump)
        if self.page is not None:
            outputs.check_page(self.page, *read, *([self.csv] if self.csv is not None else []))
        if self.tensors and self.dump is None:
            raise WrongValue(
                "given with --dump", self.tensors[0], "--dump DIR says where to", option="--tensor"
            )

    def write_csv(self, found: Analysis, sort: Sort, felt: Sequence[Sensitivity]) -> list[str]:
        """Write every node as a line; returns what was written, in sentences."""
        if self.csv is None:
            return []
        from openbpu.arch.files import write_text
        from openbpu.report.analysis import analysis_csv

        write_text(self.csv, analysis_csv(found, sort.value, felt))
        return [f"wrote {self.csv}"]

    def write_page(
        self, found: Analysis, felt: Sequence[Sensitivity], metric: str, of: dict[str, Path | None]
    ) -> list[str]:
        """Write the page; returns what was written, in sentences."""
        if self.page is None:
            return []
        from openbpu.arch.files import write_text
        from openbpu.cli.about import about
        from openbpu.report.page import analysis_page

        write_text(self.page, analysis_page(found, felt, metric, about(of)))
        return [f"wrote {self.page}"]

    def write_tensors(
        self, analyzer: Analyzer, given: Calibration, samples: int, until: str | None
    ) -> list[str]:
        """Write the tensors of so many samples; returns what was written, in sentences."""
        if self.dump is None:
            return []
        from openbpu.evaluation.analysis import dump

        feeds, _ = analyzer.feeds(given, samples)
        known: dict[str, list[str]] = {}
        written = 0
        for sample, run, arrays in dump(analyzer, feeds, list(self.tensors), until):
            place = (self.dump / str(sample) if len(feeds) > 1 else self.dump) / run
            place.mkdir(parents=True, exist_ok=True)
            seen = known.setdefault(str(place), [])
            seen += arrays
            stems = outputs.file_stems(seen)  # of all so far: none takes the name of an earlier one
            for name, array in arrays.items():
                outputs.write_array(place / f"{stems[name]}.npy", array)
            written += len(arrays)
        return [f"wrote {written} tensors to {self.dump}"]
