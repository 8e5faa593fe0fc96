"""A pytest plugin that writes the seconds of every test that passed to the file named in MUTANTS_SECONDS."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

_SECONDS: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.passed:
        _SECONDS[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    Path(os.environ["MUTANTS_SECONDS"]).write_text(json.dumps(_SECONDS), encoding="utf-8")
