"""QTensor: what it prints, what keeps its scale, what drops it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from openbpu.quantization import torch as bpu  # noqa: E402
from openbpu.quantization.onnx.classes import ROWS, Kind  # noqa: E402
from openbpu.quantization.torch.qtensor.names import MOVED  # noqa: E402


def qtensor() -> Any:
    data = torch.arange(6).reshape(2, 3) * 0.5
    return bpu.QTensor(data, torch.tensor([0.5]), torch.tensor([0]), bpu.qint16)


def test_it_prints_as_the_vendors_does() -> None:
    assert repr(bpu.QTensor(torch.ones(2), torch.tensor([0.5]), torch.tensor([0]), bpu.qint8)) == (
        "QTensor(\n  data = tensor([1., 1.]),\n  scale = tensor([0.5000]),\n  zero_point = tensor([0]),\n"
        "  dtype = qint8,\n  per_channel_axis = -1,\n  is_quantized = False\n)"
    )


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x[:, 1],
        lambda x: x[:, :, None],
        lambda x: x.reshape(3, -1),
        lambda x: x.permute(1, 0),
        lambda x: x.T,
        lambda x: x.unsqueeze(0).expand(4, 2, 3),
        lambda x: x.flip(0),
        lambda x: x.chunk(2)[0],
    ],
)
def test_moves_keep_scale_and_dtype(move: Any) -> None:
    moved = move(qtensor())
    assert isinstance(moved, bpu.QTensor)
    assert moved.dtype is bpu.qint16
    assert torch.equal(moved.q_scale(), torch.tensor([0.5]))
    assert torch.equal(moved.dequantize(), move(qtensor().dequantize()))


def test_integers_and_reals() -> None:
    x = qtensor()
    assert x.int_repr().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert x.int_repr().dtype == torch.int16
    assert not isinstance(x.to(torch.float), bpu.QTensor)
    assert x.to(torch.int16).dtype == torch.int16
    assert isinstance(x.to("cpu"), bpu.QTensor)


def test_comparisons_are_plain_bools() -> None:
    mask = torch.logical_not(qtensor() == 0)
    assert type(mask) is torch.Tensor
    assert mask.dtype == torch.bool


def test_its_shape_prints_as_a_tuple() -> None:
    x = qtensor()
    assert str(x.shape) == "(2, 3)"
    assert x.shape.numel() == 6
    assert x.size(1) == x.shape[-1] == 3


def test_it_is_a_tensor_and_copies() -> None:
    from copy import deepcopy

    x = qtensor()
    assert torch.is_tensor(x)
    assert torch.equal(deepcopy(x).dequantize(), x.dequantize())


def test_values_cannot_steer_python() -> None:
    with pytest.raises(bpu.PrepareError, match=r"test_qtensor.py:\d+"):
        bool(qtensor())
    with pytest.raises(bpu.PrepareError):
        qtensor()[0, 0].item()


def test_arithmetic_needs_a_prepared_model() -> None:
    with pytest.raises(bpu.PrepareError, match="outside of the forward of a prepared model"):
        qtensor() + qtensor()


def test_moves_are_named_by_an_operator_that_keeps_the_scale() -> None:
    kept = {row.op for row in ROWS if row.kind is Kind.KEEP or not isinstance(row.kind, Kind)}
    assert kept >= MOVED.keys()
    names = [name for names in MOVED.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "leave",
    [
        lambda q: q.as_subclass(torch.Tensor),
        torch.tensor,
        torch.Tensor,
        lambda q: q.data,
        lambda q: torch.nn.Parameter(q).dequantize(),
    ],
)
@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
def test_what_leaves_a_qtensor_has_its_values(leave: Any) -> None:
    quantized = bpu.QTensor(torch.tensor([1.0, 2.0]), torch.tensor([0.5]), torch.tensor([0]), bpu.qint8)
    found = leave(quantized)
    assert not isinstance(found, bpu.QTensor)
    assert found.tolist() == [1.0, 2.0]
