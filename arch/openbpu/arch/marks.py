"""What the quantizer writes into the metadata of a node for the compiler to read."""

from __future__ import annotations

STAYS_FLOAT = "openbpu.stays_float"
"""Key whose value "true" says: the user asked for float, so the node runs on the CPU though the BPU could."""
