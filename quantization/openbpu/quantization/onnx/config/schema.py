"""The form of a `quant_config`, checked key by key.

model_config      all_node_type, model_output_type, activation, weight, search
op_config         {OP: {qtype}}
node_config       {NODE or pattern: {qtype, input0, input1, …}}
subgraph_config   {NAME: {inputs, outputs, qtype}}
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from openbpu.arch.dtypes import DType

QTYPES = {
    "int8": DType.INT8,
    "int16": DType.INT16,
    "float": DType.FLOAT32,
    "float32": DType.FLOAT32,
    "float16": DType.FLOAT32,
}
"""float16 is computed in float32: both mean that the CPU computes."""

_INPUT = re.compile(r"input(\d{1,3})")

_TOLD = 20
"""Unknown keys of a mapping that a message lists."""


def refusal(allowed: str, actual: object, fix: str = "") -> PydanticCustomError:
    """Return what a validator raises: the message is made of it where the place is known."""
    return refusal_of_all(allowed, [actual], fix)


def refusal_of_all(allowed: str, actual: Sequence[object], fix: str = "") -> PydanticCustomError:
    """Return the same where several are wrong."""
    found = ", ".join(map(reprlib.repr, actual[:_TOLD]))  # short, whatever a stranger's file holds
    found += f" and {len(actual) - _TOLD} more" if len(actual) > _TOLD else ""
    return PydanticCustomError("must", "{allowed}", {"allowed": allowed, "actual": found, "fix": fix})


def _qtype(value: Any) -> DType:
    if isinstance(value, DType) and value in QTYPES.values():
        return value
    if not isinstance(value, str) or value not in QTYPES:
        raise refusal("int8, int16 or float (float32, float16)", value)
    return QTYPES[value]


def _listed(value: Any) -> tuple[Any, ...]:
    """Take one value for a list of one: the vendor's tools do."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _some(allowed: str, fits: Callable[[Any], bool], fix: str = "") -> BeforeValidator:
    """Return a check of a value or a list of them, each of which `fits`."""

    def check(value: Any) -> tuple[Any, ...]:
        values = _listed(value)
        wrong = [item for item in values if not fits(item)]
        if wrong or not values:
            raise refusal(allowed, wrong[0] if wrong else values, fix)
        return values

    return BeforeValidator(check)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def nearest(name: str, known: Iterable[str], what: str, it: str = " like it") -> str:
    """Return what to say of `name` that is none of `known`: the names that are most like it."""
    every = list(dict.fromkeys(known))
    found = difflib.get_close_matches(name, every, n=3, cutoff=0.5) or every[:3]
    return f"{what}{it}: " + ", ".join(f"'{other}'" for other in found) if found else ""


