"""Options that say what models are judged by: labels, the user's own code, the form of what they find."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from openbpu.cli.usage import whole_option


class Unit(str, Enum):
    """What the corners of boxes are counted in."""

    PIXELS = "pixels"
    RELATIVE = "relative"


Labels = Annotated[
    str,
    typer.Option(
        "--labels",
        metavar="NAME|FILE",
        help="The array of labels in an .npz, a .npy, or a text with an image and its label a line.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option("--classes", metavar="FILE", help="Names of the classes, a line each, in order of labels."),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Where the images of a COCO .json are.")
]
Preprocess = Annotated[
    str,
    typer.Option("--preprocess", metavar="MODULE:NAME", help="Your function(sample): what models get."),
]
Postprocess = Annotated[
    str,
    typer.Option(
        "--postprocess", metavar="MODULE:NAME", help="Your function(outputs, sample): what is judged."
    ),
]
Scores = Annotated[
    str, typer.Option("--scores", metavar="OUTPUT", help="The output with a score per class, of several.")
]
Boxes = Annotated[
    Unit, typer.Option("--boxes", help="Corners in pixels of the model's input, or in 0..1 of its sides.")
]
FirstClass = Annotated[
    int,
    whole_option(
        "--first-class",
        low=0,
        fix="0 is usual, 1 where 0 is the background",
        about="The number that a detector gives the first class.",
    ),
]
ClassIds = Annotated[
    bool, typer.Option("--class-ids", help="A detector's classes are the ids of COCO's categories.")
]
Limit = Annotated[
    int | None,
    whole_option(
        "--limit", low=1, fix="leave it out for all", about="So many samples only, spread over all."
    ),
]
