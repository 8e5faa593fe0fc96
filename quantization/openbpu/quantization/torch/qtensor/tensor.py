"""QTensor: fake-quantized values together with scale, zero point and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from openbpu.arch.shapes import along
from openbpu.quantization.torch.dtype import QDType
from openbpu.quantization.torch.errors import PrepareError
from openbpu.quantization.torch.scope import here, scope

with torch._C._DisableTorchDispatch():  # noqa: SLF001 - no public name
    _SHELL = torch.empty(0)


class Shape(tuple[int, ...]):
    """A shape that prints as a plain tuple and counts its elements."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self:
            count *= size
        return count


Answer = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class QTensor(torch.Tensor):
    """`data` are floats on the grid of `scale`; int_repr() are the integers.

    scale: float32 [1], or [C] along `per_channel_axis`; None for a result that is not quantized (the int32
    "high-precision" output of a convolution). Computing unwraps to plain tensors, so autograd and
    torch.export never see this class; torch functions come back through `qtensor.dispatch`.
    """

    plain: torch.Tensor
    _scale: torch.Tensor | None
    _zero_point: torch.Tensor | None
    _dtype: QDType | None
    _axis: int
    step: int
    pending: Any
    codes: Any
    is_constant: bool
    answer: ClassVar[Answer]

    @staticmethod
    def __new__(  # noqa: PYI034 - typing.Self is new in Python 3.11
        cls, data: torch.Tensor, *_: Any, **__: Any
    ) -> QTensor:
        """The values live in `plain`; what torch reads without asking (torch.tensor) finds them as well.

        An exporter's tensors have no values: an empty shell does.
        """
        with torch._C._DisableTorchDispatch():  # noqa: SLF001 - no public name
            seen = data.detach() if type(data) is torch.Tensor and not scope.exporting else _SHELL
            shell: QTensor = torch.Tensor._make_subclass(cls, seen)  # noqa: SLF001 - as above
            return shell

    def __init__(
        self,
        data: torch.Tensor,
        scale: torch.Tensor | None,
        zero_point: torch.Tensor | None = None,
        dtype: QDType | None = None,
        per_channel_axis: int = -1,
    ) -> None:
        self.plain, self._scale, self._zero_point = data, scale, zero_point
        self._dtype, self._axis = dtype, per_channel_axis
        self.step, self.pending, self.codes, self.is_constant = -1, None, None, False

    # --- what the vendor's class offers ---------------------------------------------------------------------

    def int_repr(self) -> torch.Tensor:
        """The integers, in the storage dtype."""
        if self._scale is None or self._dtype is None:
            raise PrepareError(f"{here()}: int_repr needs a quantized tensor, not a high-precision output")
        scale, zero = self._aligned(self._scale), self._aligned(self._zero_point)
        codes = torch.round(self.plain.detach().double() / scale.double()) + zero
        return codes.clamp(self._dtype.min, self._dtype.max).to(getattr(torch, self._dtype.storage.value))

    def dequantize(self) -> torch.Tensor:
        """The values as a plain float tensor."""
        return self.plain

    def q_scale(self) -> torch.Tensor | None:
        """The scale, float32 [1] or [C]."""
        return self._scale

    def q_zero_point(self) -> torch.Tensor | None:
        """The zero point, int64 [1] or [C]."""
        return self._zero_point

    def q_per_channel_axis(self) -> int:
        """Axis of a scale per channel; -1 for one scale."""
        return self._axis

    per_channel_axis = property(q_per_channel_axis)
    scale = property(q_scale)
    zero_point = property(q_zero_point)

    @property
    def is_quantized(self) -> bool:
        """False: the values are held as floats, as the vendor prints it for prepared models."""
        return False

    # --- torch.Tensor's attributes, answered from the data ------------------------------------------------

    @property
    def dtype(self) -> Any:
        """The quantized dtype; torch.float32 for a high-precision output."""
        return self._dtype if self._dtype is not None else self.plain.dtype

    @property
    def shape(self) -> Any:
        """The shape, printed as a plain tuple."""
        return Shape(self.plain.shape)

    device = property(lambda self: self.plain.device)
    ndim = property(lambda self: self.plain.ndim)
    requires_grad = property(lambda self: self.plain.requires_grad)
    grad_fn = property(lambda self: self.plain.grad_fn)
    is_leaf = property(lambda self: self.plain.is_leaf)
    is_cuda = property(lambda self: self.plain.is_cuda)
    layout = property(lambda self: self.plain.layout)

    def __len__(self) -> int:
        return len(self.plain)

    def __bool__(self) -> bool:
        raise PrepareError(
            f"{here()}: the value of a QTensor decides what the forward does (data-dependent control flow), "
            "which no compiled model can; use torch.where or a mask"
        )

    __int__ = __float__ = __index__ = __bool__

    def item(self) -> Any:
        """Refused: a number taken out of the graph would be a constant of the example input."""
        return self.__bool__()

    tolist = item

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Refused inside a model: NumPy is not traced."""
        raise PrepareError(f"{here()}: NumPy cannot read a QTensor; use dequantize().detach().numpy()")

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        del tensor_contents
        if self._scale is None:
            return repr(self.plain)
        fields = {
            "data": self.plain.detach(),
            "scale": self._scale,
            "zero_point": self._zero_point,
            "dtype": self.dtype,
            "per_channel_axis": self._axis,
            "is_quantized": self.is_quantized,
        }
        lines = ",\n".join(f"  {key} = {value}" for key, value in fields.items())
        return f"QTensor(\n{lines}\n)"

    def __deepcopy__(self, memo: Any) -> QTensor:
        del memo
        return self.like(self.plain.detach().clone())

    def __reduce_ex__(self, protocol: Any) -> Any:
        del protocol
        return QTensor, (self.plain.detach(), self._scale, self._zero_point, self._dtype, self._axis)

    # --- for the rest of the package ----------------------------------------------------------------------

    def like(self, data: torch.Tensor) -> QTensor:
        """`data` with this tensor's scale."""
        return QTensor(data, self._scale, self._zero_point, self._dtype, self._axis)

    def _aligned(self, values: torch.Tensor | None) -> torch.Tensor:
        """Scale or zero point in a shape that broadcasts against the data."""
        if values is None:
            return torch.zeros(1)
        if self._axis < 0:
            return values
        return values.reshape(along(self._axis, self.plain.ndim))

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        return cls.answer(func, args, kwargs or {})


def answers_functions(answer: Answer) -> Answer:
    """Make `answer(function, args, kwargs)` what torch calls when a function meets a QTensor; a decorator."""
    QTensor.answer = staticmethod(answer)
    return answer


def unwrap(value: Any) -> Any:
    """Replace every QTensor in a nest of tuples, lists and dicts by its plain data."""
    if isinstance(value, QTensor):
        return value.plain
    if isinstance(value, (tuple, list)):
        items = [unwrap(v) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {k: unwrap(v) for k, v in value.items()}
    return value


def qtensors(value: Any) -> list[QTensor]:
    """Every QTensor in a nest of tuples, lists and dicts, in order."""
    if isinstance(value, QTensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in qtensors(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in qtensors(v)]
    return []
