"""For any test: golden files, of figures that no rule fixes, and signals as a terminal gives them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

import operators  # noqa: F401 - registers, and refuses one that is half there

os.environ.setdefault("OPENBPU_VERIFY", "1")  # every graph on the way through the compiler, in every test

_FOLDER = Path(__file__).with_name("golden")
_HOW = "Where that is meant: `pytest --update-golden`, look at the difference, commit it."


class Golden(Protocol):
    """The function that the fixture gives."""

    def __call__(
        self, name: str, made: Any, *, entry: str = "", growing: bool = False, near: bool = False
    ) -> None:
        """entry: what was made is this entry of the file, others stay · growing: entries may come and go at
        the top, those that stay must be the same · near: numbers may differ as sums of float32 on another
        processor do: by 1e-4 of them, 1e-6, or one in the last place.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare what a test made with tests/golden/NAME.json, key by key, or write that file."""

    def compare(name: str, made: Any, *, entry: str = "", growing: bool = False, near: bool = False) -> None:
        path = _FOLDER / f"{name}.json"
        plain = json.loads(json.dumps(made))
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if request.config.getoption("--update-golden"):
            whole = dict(sorted({**old, entry: plain}.items())) if entry else plain
            path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
            return
        if entry:
            assert entry in old, f"{path.name} has no entry {entry!r}. {_HOW}"
            old, plain = {entry: old[entry]}, {entry: plain}
        if growing:
            old, plain = ({k: v for k, v in a.items() if k in b} for a, b in ((old, plain), (plain, old)))
        changed = _changed(old, plain, is_same=_near if near else _same)
        shown = "\n".join(changed[:20])
        assert not changed, f"{len(changed)} entries are not as in {path.name}:\n{shown}\n{_HOW}"

    return compare


def _changed(old: Any, new: Any, where: str = "", *, is_same: Callable[[Any, Any], bool]) -> list[str]:
    """Return the places at which two documents differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{where} {k}".strip(), old.get(k, "--"), new.get(k, "--")) for k in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}[{n}]", a, b) for n, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if is_same(old, new) else [f"{where}: {old!r} → {new!r}"]
    return [line for place, a, b in pairs for line in _changed(a, b, place, is_same=is_same)]


def _same(old: Any, new: Any) -> bool:
    return old == pytest.approx(new, rel=1e-9) if isinstance(old, float) else bool(old == new)


_DECIMAL = re.compile(r"\d+\.\d+(?:e[-+]\d+)?")


def _near(old: Any, new: Any) -> bool:
    """As `_same`, with room for another order of summation; also of numbers with a point inside texts."""
    if isinstance(old, float) or isinstance(new, float):
        return bool(old == pytest.approx(new, rel=1e-4, abs=1e-6))
    if not isinstance(old, str) or not isinstance(new, str):
        return bool(old == new)
    if " ".join(_DECIMAL.sub("#", old).split()) != " ".join(_DECIMAL.sub("#", new).split()):
        return False
    both = zip(_DECIMAL.findall(old), _DECIMAL.findall(new), strict=True)
    return all(float(b) == pytest.approx(float(a), rel=1e-4, abs=_last_place(a)) for a, b in both)


def _last_place(number: str) -> float:
    """Return what one in the last place of a number stands for, and a little: 0.0101 of "1.25"."""
    digits, _, exponent = number.partition("e")
    return max(1.01 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])), 1e-6)


@pytest.fixture
def signals_as_in_a_terminal() -> Iterator[None]:
    """Interrupts and hang-ups act as by default, for children too: nohup and `&` have them ignored."""
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if sys.platform != "win32":
        usual[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
