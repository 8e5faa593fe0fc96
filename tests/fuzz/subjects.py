"""The subjects, and what share of the time each gets."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.case import Subject
from fuzz.hbm_subject import HbmFiles

SUBJECTS: dict[str, Callable[[], Subject]] = {"hbm": HbmFiles}
SHARES = {"hbm": 3, "onnx": 2, "graphs": 2}
