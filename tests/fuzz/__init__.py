"""Fuzzing: damaged `.hbm` files, damaged ONNX models and random networks, for as long as there is time.

`make fuzz` runs it; docs/fuzzing.md says what is tried and what counts as a fault.
"""
