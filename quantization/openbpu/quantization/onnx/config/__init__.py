"""Types per model, operator, node and subgraph: the vendor's `quant_config`, and what it means for a net."""

from openbpu.quantization.onnx.config.read import ConfigLike, read_config, with_node_types
from openbpu.quantization.onnx.config.schema import QuantConfig
from openbpu.quantization.onnx.config.wanted import Wanted, base_types, corrections_of, methods_of

__all__ = [
    "ConfigLike",
    "QuantConfig",
    "Wanted",
    "base_types",
    "corrections_of",
    "methods_of",
    "read_config",
    "with_node_types",
]
