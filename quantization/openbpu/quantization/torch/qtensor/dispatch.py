"""What happens when a torch function meets a QTensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from openbpu.arch.onnx_ops import only_moves
from openbpu.quantization.torch.errors import PrepareError, QTensorError
from openbpu.quantization.torch.qtensor.names import (
    COMPARISONS,
    COMPUTES,
    MOVES,
    QUERIES,
    REFLECTED,
    TABLED,
    name_of,
)
from openbpu.quantization.torch.qtensor.tensor import QTensor, answers_functions, qtensors, unwrap
from openbpu.quantization.torch.rounding import fake_quantize
from openbpu.quantization.torch.scope import here, scope

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Maker = Callable[[str, Args, Kwargs], Any]

_makers: list[Maker] = []


def makes_modules(maker: Maker) -> Maker:
    """Make `maker(name, args, kwargs)` what gives a function met while recording its module; a decorator.

    The modules stand above: they are built of FloatFunctionals, which compute with QTensors.
    """
    _makers.append(maker)
    return maker


@answers_functions
def dispatch(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Run `func` on plain data and wrap the result as its kind of operator asks; raises QTensorError."""
    name = name_of(func)
    if name in {"to", "type", "float", "half", "double", "int", "short", "long", "char", "byte", "bool"}:
        return _converted(func, name, args, kwargs)
    if name in {"as_subclass", "data"}:
        _used(name, args, kwargs)
        return func(*unwrap(args), **unwrap(kwargs))
    if moves(name, args, kwargs):
        return _moved(func, name, args, kwargs)
    if name in COMPARISONS or name in QUERIES:
        return _answered(func, name, args, kwargs)
    if name in COMPUTES or name in REFLECTED:
        return _computed(func, name, args, kwargs)
    if name in {
        "setitem",
        "copy",
        "fill",
        "zero",
        "index_put",
        "scatter",
        "masked_scatter",
        "set",
        "index_copy",
    }:
        raise QTensorError(
            f"{here()}: '{name}' would write into a QTensor, which has one scale for all values; "
            "build the result with torch.cat, torch.where or a multiplication by a mask"
        )
    raise QTensorError(
        f"{here()}: torch function '{name}' has no rule for a QTensor; "
        "put a DeQuantStub in front of it, or write it with supported operators"
    )


def moves(name: str, args: Args, kwargs: Kwargs) -> bool:
    """Whether a function only moves values: an interpolation does in its default mode, "nearest"."""
    if name != "interpolate":
        return name in MOVES
    mode = str(args[3] if len(args) > 3 else kwargs.get("mode", ""))
    return only_moves("Resize", mode.removesuffix("-exact"))


def _answered(func: Callable[..., Any], name: str, args: Args, kwargs: Kwargs) -> Any:
    """Something that is not quantized; a comparison of one tensor with numbers remembers which."""
    _used(name, args, kwargs)
    if name in {"topk", "sort", "argsort"}:
        return _ordered(func, name, unwrap(args), unwrap(kwargs))
    result = func(*unwrap(args), **unwrap(kwargs))
    others = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
    if name in TABLED and len(others) == 1 and len(args) == 2:
        result.compared = (name, args)
    return result


def _ordered(func: Callable[..., Any], name: str, args: Args, kwargs: Kwargs) -> Any:
    """Equal codes are common: the one in front comes first, as ONNX Runtime's TopK has it."""
    if scope.exporting:
        return func(*args, **kwargs)
    if name != "topk":
        return func(*args, **{**kwargs, "stable": True}) if len(args) == 1 else func(*args, **kwargs)
    return _topk(*args, **kwargs)


