"""QTensor: a tensor that knows its scale."""

from openbpu.quantization.torch.qtensor import dispatch as _dispatch  # noqa: F401 - it answers torch's functions
from openbpu.quantization.torch.qtensor.tensor import QTensor, unwrap

__all__ = ["QTensor", "unwrap"]
