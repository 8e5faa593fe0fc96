"""Inputs and outputs of a compiled file as the runtime tool of the boards describes them."""

from __future__ import annotations

from openbpu.runtime import Session, TensorInfo


def tensors_text(session: Session) -> str:
    """Return a block per input and output: shapes, strides and sizes in bytes, and how it is quantized."""
    blocks = [_block("input", n, t) for n, t in enumerate(session.inputs)]
    blocks += [_block("output", n, t) for n, t in enumerate(session.outputs)]
    return "\n".join(blocks)


def _block(kind: str, number: int, t: TensorInfo) -> str:
    rows = {
        "name": t.name,
        "valid shape": _in_brackets(t.shape),
        "tensor type": t.dtype.value,
        "stride": _in_brackets(t.strides),
        "aligned byte size": t.aligned_bytes,
        "quanti type": t.quanti_type,
    }
    if t.scale:
        rows["scale data"] = ",".join(f"{s:.9g}" for s in t.scale)
        rows["zero point"] = t.zero_point
        rows["quantizeAxis"] = t.axis
    told = [f"{kind}[{number}]:", *(f"  {what}: {value}" for what, value in rows.items())]
    return "\n".join(told)


def _in_brackets(sizes: tuple[int, ...]) -> str:
    return f"({','.join(map(str, sizes))})"
