"""Networks of BPU operators made by hand: chains, skips, concats, splits and views, to schedule as a
whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from openbpu.arch.numerics import exp_table
from openbpu.arch.program import (
    Binary,
    Concat,
    Conv,
    Lut,
    Move,
    Operator,
    Pad,
    Pool,
    Program,
    Reduce,
    Softmax,
    Space,
)
from simulator.build import Build, aligned

Shape = tuple[int, ...]


def dense(shape: Shape) -> Shape:
    """Row-major strides in elements."""
    return tuple(int(np.prod(shape[d + 1 :])) for d in range(len(shape)))


@dataclass
class Net:
    """Adds NHWC operators with random weights; tensors get no address, so the scheduler places them."""

    seed: int = 0
    b: Build = field(default_factory=Build)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def shape(self, tensor: int) -> Shape:
        return self.b.tensors[tensor].shape

    def tensor(self, shape: Shape) -> int:
        made = self.b.tensor(shape)
        self.b.tensors[made] = replace(self.b.tensors[made], address=-1)
        self.b.ddr_bytes -= aligned(self.b.tensors[made].nbytes)
        return made

    def add(self, kind: type[Operator], inputs: Sequence[int], y_shape: Shape, /, **fields: object) -> int:
        y = self.tensor(y_shape)
        self.b.add(kind(inputs=tuple(inputs), outputs=(y,), **fields))  # type: ignore[arg-type]
        return y

    def conv(
        self,
        x: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        residual: int = -1,
        table: bool = False,
    ) -> int:
        n, h, w, cin = self.shape(x)
        pad = kernel // 2
        shape = (n, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1, channels)
        size = (channels, kernel, kernel, cin // groups)
        params = np.stack(
            [
                self.rng.integers(-500, 500, channels),
                self.rng.integers(2**21, 2**23, channels),
                np.zeros(channels),
                np.full(channels, 30),
            ],
            axis=1,
        ).astype(np.int32)
        return self.add(
            Conv,
            (x,) if residual < 0 else (x, residual),
            shape,
            weight_id=self.b.const(self.rng.integers(-99, 99, size, dtype=np.int8)),
            params_id=self.b.const(params),
            rmult_id=-1 if residual < 0 else self.b.const(np.full(channels, 2**29)),
            table_id=self.table() if table else -1,
            x_shape=(n, h, w, cin),
            y_shape=shape,
            kernel=(kernel, kernel),
            strides=(stride, stride),
            pads=(pad,) * 4,
            groups=groups,
        )

    def table(self) -> int:
        return self.b.const(self.rng.integers(-128, 128, 256).astype(np.int8))

    def pool(self, x: int, kernel: int = 3, stride: int = 1) -> int:
        n, h, w, c = self.shape(x)
        pad = kernel // 2
        shape = (n, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1, c)
        counts = np.stack([np.full(kernel**2 + 1, 2**20), np.full(kernel**2 + 1, 20)], axis=1)
        return self.add(
            Pool,
            (x,),
            shape,
            counts_id=self.b.const(counts.astype(np.int64)),
            fn="max",
            x_shape=(n, h, w, c),
            y_shape=shape,
            kernel=(kernel, kernel),
            strides=(stride, stride),
            pads=(pad,) * 4,
        )

    def mean(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        return self.add(Reduce, (x,), (n, c), fn="sum", shape=(n, h * w, c), mult=2**20, shift=24)

    def sum(self, a: int, b: int) -> int:
        shape = self.shape(a)
        return self.add(
            Binary,
            (a, b),
            shape,
            fn="add",
            shape=shape,
            a_strides=dense(shape),
            b_strides=dense(shape),
            mult_a=2**20,
            mult_b=2**20,
            shift=21,
        )

    def lut(self, x: int) -> int:
        return self.add(Lut, (x,), self.shape(x), table_id=self.table())

    def concat(self, parts: Sequence[int], *, axis: int = 3, mults: Sequence[int] = ()) -> int:
        shapes = [self.shape(p) for p in parts]
        whole = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
        return self.add(
            Concat,
            parts,
            whole,
            outer=int(np.prod(whole[:axis])),
            sizes=tuple(int(np.prod(s[axis:])) for s in shapes),
            x_zeros=(1,) * len(parts),
            mults=tuple(mults) or (0,) * len(parts),
            shifts=(20,) * len(parts),
        )

    def slice(self, x: int, low: int, high: int, axis: int = 3) -> int:
        shape, strides = self.shape(x), dense(self.shape(x))
        cut = (*shape[:axis], high - low, *shape[axis + 1 :])
        return self.add(Move, (x,), cut, shape=cut, strides=strides, offset=low * strides[axis])

    def transpose(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        return self.add(Move, (x,), (n, w, h, c), shape=(n, w, h, c), strides=(h * w * c, c, w * c, 1))

    def enlarge(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        strides = (h * w * c, w * c, 0, c, 0, 1)
        return self.add(Move, (x,), (n, 2 * h, 2 * w, c), shape=(n, h, 2, w, 2, c), strides=strides)

    def pad(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        return self.add(
            Pad, (x,), (n, h + 3, w, c), shape=(n, h, w, c), before=(0, 1, 0, 0), after=(0, 2, 0, 0), value=7
        )

    def softmax(self, x: int) -> int:
        shape = self.shape(x)
        return self.add(
            Softmax,
            (x,),
            shape,
            exp_id=self.b.const(exp_table()),
            shape=(int(np.prod(shape[:-1])), shape[-1]),
            mult=2**20,
            shift=9,
            out_mult=255,
            out_shift=31,
            zero=-128,
        )

    def root(self, tensor: int) -> int:
        while self.b.tensors[tensor].space is Space.VIEW:
            tensor = self.b.tensors[tensor].address
        return tensor

    def program(self, outputs: Sequence[int]) -> Program:
        """The program; outputs get addresses, as the compiler gives them."""
        for root in dict.fromkeys(self.root(t) for t in outputs):
            tensor = self.b.tensors[root]
            if tensor.address < 0:
                self.b.tensors[root] = replace(tensor, address=self.b.ddr_bytes)
                self.b.ddr_bytes += aligned(tensor.nbytes)
        return self.b.program(tuple(dict.fromkeys(outputs)))


def _like(net: Net, pool: list[int], x: int, first: int, last: int) -> int:
    same = [t for t in pool if net.shape(t)[first:last] == net.shape(x)[first:last]]
    return int(net.rng.choice(same))


def _concat(net: Net, pool: list[int], x: int) -> int:
    axis = int(net.rng.choice([3, 3, 1]))
    first, last = (0, 3) if axis == 3 else (1, 4)
    parts = [_like(net, pool, x, first, last) for _ in range(int(net.rng.integers(1, 5)))]
    mults = [int(net.rng.choice([0, 0, 2**20])) for _ in parts]
    return net.concat(parts, axis=axis, mults=mults)


def _split(net: Net, pool: list[int], x: int) -> int:
    c = net.shape(x)[3]
    if c < 2:
        return net.lut(x)
    left, right = net.slice(x, 0, c // 2), net.slice(x, c // 2, c)
    pool += [left, right, net.conv(right, c)]
    return net.concat(pool[-3:])


def _slice(net: Net, _: list[int], x: int) -> int:
    axis = int(net.rng.choice([1, 2, 3, 3]))
    n = net.shape(x)[axis]
    low = int(net.rng.integers(0, n))
    return net.slice(x, low, int(net.rng.integers(low, n)) + 1, axis)


def _conv(net: Net, _: list[int], x: int) -> int:
    stride = 2 if min(net.shape(x)[1:3]) > 4 and net.rng.random() < 0.3 else 1
    kernel, channels = int(net.rng.choice([1, 3])), int(net.rng.choice([4, 8, 16, 24]))
    return net.conv(x, channels, kernel, stride, table=bool(net.rng.random() < 0.4))


STEPS: tuple[Callable[[Net, list[int], int], int], ...] = (
    _conv,
    _conv,
    _concat,
    _split,
    _slice,
    lambda net, _, x: net.conv(net.conv(x, 8), net.shape(x)[3], 1, residual=x),
    lambda net, _, x: net.conv(x, net.shape(x)[3], groups=net.shape(x)[3]),
    lambda net, pool, x: net.sum(x, _like(net, pool, x, 0, 4)),
    lambda net, _, x: net.pool(x),
    lambda net, _, x: net.lut(x),
    lambda net, _, x: net.transpose(x),
    lambda net, _, x: net.enlarge(x) if np.prod(net.shape(x)) < 4000 else net.lut(x),
    lambda net, _, x: net.pad(x),
    lambda net, _, x: net.softmax(x),
    lambda net, _, x: net.b.view(x, (1, net.shape(x)[2], net.shape(x)[1], net.shape(x)[3])),
)


def random_net(seed: int) -> Program:
    """A network of 2 to 13 random steps on one or two inputs, with one to four outputs (views among them)."""
    net = Net(seed)
    rng = net.rng
    h, w = (int(v) for v in rng.integers(4, 17, 2))
    pool = [net.b.input((1, h, w, int(rng.choice([3, 8, 16]))))]
    if rng.random() < 0.3:
        pool.append(net.b.input((1, h, w, 16)))
    given = len(pool)
    for _ in range(int(rng.integers(2, 14))):
        x = pool[int(rng.integers(max(0, len(pool) - 4), len(pool)))]
        pool.append(STEPS[int(rng.integers(len(STEPS)))](net, pool, x))
    made = [t for t in pool[given:] if net.root(t) not in pool[:given]] or [net.lut(pool[0])]
    outputs = [made[-1], *(int(t) for t in rng.choice(made, int(rng.integers(0, 3))))]
    return net.program(outputs)
