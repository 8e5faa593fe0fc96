"""Equations of einsum that are the product of two operands, by letters: of ONNX, and of the torch kit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """Letters: of the operands and the result; shared by all three, in the left and the result, right and
    result, summed.
    """

    left: str
    right: str
    out: str
    batch: str
    rows: str
    columns: str
    summed: str

    def turned(self) -> Product:
        """The same with left and right exchanged."""
        return Product(self.right, self.left, self.out, self.batch, self.columns, self.rows, self.summed)


def parsed(equation: str) -> Product | None:
    """Read "bnd,bmd->bnm"; None where it is no product of two (one operand, a diagonal, a plain sum)."""
    sides, arrow, out = equation.replace(" ", "").partition("->")
    operands = sides.split(",")
    if not arrow or len(operands) != 2 or "." in equation:
        return None
    left, right = operands
    if any(len(set(s)) != len(s) for s in (left, right, out)) or set(out) - set(left) - set(right):
        return None
    batch = "".join(c for c in out if c in left and c in right)
    rows = "".join(c for c in left if c in out and c not in right)
    columns = "".join(c for c in right if c in out and c not in left)
    summed = "".join(c for c in left if c in right and c not in out)
    known = set(batch + rows + columns + summed)
    if set(left) - known or set(right) - known or not summed:
        return None
    return Product(left, right, out, batch, rows, columns, summed)
