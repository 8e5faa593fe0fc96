"""What is measured over data or over many models: a float64 reference, and placement before quantization.

`openbpu.evaluation.reference` knows numpy and onnx only: nothing of the compiler or the simulator, so that an
error of theirs cannot hide in it.
"""
