"""Looking into a model while it runs: results of its layers, two models layer by layer, weights, sensitivity.

features(model, inputs)                   the result of every layer
layer_rows(baseline, model, inputs)       both side by side; a float baseline is brought to the same layers
weight_rows(baseline, model)              their weights, the worst first
steps(model, inputs)                      the outputs as one layer after another rounds
sensitivity_rows(baseline, model, inputs) what each quantizer and each changed weight does to the outputs
"""

from openbpu.quantization.torch.profiler.compare import WeightRow, layer_rows, weight_rows
from openbpu.quantization.torch.profiler.features import Feature, Recording, called, features
from openbpu.quantization.torch.profiler.sensitive import (
    METRICS,
    SensitiveRow,
    distance,
    ordered,
    sensitivity_rows,
)
from openbpu.quantization.torch.profiler.stepwise import Step, steps
from openbpu.quantization.torch.profiler.twin import Comparable, comparable, outputs

__all__ = [
    "METRICS",
    "Comparable",
    "Feature",
    "Recording",
    "SensitiveRow",
    "Step",
    "WeightRow",
    "called",
    "comparable",
    "distance",
    "features",
    "layer_rows",
    "ordered",
    "outputs",
    "sensitivity_rows",
    "steps",
    "weight_rows",
]
