"""Names of the PyTorch plugin that need nothing but what is there: a march for a while, scales handed on."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openbpu.arch.errors import MarchError, QuantizationError, must

__all__ = ["Tracer", "get_hbir_input_flattener", "load_observer_params", "pre_export", "with_march", "wrap"]

_TORCH = "openbpu.quantization.torch"


@contextlib.contextmanager
def with_march(march: Any) -> Iterator[None]:
    """Choose a march inside a `with` block or a decorated function; afterwards the one before is back."""
    chosen: Any = importlib.import_module(f"{_TORCH}.march")
    try:
        before = chosen.get_march()
    except MarchError:
        before = None
    chosen.set_march(march)
    try:
        yield
    finally:
        if before is not None:
            chosen.set_march(before)


def load_observer_params(source: Any, target: Any, verbose: bool = False) -> None:
    """Give the quantizers of a prepared model the scales of those at the same paths in another one.

    Raises QuantizationError where no path is in both, or shapes of scales differ.
    """
    del verbose
    kind = importlib.import_module(_TORCH).FakeQuantize
    given = {n: m for n, m in source.named_modules() if isinstance(m, kind)}
    taking = {n: m for n, m in target.named_modules() if isinstance(m, kind)}
    both = [name for name in taking if name in given]
    if not both:
        fix = "prepare both from one model"
        raise QuantizationError(must("load_observer_params", "the models", "of one structure", "apart", fix))
    for name in both:
        _hand_over(name, given[name], taking[name])


def _hand_over(name: str, given: Any, taking: Any) -> None:
    try:
        taking.load_state_dict(given.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise QuantizationError(
            must(f"load_observer_params: '{name}'", "the quantizer", "as in the source", f"({reason})")
        ) from error


def pre_export(model: Any, example_inputs: Any = None, **ignored: Any) -> Any:
    """Return the model: what the vendor does here is part of `export`."""
    del example_inputs, ignored
    return model


def get_hbir_input_flattener(module: Any = None) -> Callable[..., tuple[Any, ...]]:
    """Return a function of a model's arguments: every leaf of their lists, tuples and dicts, in order."""
    del module
    return lambda *arguments: tuple(_leaves(arguments))


def _leaves(value: Any) -> Iterator[Any]:
    inner: Sequence[Any] | None = None
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = value
    if inner is None:
        yield value
        return
    for part in inner:
        yield from _leaves(part)


def wrap(function: Any = None, **options: Any) -> Any:
    """Return the function as it is, with arguments or without: code is followed by running it."""
    del options
    return function if function is not None else lambda inner: inner


class Tracer:
    """What marks parts of a forward that differ from run to run; `prepare` records a run as it is."""

    @staticmethod
    @contextlib.contextmanager
    def dynamic_block(*_: Any, **__: Any) -> Iterator[None]:
        """Change nothing about what stands inside."""
        yield
