"""`hmct`, the vendor's quantizer of ONNX models, on openbpu.quantization.onnx and openbpu.evaluation."""
