"""Options with a value they cannot have are refused in the words of every other error of openbpu."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

Ends = tuple[float | None, float | None]
"""The least and the greatest number allowed; None where there is no such end."""


class WrongValue(typer.BadParameter):
    """A usage error that reads `<option>: must be <allowed>, not <actual>; <what to do>`.

    Without `option` it is the parameter whose callback raises.
    """

    def __init__(self, allowed: str, actual: object, fix: str, *, option: str | None = None) -> None:
        super().__init__(f"must be {allowed}, not {actual!r}; {fix}", param_hint=option)

    def format_message(self) -> str:
        """Return the message without what the option library puts around the option's name."""
        name, colon, told = super().format_message().removeprefix("Invalid value for ").partition(": ")
        return name.replace("'", "") + colon + told


def whole_option(
    *names: str,
    low: int,
    high: int | None = None,
    fix: str,
    about: str,
    metavar: str = "",
) -> Any:
    """Return a typer option for whole numbers in low..high.

    fix: what to do, said with the refusal of another value · about: the line of `--help`.
    """
    shown = metavar or ("N" if high is None else f"{low}..{high}")
    return typer.Option(*names, parser=_parser(names, int, (low, high), fix), metavar=shown, help=about)


def number_option(
    *names: str, low: float | None = None, high: float | None = None, fix: str, about: str
) -> Any:
    """Return a typer option for numbers in low..high, never NaN; otherwise as `whole_option`."""
    shown = "X" if low is None or high is None else f"{low}..{high}"
    return typer.Option(*names, parser=_parser(names, float, (low, high), fix), metavar=shown, help=about)


def share_option(*names: str, about: str) -> Any:
    """Return a typer option for a number, which may be written in percent: `0.95`, `95%`."""

    def parse(text: Any) -> float:
        if isinstance(text, float):
            return text
        bare, divisor = (text[:-1], 100) if text.endswith("%") else (text, 1)
        try:
            value = float(bare) / divisor
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise WrongValue("a number", text, "as 0.95 or 95%", option=" / ".join(names))
        return value

    return typer.Option(*names, parser=parse, metavar="X|X%", help=about)


def folder_option(*names: str, metavar: str, about: str) -> Any:
    """Return a typer option for a folder; an empty text, as of an unset variable, is not the current one."""

    def parse(text: Any) -> Path:
        if not text:
            raise WrongValue("a folder", text, "'.' is the current one", option=" / ".join(names))
        return Path(text)

    return typer.Option(*names, parser=parse, metavar=metavar, help=about)


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Name what the compiler refuses as the command line does: `--core-num`, not `core_num`."""
    from openbpu.arch.errors import CompileError, OptionError

    try:
        yield
    except OptionError as error:
        raise CompileError(f"--{error.option.replace('_', '-')}: {error.told}") from error


def _parser(names: tuple[str, ...], kind: type[int | float], ends: Ends, fix: str) -> Callable[[Any], float]:
    """Return what makes a number of an option's text, or raises WrongValue."""
    low, high = (-math.inf if ends[0] is None else ends[0]), (math.inf if ends[1] is None else ends[1])

    def parse(text: Any) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        actual = text if math.isnan(value) else value
        raise WrongValue(_allowed(kind, ends), actual, fix, option=" / ".join(names))

    return parse


def _allowed(kind: type[int | float], ends: Ends) -> str:
    """Return the numbers in words: `a whole number in 0..2`."""
    from openbpu.arch.errors import span

    what = "a whole number" if kind is int else "a number"
    low, high = ends
    if low is None or high is None:
        return what if low is None else f"{what}, {low} or more"
    return f"{what} in {span(low, high)}"
