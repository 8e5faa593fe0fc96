"""Ctrl-C, SIGTERM and a closed terminal: one line and an exit code, wherever they come.

Imports nothing but what Python has loaded anyway, so that it can be in place before everything else.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143
HUNG_UP = 129

_IMPORTING = "<frozen importlib"
_SHOW_CURSOR = "\x1b[?25h"


def catch_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP unwind the stack, so that half-written files go; imports end at once.

    An exception in the middle of an import can crash an extension module that is half initialised, is
    swallowed by packages that try one import after another, and leaves a class body as another error.
    Nothing is half-written then. A SIGINT or SIGHUP that the parent process ignores (nohup) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
    signal.signal(signal.SIGTERM, _on_terminate)
    hung_up = getattr(signal, "SIGHUP", None)  # not on Windows
    if hung_up is not None and signal.getsignal(hung_up) is signal.SIG_DFL:
        signal.signal(hung_up, _on_hang_up)


def _on_interrupt(_number: int, frame: FrameType | None) -> NoReturn:
    if _imports(frame):
        _end(INTERRUPTED)
    raise KeyboardInterrupt


def _on_terminate(_number: int, frame: FrameType | None) -> NoReturn:
    if _imports(frame):
        _end(TERMINATED)
    sys.exit(TERMINATED)


def _on_hang_up(_number: int, frame: FrameType | None) -> NoReturn:
    if _imports(frame):
        _end(HUNG_UP)
    sys.exit(HUNG_UP)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported somewhere below this frame."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False


def _end(code: int) -> NoReturn:
    """End the process here, whatever it is in the middle of."""
    stderr = sys.stderr
    if stderr is not None:
        shown = _SHOW_CURSOR if stderr.isatty() else ""  # a progress bar may have hidden it
        said = "openbpu: interrupted\n" if code == INTERRUPTED else ""
        os.write(stderr.fileno(), (shown + said).encode())
    os._exit(code)
