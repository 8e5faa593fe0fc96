"""A plugin for pytest: runs what is wanted, keeps the first test that fails, ends one that does not end."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

FILE = "first-failing-test.txt"
_SPARE_TIME = 30.0  # seconds a test may take beyond ten times what it took without a fault


class FirstFailure:
    """Runs the tests of `seconds` in that order and writes the name of the first that fails to `path`.

    `seconds` is what each took without a fault. (Thousands of names on pytest's command line take minutes and
    gigabytes to collect, their files take seconds.)
    """

    def __init__(self, path: Path, seconds: Mapping[str, float]) -> None:
        self.path = path.absolute()  # a test may have changed the current folder when its report comes
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        by_name = {item.nodeid: item for item in items}
        items[:] = [by_name[name] for name in self.seconds if name in by_name]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, _SPARE_TIME + 10 * self.seconds.get(nodeid, 0.0))

    def pytest_runtest_logfinish(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.path.exists():
            self.path.write_text(report.nodeid, encoding="utf-8")
