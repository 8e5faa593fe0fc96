"""Arguments of the vendor's commands: the standard parser, with our words for what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from openbpu.arch.errors import InputError, must


class Parser(argparse.ArgumentParser):
    """A parser that takes no shortened options, and single dashes in front of long ones as well."""

    def __init__(self, prog: str, about: str) -> None:
        super().__init__(prog=prog, description=about, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise InputError with argparse's words, and with how to see the options."""
        raise InputError(f"{self.prog}: {message}; `{self.prog} --help` lists the options")

    def parsed(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options; `-model_file X` and `--model_file=X` are `--model_file X`."""
        known = {option for action in self._actions for option in action.option_strings}
        return self.parse_args([self._doubled(word, known) for word in arguments])

    @staticmethod
    def _doubled(word: str, known: set[str]) -> str:
        name = word.partition("=")[0]
        return f"-{word}" if name not in known and f"-{name}" in known else word


def shapes_of(given: Sequence[Sequence[str]] | None, where: str) -> dict[str, list[int]]:
    """Return the sizes of `-i NAME 1x3x224x224`; raises InputError for what is none."""
    found = {}
    for name, text in given or ():
        sizes = text.lower().replace(",", "x").split("x")
        if not all(size.strip().isdigit() for size in sizes):
            raise InputError(must(where, f"the shape of '{name}'", "like 1x3x224x224", f"'{text}'"))
        found[name] = [int(size) for size in sizes]
    return found


def files_of(text: str, where: str) -> list[Path]:
    """Return the paths between commas; raises InputError for one that is no file."""
    paths = [Path(part.strip()) for part in text.split(",") if part.strip()]
    for path in paths:
        if not path.is_file():
            raise InputError(must(where, "a file", "there", f"'{path}'", "check the path"))
    if not paths:
        raise InputError(must(where, "a file", "given", "missing"))
    return paths
