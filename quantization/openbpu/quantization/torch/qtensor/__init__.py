"""QTensor: a tensor that knows its scale."""

from openbpu.quantization.torch.qtensor.tensor import QTensor, unwrap

__all__ = ["QTensor", "unwrap"]
