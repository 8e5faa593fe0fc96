"""Labelled data: folders of images, arrays with labels, COCO's JSON."""

from openbpu.evaluation.accuracy.data.data import Data, evenly
from openbpu.evaluation.accuracy.data.read import read_data
from openbpu.evaluation.accuracy.data.sample import Sample

__all__ = ["Data", "Sample", "evenly", "read_data"]
