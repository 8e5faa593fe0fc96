"""One sample: what a model is fed with, and what is true of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from openbpu.arch.arrays import Array


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, or arrays.

    key: its name in the data, unique · label: what is true of it: a class as an int, an element of the array
    of labels, of COCO the objects in it as `{"bbox": [x, y, w, h], "category": number of the class}`, or None
    · path: of the picture · size: its height and width, of COCO's · arrays: by the names they have in the
    file, without the axis of samples · content: the bytes of the picture, where workers do not see the file.
    """

    key: str
    label: Any = None
    path: Path | None = None
    size: tuple[int, int] | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    content: bytes | None = None

    def open(self) -> BinaryIO:
        """Return the picture's file, open for reading, wherever this runs."""
        if self.content is not None:
            return io.BytesIO(self.content)
        if self.path is None:
            raise ValueError("a sample of arrays has no file")
        return self.path.open("rb")

    def packed(self) -> Sample:
        """Return the sample with its picture inside, for a worker that does not see the file."""
        return self if self.path is None else replace(self, content=self.path.read_bytes())