class _Part(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys as a file has them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        if data is None:
            return {}  # a section of a YAML file whose lines are all comments
        if not isinstance(data, dict):
            raise refusal(f"a mapping of {', '.join(cls.keys())}", data)
        allowed = cls.keys()
        others = [str(key) for key in data if key not in allowed]
        if others:
            raise refusal_of_all(f"made of the keys {', '.join(allowed)}", others)
        return data


QType = Annotated[DType, BeforeValidator(_qtype)]
Names = Annotated[tuple[str, ...], _some("names of nodes or tensors", lambda v: isinstance(v, str) and v)]
Kinds = Annotated[
    tuple[str, ...],
    _some("max, kl, percentile, mse or mix, one or a list", lambda v: v in CALIBRATION_TYPES),
]
CALIBRATION_TYPES = ("max", "kl", "percentile", "mse", "mix")
Shares = Annotated[
    tuple[float, ...],
    _some("in 0.5..1, one or a list", lambda v: _is_number(v) and 0.5 <= v <= 1, "1 is the largest value"),
]
OneScale = Annotated[
    tuple[bool, ...],
    _some("false", lambda v: v is False, "activations have one symmetric scale per tensor on every march"),
]
Flags = Annotated[tuple[bool, ...], _some("true or false, one or a list", lambda v: isinstance(v, bool))]
Flag = Annotated[tuple[bool], _some("true or false", lambda v: isinstance(v, bool))]
Bins = Annotated[
    tuple[int, ...],
    _some(
        "2048",
        lambda v: _is_number(v) and v == 2048,
        "all methods read one histogram of so many bins, whatever the vendor's tools try",
    ),
]
Cosine = Annotated[
    tuple[str, ...],
    _some("cosine", lambda v: v in ("cosine", "cosine-similarity"), "`openbpu analyze` has other metrics"),
]
Count = Annotated[
    tuple[int],
    _some("a whole number from 1 on", lambda v: isinstance(v, int) and v >= 1 and v is not True),
]


class Activation(_Part):
    """How the ranges of activations are chosen; of several, the closest to the float model."""

    calibration_type: Kinds | None = None
    max_percentile: Shares | None = None
    num_bin: Bins | None = None
    per_channel: OneScale | None = None
    asymmetric: Flags | None = None


class BiasCorrection(_Part):
    """Bias correction: on how many calibration samples, and by what it is judged."""

    num_sample: Count | None = None
    metric: Cosine = ("cosine",)


class Weight(_Part):
    """What is done for weights beside rounding them."""

    bias_correction: BiasCorrection | None = None
    equalisation: Flag | None = None
    adaptive_rounding: Flag | None = None


class Search(_Part):
    """By what the best of several ways to choose ranges is found."""

    metric: Cosine = ("cosine",)


class Model(_Part):
    """What holds for the whole model."""

    all_node_type: QType | None = None
    model_output_type: QType | None = None
    activation: Activation = Activation()
    weight: Weight = Weight()
    search: Search | None = None

    @property
    def samples(self) -> int | None:
        """How many samples corrections see; None for all."""
        given = self.weight.bias_correction
        return None if given is None or given.num_sample is None else given.num_sample[0]


class OfOp(_Part):
    """The type of all nodes of an operator, or of a subgraph."""

    qtype: QType


class OfNode(_Part):
    """The type of what a node reads, or of single inputs of it."""

    qtype: QType | None = None
    inputs: dict[int, QType] = Field(default={})

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys as a file has them."""
        return ["qtype", "input0", "input1", "…"]

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if isinstance(data, str | DType):
            raise refusal("a mapping like {qtype: int16}", data)
        if isinstance(data, cls):
            return data
        if not isinstance(data, dict):
            raise refusal("a mapping of qtype, input0, input1, …", data)
        others = [str(key) for key in data if key != "qtype" and not _INPUT.fullmatch(str(key))]
        if others:
            raise refusal_of_all("made of the keys qtype, input0, input1, …", others)
        places = {match[1]: value for key, value in data.items() if (match := _INPUT.fullmatch(str(key)))}
        inputs = {int(place): value for place, value in places.items()}
        return {"inputs": inputs} | ({"qtype": data["qtype"]} if "qtype" in data else {})


def _filled(data: Any) -> Any:
    """Take nothing for an empty mapping."""
    if data is not None and not isinstance(data, dict):
        raise refusal("a mapping by name", data)
    return data or {}


_section = BeforeValidator(_filled)


class OfSubgraph(_Part):
    """The type of all nodes on the ways from `inputs` to `outputs`, both included where they are nodes."""

    inputs: Names
    outputs: Names
    qtype: QType


class QuantConfig(_Part):
    """A whole `quant_config`; `options` are node types from the command line, which win over the file's."""

    model: Model = Field(default=Model(), alias="model_config")
    ops: Annotated[dict[str, OfOp], _section] = Field(default={}, alias="op_config")
    nodes: Annotated[dict[str, OfNode], _section] = Field(default={}, alias="node_config")
    subgraphs: Annotated[dict[str, OfSubgraph], _section] = Field(default={}, alias="subgraph_config")
    options: dict[str, OfNode] = Field(default={}, exclude=True)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys as a file has them."""
        return ["model_config", "op_config", "node_config", "subgraph_config"]

    @property
    def asymmetric(self) -> bool | None:
        """Whether int8 activations may have zero points, inputs too; None (nothing said): all but inputs.

        Of a list, each tensor takes what suits it.
        """
        given = self.model.activation.asymmetric
        return None if given is None else any(given)
