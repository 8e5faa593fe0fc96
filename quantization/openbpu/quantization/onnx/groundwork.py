"""What a search over quantizations of one model has to know beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.given_shapes import Shapes
from openbpu.quantization.onnx.config import QuantConfig, Wanted
from openbpu.quantization.onnx.config.names import name_of
from openbpu.quantization.onnx.load import ModelLike, load, valid
from openbpu.quantization.onnx.masks import find_masks
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.prepare import prepare, read
from openbpu.quantization.onnx.report import hold_out
from openbpu.quantization.onnx.samples import Calibration, Feed, feeds_of


@dataclass(frozen=True, slots=True)
class Groundwork:
    """A model as `quantize` takes it.

    feeds: the samples that calibrate, those that `quantize(judge=True)` holds out left out · held: these ·
    names: of the nodes · fixed: what nodes make whose types a config asks for.
    """

    feeds: tuple[Feed, ...]
    held: tuple[Feed, ...]
    names: tuple[str, ...]
    fixed: frozenset[str]


def lay_ground(
    model: ModelLike, calibration: Calibration, config: QuantConfig, shapes: Shapes | None = None
) -> Groundwork:
    """Return it. Raises what `quantize` raises of a model, samples or a config that it does not take."""
    with valid(model):
        loaded = load(model)
        given = read(loaded, shapes)
        feeds, held = hold_out(feeds_of(calibration, given.header.graph.input, find_masks(given).reach))
        types = Wanted(config, loaded.nodes, given).types(prepare(given, OPSET_PER_CHANNEL))
        fixed = frozenset((*types.nodes, *(tensor for tensor, _ in types.inputs)))
        return Groundwork(tuple(feeds), tuple(held), tuple(map(name_of, loaded.nodes)), fixed)
