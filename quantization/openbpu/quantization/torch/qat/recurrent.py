"""LSTM, GRU and plain recurrent layers, step by step, out of products, gates and tables.

    gates = W·x + b + U·h + c        LSTM: c' = f·c + i·g, h' = o·tanh(c')
                                     GRU:  n = tanh(Wn·x + bn + r·(Un·h + cn)), h' = n + z·(h − n)

Every step computes with the same modules, so the steps share scales, as they share weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.bound import LinearForm
from openbpu.quantization.torch.qat.constant import ConstantForm
from openbpu.quantization.torch.qat.decomposed import Decomposed
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.scope import here, scope

State = tuple[Any, ...]
"""(h,) or (h, c), QTensors; empty is a state of zeros."""


class RecurrentStep(Decomposed):
    """One direction of one layer: a step from an input and a state to the next state."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.build(kind)

    def build(self, kind: str) -> None:
        """Make the parts."""
        self.kind = kind
        self.ih, self.hh = LinearForm.of(None, None), LinearForm.of(None, None)
        for name in _PARTS[kind]:
            setattr(self, name, FloatFunctional())
        for name in _CONSTANT:
            setattr(self, name, ConstantForm())

    def last(self) -> nn.Module:
        """What makes h."""
        found: nn.Module = getattr(self, _PARTS[self.kind][-1])
        return found

    def inputs(self, x: Any, weights: tuple[Any, ...]) -> Any:
        """W·x + b, of all steps at once."""
        return self.ih.bound(x, weights[0], weights[2])

    def step(self, given: Any, state: State, weights: tuple[Any, ...]) -> State:
        """The next state."""
        hidden = self.hh.bound(state[0], weights[1], weights[3]) if state else weights[3]  # of a state of 0
        compute = {"LSTM": self._lstm, "GRU": self._gru}.get(self.kind, self._plain)
        return compute(given, hidden, state)

    def _sum(self, part: str, given: Any, hidden: Any) -> Any:
        """Given + hidden; without a state the latter is a bias, or nothing."""
        if hidden is None:
            return given
        return getattr(self, part if isinstance(hidden, QTensor) else "bias").add(given, hidden)

    def _lstm(self, given: Any, hidden: Any, state: State) -> State:
        parts: Any = self
        i, f, g, o = self._sum("gates", given, hidden).chunk(4, -1)
        new = parts.new.mul(parts.input.sigmoid(i), parts.cell.tanh(g))
        if state:
            new = parts.sum.add(parts.kept.mul(parts.forget.sigmoid(f), state[1]), new)
        return parts.out.mul(parts.output.sigmoid(o), parts.squash.tanh(new)), new

    def _gru(self, given: Any, hidden: Any, state: State) -> State:
        parts: Any = self
        size = given.shape[-1] // 3
        first, n = given.split((2 * size, size), -1)
        both, m = (None, None) if hidden is None else hidden.split((2 * size, size), -1)
        r, z = parts.gates.sigmoid(self._sum("sum", first, both)).chunk(2, -1)
        if m is not None:
            reset = parts.reset if isinstance(m, QTensor) else parts.bias_reset
            n = parts.inner.add(n, reset.mul(r, m))
        new = parts.new.tanh(n)
        held = parts.difference.sub(state[0], new) if state else parts.negative.neg(new)
        return (parts.out.add(new, parts.kept.mul(z, held)),)

    def _plain(self, given: Any, hidden: Any, state: State) -> State:
        del state
        function = "relu" if self.kind == "RNN_RELU" else "tanh"
        return (getattr(self.out, function)(self._sum("gates", given, hidden)),)


_PARTS = {
    "LSTM": ("gates", "input", "forget", "cell", "output", "new", "kept", "sum", "squash", "out"),
    "GRU": ("sum", "gates", "reset", "inner", "new", "difference", "negative", "kept", "out"),
    "RNN_TANH": ("gates", "out"),
    "RNN_RELU": ("gates", "out"),
}
"""Kind → the operators of a step; the last one makes h."""

_CONSTANT = ("bias", "bias_reset")
"""What takes the place of two of them where the state is 0, so that U·h + c is the constant c."""


def _states(given: Any, count: int) -> list[State]:
    """The states [layers · directions, N, H] that a caller gave, one for each; empty where they are zeros."""
    parts = given if isinstance(given, tuple) else () if given is None else (given,)
    for part in parts:
        if not isinstance(part, QTensor) and not scope.exporting and (_varies(part) or bool(part.any())):
            raise PrepareError(
                f"{here()}: a recurrent layer's state must be quantized, not a plain tensor; put a QuantStub "
                "in front of it (a state of zeros is left out)"
            )
    if not parts or not all(isinstance(part, QTensor) for part in parts):
        return [()] * count
    return [tuple(part[i] for part in parts) for i in range(count)]


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _varies(part: torch.Tensor) -> bool:
    return scope.varies is not None and scope.varies(part)


