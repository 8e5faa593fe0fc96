"""What a search over quantizations of one model has to know beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from openbpu.arch.given_shapes import Shapes
from openbpu.quantization.onnx.config import QuantConfig, Wanted
from openbpu.quantization.onnx.load import ModelLike, load, valid
from openbpu.quantization.onnx.masks import find_masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import name_of
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
    model: ModelLike,
    calibration: Calibration,
    config: QuantConfig,
    shapes: Shapes | None = None,
    *,
    judge: bool = True,
) -> Groundwork:
    """Return it; without `judge` all samples calibrate.

    Raises what `quantize` raises of a model, samples or a config that it does not take.
    """
    with valid(model):
        loaded = load(model)
        given = read(loaded, shapes)
        feeds = feeds_of(calibration, given.header.graph.input, find_masks(given).reach)
        calibrating, held = hold_out(feeds) if judge else (feeds, [])
        fixed = _fixed(config, loaded, given)
        return Groundwork(tuple(calibrating), tuple(held), tuple(map(name_of, loaded.nodes)), fixed)


def with_types_of_their_own(
    model: ModelLike, config: QuantConfig, shapes: Shapes | None = None
) -> frozenset[str]:
    """Return what nodes make whose types `config` asks for, by whatever way. Raises as `lay_ground` does."""
    if config == QuantConfig():
        return frozenset()
    with valid(model):
        loaded = load(model)
        return _fixed(config, loaded, read(loaded, shapes))


def _fixed(config: QuantConfig, loaded: Net, given: Net) -> frozenset[str]:
    types = Wanted(config, loaded.nodes, given).types(prepare(given, OPSET_PER_CHANNEL))
    return frozenset((*types.nodes, *(tensor for tensor, _ in types.inputs)))
