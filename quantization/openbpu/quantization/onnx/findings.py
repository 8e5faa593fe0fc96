"""What quantization has to tell about a model beside its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know, said once. kind: a word to filter by. tensor, node: its subject, "" for none."""

    kind: str
    tensor: str
    node: str
    text: str
