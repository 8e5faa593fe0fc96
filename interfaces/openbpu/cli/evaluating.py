"""Options of `openbpu eval` beside those that say what models are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openbpu.cli.usage import share_option, whole_option

Models = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL…", show_default=False, help=".onnx and .hbm, compared with the first."),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="DIR|FILE", help="Images in a folder per class, an .npz or .npy, or a COCO .json."
    ),
]
Metrics = Annotated[
    list[str],
    typer.Option(
        "--metric", metavar="NAME", help="top1, top5, map, map50, cosine, MODULE:NAME; may be repeated."
    ),
]
Resamples = Annotated[
    int,
    whole_option(
        "--resamples",
        low=0,
        high=100_000,
        fix="0 leaves out the intervals that need them",
        about="How many resamples intervals are made of.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE.csv|.json", help="What was found of every sample."),
]
PerClass = Annotated[
    Path | None,
    typer.Option("--per-class", metavar="FILE.csv", help="The scores of every class, model and metric."),
]
Records = Annotated[
    Path | None,
    typer.Option("--records", metavar="FILE", help="Keep what is found as it is found, in a new file."),
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="FILE", help="Go on with such a file; what is in it is not done again."),
]
MinAccuracy = Annotated[
    float | None, share_option("--min-accuracy", about="Exit with 1 when a score is below this.")
]
MaxDrop = Annotated[
    float | None,
    share_option("--max-drop", about="Exit with 1 when a score is further below the first model's."),
]
