"""The YAML of `hb_compile` and `hb_mapper makertbin`: groups, keys, and what each may be.

Keys of several inputs have a value per input, with ";" between. A key without a value is one that is not
there, as the templates that people start from have them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2

RuntimeType = Literal["nv12", "yuv444", "rgb", "bgr", "gray", "featuremap"]
TrainType = Literal["rgb", "bgr", "gray", "yuv444", "featuremap"]


def refusal(allowed: str, actual: object, fix: str = "") -> PydanticCustomError:
    """Return what a validator raises; the message is made of it where the line is known."""
    told = {"allowed": allowed, "actual": short(actual), "fix": fix}
    return PydanticCustomError("must", "{allowed}", told)


def short(value: object) -> str:
    """Return a value as a message shows it, whatever a stranger's file unfolds to."""
    return _SHORT.repr(value)


def _one_of(*allowed: str, fix: str = "") -> BeforeValidator:
    def check(value: Any) -> str:
        text = str(value).strip()
        if text not in allowed:
            raise refusal(
                " or ".join(allowed) if len(allowed) < 3 else f"one of {', '.join(allowed)}", value, fix
            )
        return text

    return BeforeValidator(check)


def _parts(value: Any) -> list[str]:
    """Return the values between semicolons; a list is one already."""
    every = value if isinstance(value, list | tuple) else str(value).split(";")
    return [str(part).strip() for part in every if str(part).strip()]


def _each(check: Callable[[str], Any], allowed: str, fix: str = "") -> BeforeValidator:
    """Return a check of every value between semicolons."""

    def checked(value: Any) -> tuple[Any, ...]:
        return tuple(_checked(check, part, allowed, fix) for part in _parts(value))

    return BeforeValidator(checked)


def _checked(check: Callable[[str], Any], part: str, allowed: str, fix: str) -> Any:
    try:
        return check(part)
    except ValueError:
        raise refusal(allowed, part, fix) from None


def _among(*allowed: str) -> Callable[[str], str]:
    def check(part: str) -> str:
        if part not in allowed:
            raise ValueError(part)
        return part

    return check


def _numbers(part: str) -> tuple[float, ...]:
    return tuple(float(number) for number in part.replace(",", " ").split())


def _sizes(part: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in part.lower().replace(",", "x").split("x"))
    if any(size < 1 for size in sizes):
        raise ValueError(part)
    return sizes


def _whole(low: int, high: int | None = None) -> BeforeValidator:
    allowed = f"a whole number of at least {low}" if high is None else f"{low}..{high}"

    def check(value: Any) -> int:
        text = str(value).strip()
        if (
            isinstance(value, bool)
            or not text.isdigit()
            or int(text) < low
            or int(text) > (high or int(text))
        ):
            raise refusal(allowed, value)
        return int(text)

    return BeforeValidator(check)


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "false"}:
        raise refusal("True or False", value)
    return text == "true"


Names = Annotated[tuple[str, ...], _each(str, "names")]
Flag = Annotated[bool, BeforeValidator(_flag)]
Numbers = Annotated[tuple[tuple[float, ...], ...], _each(_numbers, 'numbers like "123.675 116.28 103.53"')]
Layouts = Annotated[tuple[str, ...], _each(_among("NCHW", "NHWC"), "NCHW or NHWC")]
QTypes = Literal["int8", "int16"]


