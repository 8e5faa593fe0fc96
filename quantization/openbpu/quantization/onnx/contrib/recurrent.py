"""LSTM, GRU and RNN over a sequence of known length, step by step.

    X·W + b for all steps at once; then per step and direction:  gates = X·W[t] + h·R  →  the next h (and c)

A step is a product, tables and a few products element by element: all of it the BPU's, each with a scale of
its own. Longer sequences than MOST steps stay with ONNX Runtime, as one operator: written out, each of their
steps is ten operators that wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.contrib.writer import KeptError, Writer

MOST = 64
"""Steps that are written out, those of both directions counted."""

_FUNCTIONS = frozenset({"Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"})
"""Activations that are operators without parameters."""

_SIDES = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction: R turned [H, gates·H], b of h [gates·H], the functions of its gates; H."""

    recurrent: Array
    bias: Array
    functions: tuple[str, ...]
    size: int


_State = tuple[str, ...]
"""h, and the c of an LSTM, [1, B, H]; "" is 0."""
_Step = Callable[[Writer, _Cell, str, _State], _State]


def lstm(w: Writer) -> list[str]:
    """X, W, R, b, lengths, h, c, peepholes → Y, the last h, the last c"""
    if w.attr("input_forget", 0) or w.given(7):
        raise KeptError("its forget gate is its input gate (input_forget), or it has peepholes")
    return _unrolled(w, 4, ("Sigmoid", "Tanh", "Tanh"), _lstm_step, states=2)


def gru(w: Writer) -> list[str]:
    """X, W, R, b, lengths, h → Y, the last h"""
    step = _gru_step if w.attr("linear_before_reset", 0) else _reset_first_step
    return _unrolled(w, 3, ("Sigmoid", "Tanh"), step, states=1)


def rnn(w: Writer) -> list[str]:
    """X, W, R, b, lengths, h → Y, the last h"""
    return _unrolled(w, 1, ("Tanh",), _rnn_step, states=1)


def _unrolled(w: Writer, gates: int, functions: tuple[str, ...], step: _Step, *, states: int) -> list[str]:
    w.need(0, 1, 2)
    sides = _SIDES[_text(w.attr("direction", "forward"))]
    batch_first, x = bool(w.attr("layout", 0)), w.given(0)
    steps = _length(w, batch_first, len(sides))
    x = w.op("Transpose", x, perm=[1, 0, 2]) if batch_first else x
    rows, lasts = [], []
    for side, backwards in enumerate(sides):
        cell, inputs, first = _cell(w, gates, functions, side, own=step is _gru_step)
        product = w.op("Add", w.op("MatMul", x, w.const(inputs)), w.const(first))
        state = tuple(_given_state(w, position, side, batch_first) for position in (5, 6)[:states])
        made = [""] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            state = step(w, cell, w.cut(product, (t, t + 1), 0), state)
            made[t] = state[0]
        rows.append(made)
        lasts.append(state)
    return _results(w, rows, lasts, batch_first=batch_first)


def _results(w: Writer, rows: list[list[str]], lasts: list[_State], *, batch_first: bool) -> list[str]:
    """Y of [T, D, B, H] (or [B, T, D, H]), and the last states of [D, B, H] (or [B, D, H])."""
    y = ""
    if w.wants(0):
        sides = [w.unsqueeze(_joined(w, made), 1) for made in rows]
        y = sides[0] if len(sides) == 1 else w.op("Concat", *sides, axis=1)
        y = w.op("Transpose", y, perm=[2, 0, 1, 3]) if batch_first else y
    ends = []
    for place, names in enumerate(zip(*lasts, strict=True), 1):
        end = _joined(w, list(names)) if w.wants(place) else ""
        ends.append(w.op("Transpose", end, perm=[1, 0, 2]) if end and batch_first else end)
    return [y, *ends]


def _joined(w: Writer, names: list[str]) -> str:
    return names[0] if len(names) == 1 else w.op("Concat", *names, axis=0)


def _length(w: Writer, batch_first: bool, sides: int) -> int:
    """The number of steps; raises KeptError where it is not known, or too large."""
    shape = w.shape(w.given(0))
    steps = shape[1 if batch_first else 0] if shape is not None and len(shape) == 3 else None
    if not isinstance(steps, int) or steps < 1:
        raise KeptError("the length of its sequence is not fixed")
    lengths = w.value(w.given(4)) if w.given(4) else None
    if w.given(4) and (lengths is None or (lengths != steps).any()):
        raise KeptError("its sequences have lengths of their own")
    if steps * sides > MOST:
        raise KeptError(f"its {steps * sides} steps, written out, are more than {MOST}")
    if w.attr("clip", 0.0):
        raise KeptError("it clips what goes into its gates")
    return steps


