"""Models that may go on without end, or end the process: refused, or stopped with a reason and by Ctrl-C.

ONNX Runtime looks at `RunOptions.terminate` between the nodes of a run, of the bodies of Loop and Scan too.
Python's handlers of signals wait for as long as the main thread is inside it. So a model with such bodies
runs in a thread of its own, which the calling one waits for.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openbpu.arch.errors import ModelError, must
from openbpu.arch.runnable import check_runnable

SWITCH = "OPENBPU_LOOP_SECONDS"
SECONDS = 30.0
_REPEATING = (b"Loop", b"Scan", b"SequenceMap")
_DRAWING = (b"RandomNormal", b"RandomUniform")
_QUIET = 4  # what fails is raised
_POLL = 0.1  # seconds: how long a signal waits at most on systems whose locks cannot be interrupted


def check(model: str | bytes, nodes: bytes | None = None) -> None:
    """Raise ModelError for a model (a path or bytes) that `openbpu.arch.runnable` refuses.

    What is no model at all is left to ONNX Runtime. nodes: those of the model and its functions, where they
    are at hand without the weights, which take long to search.
    """
    if not _holds(model if nodes is None else nodes, (*_REPEATING, *_DRAWING)):
        return
    import onnx  # noqa: PLC0415  # few models hold these words

    try:
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else _without_weights(model)
    except Exception:  # noqa: BLE001  # protobuf's DecodeError; ONNX Runtime says it, too
        return
    check_runnable(proto)


def _without_weights(path: str) -> Any:
    import onnx  # noqa: PLC0415  # as above

    return onnx.load(path, load_external_data=False)


def bounded(session: Any, model: str | bytes) -> Any:
    """Return `session` itself, or one that ends where `model` (a path, bytes or its nodes) repeats a body."""
    return Bounded(session) if _holds(model, _REPEATING) else session


class EndlessError(ModelError):
    """A run that was stopped: it took longer than a run with repeated bodies may."""


class Bounded:
    """An `InferenceSession` whose runs end within `OPENBPU_LOOP_SECONDS`, with EndlessError if need be."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs, as an InferenceSession does, or raise what that raises."""
        from openbpu.engine import onnxruntime as ort  # noqa: PLC0415  # this module is part of that package

        seconds, options, outcome = limit(), ort.RunOptions(), _Outcome()
        options.log_severity_level = _QUIET
        thread = threading.Thread(
            target=outcome.take, args=(self._session, names, feed, options), daemon=True
        )
        thread.start()
        try:
            late = not outcome.done.wait(seconds)
        finally:
            options.terminate = True
            while not outcome.done.wait(_POLL):
                pass
        if outcome.error is None:
            return outcome.made
        if late:
            raise EndlessError(_late(seconds, outcome.error)) from outcome.error
        raise outcome.error


class _Outcome:
    """What a run made, or what it raised."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made: list[Any] = []
        self.error: Exception | None = None

    def take(self, session: Any, names: Sequence[str] | None, feed: Mapping[str, Any], options: Any) -> None:
        try:
            self.made = session.run(names, feed, options)
        except Exception as error:  # noqa: BLE001  # it is raised again where it is waited for
            self.error = error
        finally:
            self.done.set()


def limit() -> float:
    """Return the seconds that such a run may take; raises ModelError for what is no number of them."""
    given = os.environ.get(SWITCH, "")
    try:
        seconds = float(given) if given else SECONDS
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= threading.TIMEOUT_MAX:
        raise ModelError(must("environment", SWITCH, "a positive number of seconds", repr(given), "unset it"))
    return seconds


_RUNNING = re.compile(r"running (\w+) node\. Name:'([^']*)'")


def _late(seconds: float, error: Exception) -> str:
    """Return what is said of a run that was stopped; ONNX Runtime's error names the nodes it was in."""
    inside = _RUNNING.findall(str(error))
    repeated = [(op, name) for op, name in inside if op.encode() in _REPEATING]
    op, name = (repeated or inside or [("Loop", "")])[0]
    fix = f"give it a trip count or a condition that ends it, or more time: {SWITCH}"
    return must(f"node '{name}' ({op})", "a run of the model", f"over within {seconds:g} s", "going on", fix)


def _holds(model: str | bytes, words: Iterable[bytes]) -> bool:
    if isinstance(model, bytes):
        return any(word in model for word in words)
    with Path(model).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(data.find(word) >= 0 for word in words)