class Part(BaseModel):
    """A mapping of known keys, of which those without a value are as if they were not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _given(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise refusal("a mapping", data)
        return {key: value for key, value in data.items() if value is not None and value not in ("", [])}


class NodeInfo(Part):
    """Where a node runs, and what it reads and makes."""

    on: Annotated[Literal["BPU", "CPU"], _one_of("BPU", "CPU")] | None = Field(default=None, alias="ON")
    input_type: Annotated[QTypes, _one_of("int8", "int16")] | None = Field(default=None, alias="InputType")
    output_type: Annotated[QTypes, _one_of("int8", "int16")] | None = Field(default=None, alias="OutputType")


def _node_infos(value: Any) -> Any:
    """Take the older text form, "A:BPU;B:int16", for the mapping."""
    if not isinstance(value, str):
        return value
    found: dict[str, dict[str, str]] = {}
    for part in _parts(value):
        name, _, what = part.rpartition(":")
        if not name:
            raise refusal('like {NODE: {ON: BPU, InputType: int16}} or "NODE:BPU"', part)
        found.setdefault(name, {})["ON" if what in {"BPU", "CPU"} else "InputType"] = what
    return found


NodeInfos = Annotated[dict[str, NodeInfo], BeforeValidator(_node_infos)]
_ONNX = "a model in ONNX: export it from the framework it was trained in, and give onnx_model"


def _refused(value: Any) -> Any:
    raise refusal("left out", value, _ONNX)


class ModelParameters(Part):
    """The model, the march, and where files go."""

    onnx_model: str | None = None
    caffe_model: Annotated[str | None, BeforeValidator(_refused)] = None
    prototxt: Annotated[str | None, BeforeValidator(_refused)] = None
    march: str | None = None
    working_dir: str = "model_output"
    output_model_file_prefix: str = "model"
    layer_out_dump: Flag = False
    output_nodes: Names = ()
    remove_node_type: Names = ()
    remove_node_name: Names = ()
    node_info: NodeInfos = {}
    set_node_data_type: NodeInfos = {}
    debug_mode: str | None = None
    log_level: str | None = None


class InputParameters(Part):
    """The inputs: as they were trained, as the board gives them, and what is done in between."""

    input_name: Names = ()
    input_type_rt: Annotated[
        tuple[RuntimeType, ...],
        _each(
            _among("nv12", "yuv444", "rgb", "bgr", "gray", "featuremap"),
            "nv12, yuv444, rgb, bgr, gray or featuremap, one per input",
        ),
    ] = ()
    input_type_train: Annotated[
        tuple[TrainType, ...],
        _each(
            _among("rgb", "bgr", "gray", "yuv444", "featuremap"),
            "rgb, bgr, gray, yuv444 or featuremap, one per input",
        ),
    ] = ()
    input_layout_train: Layouts = ()
    input_layout_rt: Layouts = ()
    input_space_and_range: Annotated[
        tuple[str, ...], _each(_among("regular", "bt601_video"), "regular or bt601_video")
    ] = ()
    input_shape: Annotated[tuple[tuple[int, ...], ...], _each(_sizes, "like 1x3x224x224, one per input")] = ()
    input_batch: Annotated[int, _whole(1, 4096)] | None = None
    separate_batch: Flag = False
    norm_type: Annotated[
        tuple[str, ...],
        _each(
            _among(
                *("no_preprocess", "data_mean", "data_scale", "data_mean_and_scale"),
                *("data_std", "data_mean_and_std"),
            ),
            "no_preprocess, data_mean, data_scale, data_mean_and_scale, data_std or data_mean_and_std",
        ),
    ] = ()
    mean_value: Numbers = ()
    scale_value: Numbers = ()
    std_value: Numbers = ()


def _share(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0.5 <= number <= 1:
        raise refusal("in 0.5..1", value, "1 is the largest value")
    return number


class CalibrationParameters(Part):
    """The samples, how ranges are chosen, and types of nodes."""

    cal_data_dir: Names = ()
    cal_data_type: Annotated[
        tuple[str, ...], _each(_among("float32", "uint8", "int8", "int16", "int32"), "float32 or uint8")
    ] = ()
    preprocess_on: Flag = False
    calibration_type: Annotated[str, _one_of("default", "max", "kl", "mix", "skip", "load")] = "default"
    max_percentile: Annotated[float, BeforeValidator(_share)] | None = None
    per_channel: Flag = False
    run_on_cpu: Names = ()
    run_on_bpu: Names = ()
    optimization: Annotated[
        tuple[str, ...], BeforeValidator(lambda v: tuple(_parts(str(v).replace(",", ";"))))
    ] = ()
    quant_config: Any = None


class CompilerParameters(Part):
    """How the program is compiled."""

    compile_mode: Annotated[str, _one_of("latency", "bandwidth", "balance")] = "latency"
    balance_factor: Annotated[int, _whole(0, 100)] | None = None
    optimize_level: Annotated[str, _one_of("O0", "O1", "O2", "O3")] = "O2"
    core_num: Annotated[int, _whole(1)] = 1
    max_time_per_fc: Annotated[int, _whole(0)] = 0
    jobs: Annotated[int, _whole(0)] = 0
    advice: Any = None
    debug: Flag = False
    input_source: Any = None
    cache_mode: Annotated[str, _one_of("disable", "enable", "force_overwrite")] = "disable"
    cache_path: str | None = None
    max_l2m_size: Annotated[int, _whole(0)] = 0
    extra_params: Any = None


class Configuration(Part):
    """A whole file."""

    model_parameters: ModelParameters = ModelParameters()
    input_parameters: InputParameters = InputParameters()
    calibration_parameters: CalibrationParameters = CalibrationParameters()
    compiler_parameters: CompilerParameters = CompilerParameters()
    custom_op: Annotated[Any, BeforeValidator(_refused)] = None
