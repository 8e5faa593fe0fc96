"""Models to ask the reference evaluator and ONNX Runtime about, and the tests of the evaluator itself.

The evaluator is ``openbpu.evaluation.reference``; ``ort`` asks ONNX Runtime, ``random_graphs`` and
``single_op`` make models.
"""