def _topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    del sorted
    values, indices = torch.sort(input, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


def _used(name: str, args: Args, kwargs: Kwargs) -> None:
    """Tell the recorder that somebody reads these tensors."""
    if scope.recorder is not None:
        scope.recorder.note(name, "", None, qtensors((args, kwargs)), ())


def _converted(func: Callable[..., Any], name: str, args: Args, kwargs: Kwargs) -> Any:
    """To another dtype: a plain tensor. To a device only: still a QTensor."""
    y = func(*unwrap(args), **unwrap(kwargs))
    asked = [*args[1:], *kwargs.values()]
    if name == "to" and not any(isinstance(a, (torch.dtype, torch.Tensor)) for a in asked):
        return _wrapped(name, args, kwargs, y)
    _used(name, args, kwargs)
    return y


def _moved(func: Callable[..., Any], name: str, args: Args, kwargs: Kwargs) -> Any:
    if name == "getitem" and (picked := _picked(args)) is not None:
        func, args = picked
    y = func(*unwrap(args), **unwrap(kwargs))
    return _wrapped(name, args, kwargs, y)


def _picked(args: Args) -> tuple[Callable[..., Any], Args] | None:
    """x[:, [0, 3, 5]] as index_select, which is one Gather; None for any other index."""
    x, index = args
    entries = index if isinstance(index, tuple) else (index,)
    lists = [i for i, e in enumerate(entries) if isinstance(e, (list, torch.Tensor))]
    if len(lists) != 1 or any(e != slice(None) for i, e in enumerate(entries) if i != lists[0]):
        return None
    wanted = entries[lists[0]]
    if isinstance(wanted, list):
        if not all(type(v) is int for v in wanted):
            return None
        wanted = torch.tensor(wanted)
    if isinstance(wanted, QTensor) or wanted.ndim != 1 or wanted.dtype not in {torch.int64, torch.int32}:
        return None
    length = x.shape[lists[0]]
    return torch.index_select, (x, lists[0], torch.where(wanted < 0, wanted + length, wanted))


def _wrapped(name: str, args: Args, kwargs: Kwargs, y: Any) -> Any:
    found = qtensors((args, kwargs))
    source = args[0] if args and isinstance(args[0], QTensor) else found[0]
    step = -1
    if scope.recorder is not None:
        step = scope.recorder.note(name, "", None, found, ())

    def wrap(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            result = source.like(_rounded_again(source, value) if scope.exporting else value)
            result.step = step
            return result
        return type(value)(wrap(v) for v in value) if isinstance(value, (tuple, list)) else value

    return wrap(y)


def _rounded_again(source: QTensor, value: torch.Tensor) -> torch.Tensor:
    """Put Q and DQ behind a move too: no value changes, and ONNX Runtime wants int8 moves in pairs."""
    scale, zero_point, dtype = source.q_scale(), source.q_zero_point(), source.dtype
    if scale is None or zero_point is None or source.q_per_channel_axis() >= 0:
        return value
    return fake_quantize(value, scale, zero_point, dtype.min, dtype.max)


def _computed(func: Callable[..., Any], name: str, args: Args, kwargs: Kwargs) -> Any:
    if name in REFLECTED:
        name, args = name[1:], (args[1], args[0], *args[2:]) if name != "rsub" or len(args) < 3 else args
        name = {"truediv": "div"}.get(name, name)
        func = getattr(torch, name)
    _check_operands(name, args)
    found = qtensors((args, kwargs))
    if all(t.q_scale() is None for t in found) and scope.recorder is None and not _known(name):
        return func(*unwrap(args), **unwrap(kwargs))
    return operator_here(name, args, kwargs).call(name, func, args, kwargs)


def _check_operands(name: str, args: Args) -> None:
    """Refuse arithmetic of a QTensor with an integer tensor: neither has the other's scale."""
    if name in {"where", "masked_fill", "gather", "cumsum"}:
        return
    for other in args[:2]:
        if not isinstance(other, torch.Tensor) or isinstance(other, QTensor):
            continue
        if not other.is_floating_point() and other.dtype != torch.bool and other.ndim:
            kind = str(other.dtype).removeprefix("torch.")
            raise QTensorError(
                f"{here()}: operands of '{name}' must be QTensors, not a QTensor and a plain {kind} tensor, "
                "whose integers have no scale; convert it with .to(torch.float) and pass it through a "
                "QuantStub of its own"
            )


def _known(name: str) -> bool:
    frame = scope.frames[-1] if scope.frames else None
    return frame is not None and hasattr(frame.module, f"_generated_{name}_{frame.counts.get(name, 0)}")


def operator_here(name: str, args: Args, kwargs: Kwargs) -> Any:
    """The module of this operator: found by owner, name and order, or made while recording."""
    if not scope.frames:
        raise PrepareError(
            f"{here()}: '{name}' on a QTensor outside of the forward of a prepared model; dequantize() it "
            "first"
        )
    frame = scope.frames[-1]
    index = frame.counts.get(name, 0)
    frame.counts[name] = index + 1
    attribute = f"_generated_{name}_{index}"
    if not hasattr(frame.module, attribute):
        if scope.recorder is None:
            raise PrepareError(
                f"{here()}: '{name}' on QTensors was not met when the model was prepared; use "
                "FloatFunctional (eager mode), or call prepare with example inputs that take the same path"
            )
        made = _makers[-1](name, args, kwargs)
        made.bpu_path = f"{frame.path}.{attribute}".lstrip(".")
        made.train(frame.module.training)
        frame.module.add_module(attribute, made)
    return getattr(frame.module, attribute)