class Recurrent(Decomposed):
    """Mixed in before nn.LSTM, nn.GRU and nn.RNN: layers, directions, and steps along time."""

    mode: str
    num_layers: int
    bidirectional: bool
    batch_first: bool
    proj_size: int

    def decompose(self) -> None:
        """Make the parts; called once when the float class becomes this one."""
        if self.proj_size:
            raise PrepareError(f"{type(self).__name__}: proj_size must be 0, not {self.proj_size}")
        for name in self._names():
            self.add_module(name, RecurrentStep(self.mode))
            self.add_module(name.replace("step", "rows"), FloatFunctional())
        for layer in range(self.num_layers):
            if self.bidirectional:
                self.add_module(f"sides{layer}", FloatFunctional())
        self.h_n, self.c_n = FloatFunctional(), FloatFunctional()

    def _names(self) -> list[str]:
        ways = ("", "_reverse") if self.bidirectional else ("",)
        return [f"step_l{layer}{way}" for layer in range(self.num_layers) for way in ways]

    def last(self) -> nn.Module:
        """What joins the last layer's rows, or its directions."""
        kind = "sides" if self.bidirectional else "rows_l"
        found: nn.Module = getattr(self, f"{kind}{self.num_layers - 1}")
        return found

    def part_dtype(self, part: nn.Module) -> Any:
        """Rows of every layer and all that a step says of its own parts follow the qconfig or the step."""
        steps = [self._modules[name] for name in self._names()]
        inside = next((s for s in steps if any(m is part for m in s.modules())), None)
        return inside.part_dtype(part) if isinstance(inside, RecurrentStep) and inside is not part else None

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - torch's own name
        """Return (rows, state), as torch does."""
        if not isinstance(input, QTensor):
            return super().forward(input, hx)
        alone = input.ndim == 2
        x = input.unsqueeze(1) if alone else input.transpose(0, 1) if self.batch_first else input
        if alone and hx is not None:
            hx = tuple(h.unsqueeze(1) for h in hx) if isinstance(hx, tuple) else hx.unsqueeze(1)
        names = self._names()
        begins, ends = _states(hx, len(names)), list[State]()
        ways = len(names) // self.num_layers
        for layer in range(self.num_layers):
            sides = []
            for way in range(ways):
                index = layer * ways + way
                rows, end = self._along(x, names[index], begins[index], backwards=way == 1)
                sides.append(getattr(self, names[index].replace("step", "rows")).cat(rows, 0))
                ends.append(end)
            x = getattr(self, f"sides{layer}").cat(sides, -1) if ways == 2 else sides[0]
        state = tuple(
            self._stacked(f"{n}_n", [e[i] for e in ends]) for i, n in enumerate("hc"[: len(ends[0])])
        )
        if alone:
            x, state = x.squeeze(1), tuple(s.squeeze(1) for s in state)
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, state if self.mode == "LSTM" else state[0]

    def _along(self, x: Any, name: str, state: State, *, backwards: bool) -> tuple[list[Any], State]:
        """(every h as [1, N, H], the last state)."""
        module: Any = self._modules[name]
        end = name.removeprefix("step_")
        weights = tuple(getattr(self, f"{w}_{end}", None) for w in _WEIGHTS)
        given = module.inputs(x, weights)
        rows: list[Any] = []
        times = range(x.shape[0])
        for t in reversed(times) if backwards else times:
            state = module.step(given[t], state, weights)
            rows.append(state[0].unsqueeze(0))
        return (rows[::-1] if backwards else rows), state

    def _stacked(self, name: str, states: list[Any]) -> Any:
        parts = [s.unsqueeze(0) for s in states]
        return parts[0] if len(parts) == 1 else getattr(self, name).cat(parts, 0)


class RecurrentCell(RecurrentStep):
    """Mixed in before nn.LSTMCell, nn.GRUCell and nn.RNNCell: one step."""

    weight_ih: torch.Tensor
    weight_hh: torch.Tensor
    bias_ih: torch.Tensor | None
    bias_hh: torch.Tensor | None

    def decompose(self) -> None:
        """Make the parts; called once when the float class becomes this one."""
        kind = type(self).__name__.removesuffix("Cell")
        self.build(f"RNN_{self.nonlinearity.upper()}" if kind == "RNN" else kind)

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - torch's own name
        """Return the next state: h, or (h, c)."""
        if not isinstance(input, QTensor):
            return super().forward(input, hx)
        weights = tuple(getattr(self, name) for name in _WEIGHTS)
        parts = hx if isinstance(hx, tuple) or hx is None else (hx,)
        begins = _states(None if parts is None else tuple(p.unsqueeze(0) for p in parts), 1)
        state = self.step(self.inputs(input, weights), begins[0], weights)
        return state if self.kind == "LSTM" else state[0]


def _mixed(name: str, base: type) -> type:
    made = type(name, (base, getattr(nn, name)), {"__doc__": f"nn.{name}, step by step."})
    made.__module__ = __name__
    return made


RECURRENT: dict[type, type] = {
    getattr(nn, name): _mixed(name, Recurrent if not name.endswith("Cell") else RecurrentCell)
    for name in ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell")
}
globals().update({cls.__name__: cls for cls in RECURRENT.values()})  # so that pickle finds them
