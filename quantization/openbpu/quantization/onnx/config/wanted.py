"""A `quant_config` together with the model that it names nodes of."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError, must
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.config.resolve import resolve
from openbpu.quantization.onnx.config.schema import QuantConfig
from openbpu.quantization.onnx.config.unmet import unmet
from openbpu.quantization.onnx.corrections import Corrections
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import NOTHING_ASKED, Plan


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. every: all nodes as the user wrote them · model: with constants folded, no more."""

    config: QuantConfig
    every: tuple[NodeProto, ...]
    model: Net

    def types(self, net: Net) -> Types:
        """Return the types for `net`, which `model` became; raises what `resolve` raises."""
        if self.config == QuantConfig():
            return NOTHING_ASKED
        return resolve(self.config, self.every, self.model, net).types

    def refuse_all_float(self) -> None:
        """Raise QuantizationError where nothing is left to quantize because float was asked for."""
        if self.config.model.all_node_type is DType.FLOAT32:
            fix = "give some of them int8 or int16 by node_config, op_config or subgraph_config"
            raise QuantizationError(
                must("model_config", "all_node_type", "int8 or int16 where no node has its own", "float", fix)
            )

    def findings(self, net: Net, plan: Plan) -> tuple[Finding, ...]:
        """Return what there is to tell about names and about types that could not be met."""
        if self.config == QuantConfig():
            return ()
        found = resolve(self.config, self.every, self.model, net)
        return found.findings + unmet(net, plan, found.types)


def base_types(config: QuantConfig, activation: DType, tail: DType) -> tuple[DType, DType]:
    """Return the types of activations and of the tail, which `all_node_type` names for all nodes alike.

    Raises QuantizationError where int16 activations and an `all_node_type` of int8 are both asked for.
    """
    every = config.model.all_node_type
    if every is None or every is DType.FLOAT32:
        return activation, tail
    if activation is DType.INT16 and every is DType.INT8:
        raise QuantizationError(
            must("model_config", "all_node_type", "left out or int16, as --int16 says", "int8", "choose one")
        )
    return every, DType.INT8 if every is DType.INT8 else tail


def corrections_of(config: QuantConfig, corrections: Corrections) -> Corrections:
    """Return `corrections` with those that the config asks for; where they say no, that counts."""
    asked = config.model.weight
    biases = corrections.bias_correction
    return Corrections(
        equalisation=corrections.equalisation or any(asked.equalisation or ()),
        adaptive_rounding=corrections.adaptive_rounding or any(asked.adaptive_rounding or ()),
        bias_correction=True if biases is None and asked.bias_correction is not None else biases,
    )


def methods_of(config: QuantConfig, method: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the methods to choose from: of `method`, or of the config where that says nothing (max).

    known: all methods. A share other than the usual one is written `percentile 0.9995`. Raises
    QuantizationError where both name different ones.
    """
    given = config.model.activation
    if given.calibration_type is None and given.max_percentile is None:
        return known[:-1] if method == "mix" else (method,)
    kinds = given.calibration_type or ("max",)
    if method not in {"max", *kinds}:
        raise QuantizationError(
            must("model_config.activation", "calibration_type", f"left out or {method}", ", ".join(kinds))
        )
    if "mix" in kinds:
        kinds = (*kinds, *known[:-1])
    shares = ["max" if share == 1 else f"percentile {share!r}" for share in given.max_percentile or (1.0,)]
    plain = [way for kind in kinds if kind != "mix" for way in (shares if kind == "max" else [kind])]
    return tuple(dict.fromkeys(plain))
