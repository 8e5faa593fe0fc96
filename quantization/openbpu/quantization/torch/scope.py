"""Where a forward pass stands: the module whose forward runs, its operators counted, the user's source line.

Hooks on every container of a prepared model push and pop frames. An operator on QTensors is known by the
module it stands in, its name and how many of that name the same call has met before: `_generated_mul_0`. So
operators find their quantizer again on every forward without a rewritten graph.
"""

from __future__ import annotations

import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import nn

from openbpu.quantization.torch.trace import Recorder

_OWN = ("torch.", "openbpu.")


@dataclass(slots=True)
class Frame:
    """One running forward: the module, its path in the prepared model, operators met so far by name."""

    module: nn.Module
    path: str
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stripped:
    """What stubs do where a model is exported from stub to stub.

    begin: of a QuantStub and what it reads; returns what it reads instead. end: of a DeQuantStub's result.
    """

    begin: Callable[[Any, Any], Any]
    end: Callable[[Any], Any]


class _Scope(threading.local):
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.recorder: Recorder | None = None
        self.exporting = False
        self.owner: nn.Module | None = None
        self.varies: Callable[[Any], bool] | None = None
        self.stripped: Stripped | None = None


scope = _Scope()


def attach(containers: list[tuple[str, nn.Module]]) -> None:
    """Hook the containers of a model: (path, module) each."""
    for path, module in containers:
        module.bpu_path = path
        module.register_forward_pre_hook(_enter)
        module.register_forward_hook(_leave, always_call=True)


def _enter(module: nn.Module, args: Any) -> None:
    del args
    scope.frames.append(Frame(module, module.bpu_path))


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    del args, output
    while scope.frames:
        if scope.frames.pop().module is module:
            break


def here() -> str:
    """Return `module path (file:line)` of the user's code that is running, for error messages."""
    frame = scope.frames[-1] if scope.frames else None
    path = "outside of a prepared model" if frame is None else frame.path or type(frame.module).__name__
    line = user_line()
    return f"{path} ({line})" if line else path


def user_line() -> str:
    """Return `file:line` of the innermost frame that is the user's, not torch's or openbpu's; or ""."""
    frame = _user_frame()
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads every source file
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    return frame


def _is_users(frame: FrameType) -> bool:
    return not (frame.f_globals.get("__name__", "") + ".").startswith(_OWN)


def warn_user(text: str, kind: type[Warning]) -> None:
    """Warn at the user's line, however deep in torch and openbpu the cause was found."""
    frame = _user_frame()
    if frame is None:
        warnings.warn(text, kind, stacklevel=2)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    file, name = frame.f_code.co_filename, frame.f_globals.get("__name__", "")
    warnings.warn_explicit(text, kind, file, frame.f_lineno, name, registry)


def warn_about(model: nn.Module, text: str, kind: type[Warning]) -> None:
    """As `warn_user`, with the model and the line in the text."""
    warn_user(f"{type(model).__name__} ({user_line()}): {text}", kind)


def where(error: BaseException, model: nn.Module) -> str:
    """Return `module path (file:line)` of the user's innermost frame that `error`, or its cause, came from.

    An error that no line of the user's is on the way of is that of the line that runs now.
    """
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    path, line = type(model).__name__, user_line()
    for found in chain:  # the deepest cause has the last word
        frames = list(traceback.walk_tb(found.__traceback__))
        modules = [str(p) for p in (_path_of(f) for f, _ in frames) if p]
        lines = [f"{f.f_code.co_filename}:{number}" for f, number in frames if _is_users(f)]
        path, line = (modules or [path])[-1], (lines or [line])[-1]
    return f"{path} ({line})" if line else path


def _path_of(frame: FrameType) -> str:
    """Path of the module whose method a frame runs; "" when it is none of a prepared model's."""
    owner = frame.f_locals.get("self")
    return str(getattr(owner, "bpu_path", "")) if isinstance(owner, nn.Module) else ""


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Let operators create their quantizers and note what they read and make in `recorder`."""
    before, scope.recorder = scope.recorder, recorder
    frames, scope.frames = scope.frames, []
    try:
        yield recorder
    finally:
        scope.recorder, scope.frames = before, frames


@contextmanager
def standing_in(module: nn.Module) -> Iterator[None]:
    """Stand in `module` where its forward is called without its hooks, as torch.fx does with the root."""
    scope.frames.append(Frame(module, ""))
    try:
        yield
    finally:
        scope.frames.pop()


@contextmanager
def owned_by(module: nn.Module) -> Iterator[None]:
    """Let an operator that is traced symbolically belong to `module`."""
    before, scope.owner = scope.owner, module
    try:
        yield
    finally:
        scope.owner = before


@contextmanager
def stripping(stripped: Stripped) -> Iterator[None]:
    """Let the stubs tell where the model begins and ends."""
    before, scope.stripped = scope.stripped, stripped
    try:
        yield
    finally:
        scope.stripped = before


@contextmanager
def exporting() -> Iterator[None]:
    """Let fake quantization show itself as one operator to the exporter."""
    before, scope.exporting = scope.exporting, True
    frames, scope.frames = scope.frames, []  # a trace that fails leaves its own behind
    try:
        yield
    finally:
        scope.exporting, scope.frames = before, frames
