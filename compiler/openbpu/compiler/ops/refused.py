"""What a row of the operator table raises for an operator that it cannot lower."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - no error: an operator that stays on the CPU
    """An operator cannot run on the BPU: `reason` says why, with the actual value, and `fix` what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix
