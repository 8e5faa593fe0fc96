"""F.grid_sample: an image of int8 at the points of a grid of int16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openbpu.quantization.torch.dtype import qint8, qint16
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.qat.decomposed import Decomposed
from openbpu.quantization.torch.qtensor import QTensor


class SampleForm(FloatFunctional, Decomposed):
    """grid_sample(image, grid): each is rounded once more where it has another type.

    A grid that is not quantized, a constant or made of the model's inputs, gets a quantizer of its own.
    """

    input_dtypes = (qint8, qint16)

    @classmethod
    def of(cls, *args: Any, **kwargs: Any) -> SampleForm:
        """The module for a call with these arguments, where torch.fx has nodes for tensors."""
        made, grid = cls(), args[1] if len(args) > 1 else kwargs["grid"]
        made.constants = () if _is_quantized(grid) else ("grid",)
        return made

    def call(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute with the grid on its own scale."""
        given = {**dict(zip(("input", "grid"), args, strict=False)), **kwargs}
        image, grid = given.pop("input"), given.pop("grid")
        if not isinstance(grid, QTensor):
            grid = self.constant("grid", grid)
        return super().call(name, func, (image, grid, *args[2:]), given)

    def last(self) -> FloatFunctional:
        """The module itself makes the result."""
        return self


def _is_quantized(value: Any) -> bool:
    return isinstance(value, QTensor) or bool(getattr(value, "meta", {}).get("quantized"))
