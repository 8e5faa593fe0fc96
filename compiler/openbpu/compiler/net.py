"""The last net under the compiler: what nobody expected becomes one error, with its cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openbpu.arch.errors import CompileError, InternalError, OpenbpuError, must

Progress = Callable[[str, float], None]


class _PassThroughError(Exception):
    """Carries what a caller's own function raised past the net, as its cause."""


@contextmanager
def caught(where: str) -> Iterator[None]:
    """Raise InternalError for every exception that is none of openbpu's and not from `telling`.

    Running out of memory is no bug: it raises CompileError.
    """
    try:
        yield
    except OpenbpuError:
        raise
    except _PassThroughError as carried:
        raise (carried.__cause__ or carried) from None
    except MemoryError as error:
        fix = "close other programs, or split the model"
        raise CompileError(must(where, "the memory it needs", "there", "(out of memory)", fix)) from error
    except Exception as error:
        raise InternalError(where, error) from error


def telling(progress: Progress | None) -> Progress:
    """Return a `progress` whose exceptions the net lets through: they are the caller's."""

    def tell(stage: str, share: float) -> None:
        try:
            if progress is not None:
                progress(stage, share)
        except Exception as error:
            raise _PassThroughError from error

    return tell
