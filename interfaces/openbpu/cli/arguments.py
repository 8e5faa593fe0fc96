"""Arguments of more than one command: marches, shapes, input arrays."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openbpu.cli.usage import WrongValue, number_option, whole_option

if TYPE_CHECKING:
    from openbpu.quantization.samples import Pixels


class Mode(str, Enum):
    """How a program is simulated."""

    FAST = "fast"
    EXACT = "exact"


MAX_THREADS = 256


def march(text: str | None) -> str | None:
    """Return the name of a march given in any spelling or by a product, or a march file's path.

    Anything else is a usage error.

    A file that is named but missing or wrong is no matter of usage: `get_march` says what is wrong with it.
    """
    if text is None:
        return None
    from openbpu.arch.march import find_march, no_march

    if text.endswith(".json"):
        return text
    name = find_march(text)
    if name is not None:
        return name
    if os.path.isfile(text):  # noqa: PTH113  # says no where Path raises
        return text
    allowed, fix = no_march(text)
    raise WrongValue(allowed, text, fix)


def march_names_beginning(incomplete: str) -> list[str]:
    """Complete a march for the shell: names and products, in the case that the user began with."""
    from openbpu.arch.march import march_products

    names = [known for name, made in march_products().items() for known in (name, *made)]
    return [
        spelled
        for n in names
        for spelled in dict.fromkeys((n, n.lower()))
        if spelled.startswith(incomplete or n)
    ]


March = Annotated[
    str,
    typer.Option(
        "--march",
        callback=march,
        autocompletion=march_names_beginning,
        help="A march or a product it is in (see `openbpu march`), or a march file of your own.",
    ),
]
MarchName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        callback=march,
        autocompletion=march_names_beginning,
        help="A march, its product, or a march file.",
    ),
]
OwnMarch = Annotated[
    str | None,
    typer.Option(
        "--march",
        callback=march,
        autocompletion=march_names_beginning,
        help="Refuse a file made for another march; the way to a march file of your own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1,3,224,224", help="Shape of a dynamic input; may be repeated."),
]
BpuOps = Annotated[
    list[str] | None,
    typer.Option(
        "--bpu",
        metavar="OP|NODE",
        help="Put this operator or node on the BPU although the march prefers the CPU; may be repeated.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE|DIR",
        help="An input: a .npy file, an image, or a folder of them for as many runs; may be repeated. "
        "NAME= may be left out for a single input, and for an .npz with all of them.",
    ),
]
Scale = Annotated[
    float | None,
    number_option(
        "--scale",
        fix="0.00392157 makes 0..1 of 0..255",
        about="Images: pixels are multiplied by it. Without it 1/255, or 1 for inputs of integers.",
    ),
]
Mean = Annotated[str, typer.Option("--mean", metavar="M,M,M", help="Images: then it is subtracted.")]
Std = Annotated[str, typer.Option("--std", metavar="S,S,S", help="Images: then divided by.")]
Threads = Annotated[
    int,
    whole_option(
        "--threads",
        low=1,
        high=MAX_THREADS,
        fix="the cores of this machine are the most that help",
        about="Threads; the results do not depend on it.",
    ),
]
Workers = Annotated[
    int,
    whole_option(
        "--workers",
        low=0,
        high=1024,
        fix="the cores of this machine are the most that help",
        about="Processes on this machine (needs openbpu[dask]); 0 works in this one.",
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler", metavar="tcp://HOST:PORT", help="A Dask cluster that exists (needs openbpu[dask])."
    ),
]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Whole layers, or every instruction: the same bits.")
]
Page = Annotated[
    Path | None,
    typer.Option("--page", metavar="FILE.html", help="Write the report as a page: sort, filter, drawings."),
]
OnnxFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)]
HbmFile = Annotated[Path, typer.Argument(metavar="MODEL.hbm", show_default=False)]


def removed(text: str) -> list[str]:
    """Parse `quantize,dequantize`; another kind of node is a usage error."""
    kinds = [part.strip().lower() for part in text.split(",") if part.strip()]
    if kinds:
        from openbpu.compiler.api import REMOVABLE

        for kind in kinds:
            if kind not in REMOVABLE:
                allowed = " and ".join(REMOVABLE)
                raise WrongValue(f"of {allowed}", kind, "leave the others out", option="--remove-io")
    return kinds


def wishes(given: Sequence[str] | None) -> tuple[str, ...]:
    """Split the `--bpu` options at their commas; one that names nothing is a usage error."""
    found: list[str] = []
    for text in given or ():
        names = [part.strip() for part in text.split(",") if part.strip()]
        if not names:
            fix = "`openbpu check` lists the nodes"
            raise WrongValue("an operator or a node of the model", text, fix, option="--bpu")
        found += names
    return tuple(found)


def shapes(given: Sequence[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Parse `NAME=1,3,224,224` options; a malformed one is a usage error. None when there are none."""
    parsed = {}
    for text in given or ():
        name, _, dims = text.rpartition("=")
        if not name or not re.fullmatch(r"\d{1,18}(,\d{1,18})*", dims):
            fix = "give every size of that input, the batch first"
            raise WrongValue("NAME=1,3,224,224", text, fix, option="--shape")
        parsed[name] = tuple(int(d) for d in dims.split(","))
    return parsed or None


def numbers(text: str, option: str) -> list[float]:
    """Parse `0.485,0.456,0.406`; anything else is a usage error."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        fix = "one for all channels, or one for each"
        raise WrongValue("numbers like 0.5,0.5,0.5", text, fix, option=option)
    return found


def pixels(scale: float | None, mean: str, std: str) -> Pixels:
    """Return what `--scale`, `--mean` and `--std` make of pixels; a usage error for what are no numbers."""
    means, deviations = numbers(mean, "--mean"), numbers(std, "--std")
    from openbpu.quantization.samples import Pixels

    return Pixels(scale, means, deviations)


def refuse_both(workers: int, scheduler: str) -> None:
    """Refuse `--workers` beside `--scheduler`: a usage error."""
    if workers and scheduler:
        fix = "a cluster has its own workers: leave it out"
        raise WrongValue("0 with --scheduler", workers, fix, option="--workers")


def readable(*paths: Path) -> None:
    """Raise InputError, in the words of the system, for a path that is no file to read from."""
    from openbpu.arch.errors import InputError

    for path in paths:
        reason = _unreadable(path)
        if reason:
            raise InputError(f"{path}: {reason}; check the path")


def _unreadable(path: Path) -> str:
    """Return why a path cannot be read, "" when it can. (A pipe is not opened: that would wait.)"""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            return os.strerror(errno.EISDIR) if stat.S_ISDIR(kind) else "not a regular file"
        path.open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        return getattr(error, "strerror", None) or str(error)
    return ""
