"""For any test: golden files, of figures that no rule fixes, and signals as a terminal gives them."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

_FOLDER = Path(__file__).with_name("golden")
_HOW = "Where that is meant: `pytest --update-golden`, look at the difference, commit it."


class Golden(Protocol):
    """The function that the fixture gives."""

    def __call__(self, name: str, made: Any, *, growing: bool = False) -> None:
        """growing: entries may come and go at the top, those that stay must be the same."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare what a test made with tests/golden/NAME.json, key by key, or write that file."""

    def compare(name: str, made: Any, *, growing: bool = False) -> None:
        path = _FOLDER / f"{name}.json"
        plain = json.loads(json.dumps(made))
        if request.config.getoption("--update-golden"):
            path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
            return
        old = json.loads(path.read_text(encoding="utf-8"))
        if growing:
            old, plain = ({k: v for k, v in a.items() if k in b} for a, b in ((old, plain), (plain, old)))
        changed = _changed(old, plain)
        shown = "\n".join(changed[:20])
        assert not changed, f"{len(changed)} entries are not as in {path.name}:\n{shown}\n{_HOW}"

    return compare


def _changed(old: Any, new: Any, where: str = "") -> list[str]:
    """Return the places at which two documents differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys((*old, *new)))
        return [
            line
            for k in keys
            for line in _changed(old.get(k, "--"), new.get(k, "--"), f"{where} {k}".strip())
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        both = enumerate(zip(old, new, strict=True))
        return [line for n, (a, b) in both for line in _changed(a, b, f"{where}[{n}]")]
    same = old == pytest.approx(new, rel=1e-9) if isinstance(old, float) else old == new
    return [] if same else [f"{where}: {old!r} → {new!r}"]


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
