"""The subjects, and what share of the time each gets."""

from __future__ import annotations

from collections.abc import Callable

from fuzz.case import Subject
from fuzz.graphs_subject import Graphs
from fuzz.hbm_subject import HbmFiles
from fuzz.onnx_subject import OnnxModels

SUBJECTS: dict[str, Callable[[], Subject]] = {"hbm": HbmFiles, "onnx": OnnxModels, "graphs": Graphs}
SHARES = {"hbm": 3, "onnx": 2, "graphs": 2}
