"""The number that counts: models side by side on labelled data, with how far the numbers can be trusted.

`evaluate` is the whole of it; the `openbpu eval` command says the same with options.
"""

from openbpu.evaluation.accuracy.api import evaluate
from openbpu.evaluation.accuracy.data import Data, Sample, read_data
from openbpu.evaluation.accuracy.results import Difference, Evaluation, Score

__all__ = ["Data", "Difference", "Evaluation", "Sample", "Score", "evaluate", "read_data"]
