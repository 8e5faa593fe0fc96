"""What may hide anywhere inside an ONNX model: a walk over its protobuf messages that needs no protobuf.

Graphs lie in attributes of nodes of graphs, in functions and in training information, tensors in all of
those, in defaults of attributes and in sparse tensors: who lists the places forgets one, so every field is
followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_EXTERNAL = 1  # TensorProto.EXTERNAL


def messages(message: Any) -> Iterator[Any]:
    """Yield a message and every message below it, whatever its kind and however deep it lies."""
    left = [message]
    while left:
        at = left.pop()
        yield at
        for field, value in at.ListFields():
            if field.message_type is not None:
                left.extend([value] if hasattr(value, "ListFields") else value)


def external_tensors(message: Any) -> Iterator[Any]:
    """Yield every TensorProto below a message whose data lie in another file, or say so."""
    for found in messages(message):
        if type(found).__name__ == "TensorProto" and (
            found.data_location == _EXTERNAL or len(found.external_data) > 0
        ):
            yield found
