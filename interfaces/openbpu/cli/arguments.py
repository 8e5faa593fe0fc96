"""Arguments of more than one command: shapes, input arrays, output files."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Mode(str, Enum):
    """How a program is simulated."""

    FAST = "fast"
    EXACT = "exact"


March = Annotated[
    str, typer.Option("--march", help="A march (see `openbpu march`), or a march file of your own.")
]
OwnMarch = Annotated[
    str | None,
    typer.Option(
        "--march", help="Refuse a file made for another march; the way to a march file of your own."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1,3,224,224", help="Shape of a dynamic input; may be repeated."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE.npy",
        help="An input; may be repeated. Also FILE.npz with all of them, or FILE.npy for a single input.",
    ),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads; the results do not depend on it.")]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Whole layers, or every instruction: the same bits.")
]
OnnxFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)]
HbmFile = Annotated[Path, typer.Argument(metavar="MODEL.hbm", show_default=False)]

_MAX_NAME = 120


def shapes(given: Sequence[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Parse `NAME=1,3,224,224` options; a malformed one is a usage error. None when there are none."""
    parsed = {}
    for text in given or ():
        name, _, dims = text.rpartition("=")
        if not name or not re.fullmatch(r"\d+(,\d+)*", dims):
            raise typer.BadParameter(f"must be NAME=1,3,224,224, not '{text}'", param_hint="--shape")
        parsed[name] = tuple(int(d) for d in dims.split(","))
    return parsed or None


def numbers(text: str, option: str) -> list[float]:
    """Parse `0.485,0.456,0.406`; anything else is a usage error."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"must be numbers like 0.5,0.5,0.5, not '{text}'", param_hint=option
        ) from None


def no_nan(value: float | None) -> float | None:
    """Refuse a threshold that nothing is below or above; a callback of options."""
    if value is not None and value != value:  # noqa: PLR0124  # only NaN differs from itself
        raise typer.BadParameter("must be a number, not NaN")
    return value


def inputs(given: Sequence[str] | None, names: Sequence[str]) -> dict[str, Array]:
    """Read the `--input` options of a model with these inputs; raises InputError naming file and reason."""
    arrays: dict[str, Array] = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        named = bool(equals) and (name in names or not Path(text).exists())
        read = _read(Path(path if named else text))
        if isinstance(read, dict):
            arrays.update(read)
        else:
            arrays[name if named else _only(names, text)] = read
    return arrays


def _only(names: Sequence[str], text: str) -> str:
    from openbpu.arch.errors import InputError, must

    if len(names) == 1:
        return names[0]
    fix = f"the model has {len(names)} inputs: {', '.join(names)}"
    raise InputError(must("--input", "the option", "NAME=FILE.npy", f"'{text}'", fix))


def _read(path: Path) -> Array | dict[str, Array]:
    import numpy as np

    from openbpu.arch.errors import InputError, must

    try:
        loaded = np.load(path, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded
    except OSError as error:
        raise InputError(must(str(path), "the input", "a readable file", error.strerror or error)) from error
    except (ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fix = "write it with numpy.save, without objects"
        raise InputError(must(str(path), "the input", "a .npy or .npz file", f"({reason})", fix)) from error


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> dict[str, Path]:
    """Write every array as `folder`/NAME.npy, each file whole or not at all; returns the paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{stem}.npy" for name, stem in file_stems(list(arrays)).items()}
    for name, array in arrays.items():
        _write_array(paths[name], array)
    return paths


def _write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    import numpy as np

    from openbpu.arch.files import write_atomic

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, [buffer.getbuffer()])


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """Return a file name for every tensor name: what no file system likes becomes `_`, twins get a number."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_MAX_NAME].strip(".") or "output"
        unique, n = stem, 1
        while unique.lower() in taken:
            unique, n = f"{stem}_{n}", n + 1
        taken.add(unique.lower())
        stems[name] = unique
    return stems


def refuse_overwriting(source: Path, out: Path) -> None:
    """Raise InputError when the output is the input itself: a slip of the shell must not cost the model."""
    from openbpu.arch.errors import InputError, must

    if source.exists() and out.exists() and source.samefile(out):
        raise InputError(must("--output", "the path", "another file than the model", f"'{out}'"))
