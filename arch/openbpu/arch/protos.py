"""What may hide anywhere inside an ONNX model: a walk over its protobuf messages that needs no protobuf.

Graphs lie in attributes of nodes of graphs, in functions and in training information, tensors in all of
those, in defaults of attributes and in sparse tensors: who lists the places forgets one, so every field is
followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ONNX = ("", "ai.onnx")
_TENSOR = "TensorProto"
_EXTERNAL = 1  # TensorProto.EXTERNAL
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf


def opset_of(message: Any, unnamed: int = 0) -> int:
    """Return the version of ONNX's own operators that a model or function says, `unnamed` where none."""
    versions = (found.version for found in message.opset_import if found.domain in _ONNX)
    return max(versions, default=unnamed)


def messages(message: Any) -> Iterator[Any]:
    """Yield a message and every message below it, whatever its kind and depth, but for parts of a tensor."""
    left = [message]
    while left:
        at = left.pop()
        yield at
        if type(at).__name__ == _TENSOR:
            continue  # numbers
        for field, value in at.ListFields():
            if field.message_type is not None:
                left.extend([value] if hasattr(value, "ListFields") else value)


def external_tensors(message: Any) -> Iterator[Any]:
    """Yield every TensorProto below a message whose data lie in another file, or say so."""
    for found in messages(message):
        if type(found).__name__ == _TENSOR and (
            found.data_location == _EXTERNAL or len(found.external_data) > 0
        ):
            yield found


def field_numbers(data: bytes) -> frozenset[int]:
    """Return which fields a serialized message has, its parts unread; raises ValueError where it is none."""
    found, at = set(), 0
    while at < len(data):
        tag, at = _varint(data, at)
        found.add(tag >> 3)
        at = _behind(data, at, tag & 7)
    if at != len(data):
        raise ValueError("it ends within a field")
    return frozenset(found)


def _behind(data: bytes, at: int, wire_type: int) -> int:
    """Return where a value that begins at `at` ends."""
    if wire_type == _VARINT:
        return _varint(data, at)[1]
    if wire_type == _BYTES:
        size, at = _varint(data, at)
        return at + size
    if wire_type in {_FIXED32, _FIXED64}:
        return at + (4 if wire_type == _FIXED32 else 8)
    raise ValueError(f"wire type {wire_type} is none of ONNX")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            raise ValueError("it ends within a number")
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than 64 bits")