def _cell(
    w: Writer, gates: int, functions: tuple[str, ...], side: int, *, own: bool
) -> tuple[_Cell, Array, Array]:
    """One direction's cell, W turned, the bias of X·W; `own`: the last gate of h has a bias of its own."""
    weights, recurrent = (w.value(w.given(position)) for position in (1, 2))
    bias = w.value(w.given(3)) if w.given(3) else None
    if weights is None or recurrent is None or (w.given(3) and bias is None):
        raise KeptError("its weights are computed")
    size = recurrent.shape[-1]
    both = np.zeros((2, gates * size), np.float32) if bias is None else bias[side].reshape(2, gates * size)
    kept = np.zeros(gates * size, np.float32)
    if own:
        kept[-size:] = both[1, -size:]
    turned = np.ascontiguousarray(recurrent[side].T)
    chosen = _activations(w, functions, side)
    return _Cell(turned, kept, chosen, size), np.ascontiguousarray(weights[side].T), both.sum(axis=0) - kept


def _activations(w: Writer, functions: tuple[str, ...], side: int) -> tuple[str, ...]:
    named = [_text(name).capitalize() for name in w.attr("activations", [])]
    found = tuple(named[side * len(functions) :][: len(functions)]) if named else functions
    if len(found) != len(functions) or not set(found) <= _FUNCTIONS:
        raise KeptError(f"its gates use {', '.join(named)}")
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _given_state(w: Writer, position: int, side: int, batch_first: bool) -> str:
    """A state before the first step, [1, B, H]; "" where it is 0."""
    name = w.given(position)
    array = w.value(name) if name else None
    if not name or (array is not None and not array.any()):
        return ""
    cut = w.cut(name, (side, side + 1), 1 if batch_first else 0)
    return w.op("Transpose", cut, perm=[1, 0, 2]) if batch_first else cut


# --- one step -----------------------------------------------------------------------------------------------


def _lstm_step(w: Writer, cell: _Cell, x: str, state: _State) -> _State:
    """Gates i, o, f, c."""
    (h, c), size = state, cell.size
    gates = _plus(w, x, h, cell.recurrent)
    first, middle, last = cell.functions
    opened = w.op(first, w.cut(gates, (0, 3 * size), 2))
    i, o, f = (w.cut(opened, (k * size, (k + 1) * size), 2) for k in range(3))
    new = w.op("Mul", i, w.op(middle, w.cut(gates, (3 * size, 4 * size), 2)))
    new = w.op("Add", w.op("Mul", f, c), new) if c else new
    return w.op("Mul", o, w.op(last, new)), new


def _rnn_step(w: Writer, cell: _Cell, x: str, state: _State) -> _State:
    return (w.op(cell.functions[0], _plus(w, x, state[0], cell.recurrent)),)


def _gru_step(w: Writer, cell: _Cell, x: str, state: _State) -> _State:
    """Gates z, r, h; the product with h is reset, not h: what torch has."""
    (h,), size = state, cell.size
    z, r = _opened(w, cell, x, h)
    bias = cell.bias[-size:]
    inner = w.op("MatMul", h, w.const(np.ascontiguousarray(cell.recurrent[:, -size:]))) if h else ""
    if bias.any():
        inner = w.op("Add", inner, w.const(bias)) if inner else w.const(bias.reshape(1, 1, -1))
    new = w.cut(x, (2 * size, 3 * size), 2)
    new = w.op("Add", new, w.op("Mul", r, inner)) if inner else new
    return _mixed(w, z, w.op(cell.functions[1], new), h)


def _reset_first_step(w: Writer, cell: _Cell, x: str, state: _State) -> _State:
    """Gates z, r, h; h is reset in front of its product."""
    (h,), size = state, cell.size
    z, r = _opened(w, cell, x, h)
    reset = w.op("Mul", r, h) if h else ""
    new = _plus(w, w.cut(x, (2 * size, 3 * size), 2), reset, cell.recurrent[:, -size:])
    return _mixed(w, z, w.op(cell.functions[1], new), h)


def _opened(w: Writer, cell: _Cell, x: str, h: str) -> tuple[str, str]:
    """The gates z and r of a GRU."""
    size = cell.size
    both = _plus(w, w.cut(x, (0, 2 * size), 2), h, cell.recurrent[:, : 2 * size])
    opened = w.op(cell.functions[0], both)
    return w.cut(opened, (0, size), 2), w.cut(opened, (size, 2 * size), 2)


def _mixed(w: Writer, z: str, new: str, h: str) -> _State:
    """(1 − z)·new + z·h"""
    if not h:
        return (w.op("Mul", w.op("Sub", w.number(1.0), z), new),)
    return (w.op("Add", new, w.op("Mul", z, w.op("Sub", h, new))),)


def _plus(w: Writer, x: str, h: str, recurrent: Array) -> str:
    """X + h·R; x where h is 0."""
    if not h:
        return x
    return w.op("Add", w.op("MatMul", h, w.const(np.ascontiguousarray(recurrent))), x)
