"""Errors of openbpu: every message says where, what, what is allowed, what was found and what to do.

Names in a message come from models and files of strangers: what could steer a terminal is written out.
"""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with all that no line shows written out, as Python does: `\x1b`, `\n`, `\u202e`.

    That is control characters (C0, C1), marks that turn the direction of writing, and odd blanks; but for
    those in `keep`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


class OpenbpuError(Exception):
    """Base of every error that a user can cause; the command line prints it without a traceback."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ModelError(OpenbpuError):
    """The ONNX model is damaged or holds something that has no meaning here."""


class QuantizationError(OpenbpuError):
    """A scale, zero point or quantized dtype is missing or illegal."""


class MarchError(OpenbpuError):
    """A march is unknown, its file is wrong, or it cannot do what was asked."""


class CompileError(OpenbpuError):
    """A legal model cannot be compiled with these options."""


class InternalError(OpenbpuError):
    """openbpu failed on a model that it should have worked on or refused; the cause is the failure."""

    def __init__(self, where: str, error: BaseException) -> None:
        said = " ".join(str(error).split())
        found = f"{type(error).__name__}: {said}" if said else type(error).__name__
        fix = "this is a bug of openbpu, please report it with the model"
        super().__init__(f"{where}: openbpu does not get through ({found}); {fix}")


class OptionError(CompileError):
    """An option of `compile` has a value that it cannot have.

    option: its name in Python · told: what it must be and what to do, without the name; the command line puts
    its own name of the option in front.
    """

    def __init__(self, option: str, allowed: str, actual: object, fix: str) -> None:
        self.option, self.told = option, f"must be {allowed}, not {actual!r}; {fix}"
        super().__init__(f"compile: {option} {self.told}")


class HbmError(OpenbpuError):
    """A `.hbm` file is damaged, truncated, newer than this package or not a `.hbm` at all."""


class InputError(OpenbpuError):
    """An input given to a session or a command has the wrong name, shape, dtype or values."""


class SimulationError(OpenbpuError):
    """The program did something the hardware could not: this is a bug in the compiler or a forged file."""


def reworded(error: OpenbpuError, message: str) -> OpenbpuError:
    """Return an error of the same class with another message, whatever else its class takes."""
    made = type(error).__new__(type(error))
    Exception.__init__(made, printable(message))
    return made


def must(where: str, what: str, allowed: object, actual: object, fix: str = "") -> str:
    """Return `<where>: <what> must be <allowed>, not <actual>` and, after it, what to do."""
    text = f"{where}: {what} must be {allowed}, not {actual}"
    return f"{text}; {fix}" if fix else text


def span(low: float, high: float) -> str:
    """Return a range as messages write it: `0..100`, and the number itself where it is the only one."""
    return f"{low}" if low == high else f"{low}..{high}"
