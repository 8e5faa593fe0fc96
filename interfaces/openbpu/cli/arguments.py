"""Arguments of more than one command: marches, shapes, input arrays."""

from __future__ import annotations

import difflib
import errno
import math
import os
import re
import stat
import zipfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbpu.cli.usage import WrongValue, whole_option

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Mode(str, Enum):
    """How a program is simulated."""

    FAST = "fast"
    EXACT = "exact"


MAX_THREADS = 256


def march(text: str | None) -> str | None:
    """Return a march's name as openbpu writes it, or the path of a march file; a usage error for neither.

    A file that is named but missing or wrong is no matter of usage: `get_march` says what is wrong with it.
    """
    if text is None:
        return None
    from openbpu.arch.march import march_names

    names = march_names()
    if text.lower() in names:
        return text.lower()
    if text.endswith(".json") or os.path.isfile(text):  # noqa: PTH113  # says no where Path raises
        return text
    close = difflib.get_close_matches(text.lower(), names, n=1)
    fix = f"did you mean '{close[0]}'?" if close else "or give the path of a march file (*.json)"
    raise WrongValue(f"one of {', '.join(names)}", text, fix)


March = Annotated[
    str,
    typer.Option(
        "--march", callback=march, help="A march (see `openbpu march`), or a march file of your own."
    ),
]
MarchName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", callback=march, help="A march, or a march file.")
]
OwnMarch = Annotated[
    str | None,
    typer.Option(
        "--march",
        callback=march,
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
        metavar="NAME=FILE.npy",
        help="An input; may be repeated. Also FILE.npz with all of them, or FILE.npy for a single input.",
    ),
]
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
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Whole layers, or every instruction: the same bits.")
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


def inputs(given: Sequence[str] | None, names: Sequence[str]) -> dict[str, Array]:
    """Read the `--input` options of a model with these inputs; raises InputError naming file and reason."""
    arrays: dict[str, Array] = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not (path if equals else text):
            fix = "write an array with numpy.save"
            raise WrongValue("NAME=FILE.npy", text, fix, option="--input")
        named = bool(equals) and (name in names or not Path(text).exists())
        read = _read(Path(path if named else text))
        new = read if isinstance(read, dict) else {name if named else _only(names, text): read}
        _check_once(new, arrays)
        arrays.update(new)
    return arrays


def _check_once(new: dict[str, Array], given: dict[str, Array]) -> None:
    from openbpu.arch.errors import InputError, must

    for name in new:
        if name in given:
            raise InputError(
                must("--input", f"input '{name}'", "given once", "twice", "leave one of them out")
            )


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


def _only(names: Sequence[str], text: str) -> str:
    from openbpu.arch.errors import InputError, must

    if len(names) == 1:
        return names[0]
    fix = f"the model has {len(names)} inputs: {', '.join(names)}"
    raise InputError(must("--input", "the option", "NAME=FILE.npy", f"'{text}'", fix))


def _read(path: Path) -> Array | dict[str, Array]:
    import numpy as np

    from openbpu.arch.errors import InputError, must

    readable(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fix = "write it with numpy.save, without objects"
        raise InputError(must(str(path), "the input", "a .npy or .npz file", f"({reason})", fix)) from error
