"""The inputs of a configuration: as trained, as the board gives them, and what lies in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from openbpu.arch.arrays import Array
from openbpu.compat.commands.schema import Configuration
from openbpu.compat.commands.yaml_file import Lines
from openbpu.compat.hbdk.module import Module
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.samples import input_of
from openbpu.quantization.samples import Input

_GROUP = "input_parameters"
_PICTURES = frozenset({"rgb", "bgr", "yuv444"})


@dataclass(frozen=True, slots=True)
class End:
    """An input of the float model.

    rt, train: types of pixels, or featuremap · last: channels last in the model · mean, gain: the model takes
    (x − mean) · gain, one number each or one per channel · video: the board's YUV has the video range ·
    folder: of its calibration samples · raw: type of the numbers in files without a header ·
    layout: of the board's tensor, None for the model's.
    """

    taker: Input
    rt: str
    train: str
    last: bool
    mean: tuple[float, ...] = (0.0,)
    gain: tuple[float, ...] = (1.0,)
    video: bool = False
    folder: str | None = None
    raw: str = "float32"
    layout: str | None = None

    @property
    def name(self) -> str:
        """The input's name."""
        return self.taker.name

    @property
    def normalises(self) -> bool:
        """Whether anything is done with values on the way into the model."""
        return any(m != 0 for m in self.mean) or any(g != 1 for g in self.gain)

    def along(self, values: Sequence[float]) -> Array:
        """Return numbers per channel in the shape that they broadcast in."""
        found = np.asarray(values, np.float32)
        if found.size == 1 or self.last or len(self.taker.shape or ()) != 4:
            return found
        return found.reshape(1, -1, 1, 1)

    def normalised(self, sample: Array) -> Array:
        """Return a sample as the model takes it."""
        if not self.normalises:
            return sample
        made = (sample.astype(np.float32) - self.along(self.mean)) * self.along(self.gain)
        return np.asarray(made, np.float32)


def ends_of(config: Configuration, model: ModelProto, lines: Lines) -> tuple[End, ...]:
    """Return the inputs in the order of the model; raises InputError, by line, for what does not fit."""
    values = fed_inputs(model)
    named = [value.name for value in values]
    names = list(config.input_parameters.input_name) or named
    for name in names:
        if name not in named:
            fix = "these are the model's"
            raise lines.wrong((_GROUP, "input_name"), f"among {', '.join(named)}", f"'{name}'", fix)
    if len(names) != len(named):
        raise lines.wrong((_GROUP, "input_name"), f"all of {', '.join(named)}", "; ".join(names))
    picked = _Picked(config, lines, names)
    return tuple(_end(picked, names.index(value.name), input_of(value)) for value in values)


class _Picked:
    """Values of keys that have one per input."""

    def __init__(self, config: Configuration, lines: Lines, names: Sequence[str]) -> None:
        self.config, self.lines, self.names = config, lines, names

    def of(self, key: str, place: int, usual: Any, group: str = _GROUP) -> Any:
        """Return the value for an input: the only one does for all; `usual` where there is none."""
        values = getattr(getattr(self.config, group), key)
        if not values:
            return usual
        if len(values) not in {1, len(self.names)}:
            fix = f"the inputs are {'; '.join(self.names)}"
            raise self.lines.wrong(
                (group, key), "one value per input, with ; between", f"{len(values)} values", fix
            )
        return values[place] if len(values) > 1 else values[0]


def _end(picked: _Picked, place: int, taker: Input) -> End:
    lines, of = picked.lines, picked.of
    shape = of("input_shape", place, None)
    if shape is not None:
        taker = Input(taker.name, shape, taker.dtype)
    taker = _of_one(taker, lines)
    rt, train = of("input_type_rt", place, "featuremap"), of("input_type_train", place, "featuremap")
    last = of("input_layout_train", place, _usual_layout(taker)) == "NHWC"
    mean, gain = _normalisation(picked, place)
    channels = _channels(taker, last=last)
    for key, values in (("mean_value", mean), ("scale_value", gain)):
        if len(values) not in {1, channels}:
            allowed = f"one number or {channels} for input '{taker.name}'"
            raise lines.wrong((_GROUP, key), allowed, f"{len(values)} numbers")
    _check_types(picked, rt, train, channels)
    return End(
        taker,
        rt,
        train,
        last,
        mean,
        gain,
        of("input_space_and_range", place, "regular") == "bt601_video",
        of("cal_data_dir", place, None, "calibration_parameters"),
        of("cal_data_type", place, "float32", "calibration_parameters"),
        of("input_layout_rt", place, None),
    )


def _of_one(taker: Input, lines: Lines) -> Input:
    """Return the input with a free batch of 1; raises InputError where another axis is free."""
    shape = taker.shape
    if shape is None or not all(isinstance(size, int) for size in shape[1:]):
        fix = "give all sizes, as 1x3x224x224"
        allowed = f"given for input '{taker.name}'"
        raise lines.wrong(
            (_GROUP, "input_shape"), allowed, f"left out, where the model has {taker.shown}", fix
        )
    if shape and not isinstance(shape[0], int):
        return Input(taker.name, (1, *shape[1:]), taker.dtype)
    return taker


def _usual_layout(taker: Input) -> str:
    shape = taker.shape or ()
    return "NHWC" if len(shape) == 4 and shape[3] in {1, 3} and shape[1] not in {1, 3} else "NCHW"


def _channels(taker: Input, *, last: bool) -> int:
    shape = taker.shape or ()
    found = shape[-1 if last else 1] if len(shape) > 1 else 1
    return found if isinstance(found, int) else 1


def _normalisation(picked: _Picked, place: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and gain by norm_type, or by which values are given where it says nothing."""
    of, lines = picked.of, picked.lines
    kind = of("norm_type", place, "")
    mean, scale, std = (of(key, place, ()) for key in ("mean_value", "scale_value", "std_value"))
    if kind == "no_preprocess":
        return (0.0,), (1.0,)
    needs = {"mean": ("mean_value", mean), "scale": ("scale_value", scale), "std": ("std_value", std)}
    for word, (key, values) in needs.items():
        if word in kind and not values:
            raise lines.wrong((_GROUP, "norm_type"), f"given with {key}", f"'{kind}' alone")
    if kind and "mean" not in kind:
        mean = ()
    if kind and "scale" not in kind:
        scale = ()
    if kind and "std" not in kind:
        std = ()
    if scale and std:
        raise lines.wrong(
            (_GROUP, "std_value"), "given without scale_value", "given with it", "std is 1 / scale"
        )
    for key, values in (("std_value", std), ("scale_value", scale)):
        if any(v == 0 or not isfinite(v) for v in values):
            raise lines.wrong((_GROUP, key), "finite and not 0", " ".join(map(str, values)))
    gain = tuple(1 / v for v in std) if std else scale
    return mean or (0.0,), gain or (1.0,)


def _check_types(picked: _Picked, rt: str, train: str, channels: int) -> None:
    """Refuse conversions that no picture has: colours of a featuremap, three channels of gray."""
    wrong, key = picked.lines.wrong, (_GROUP, "input_type_rt")
    if (rt == "featuremap") != (train == "featuremap"):
        raise wrong(
            key, f"what input_type_train '{train}' can be made of", rt, "make both featuremap, or neither"
        )
    wanted = {"gray": 1, "featuremap": channels}.get(train, 3)
    if channels != wanted:
        allowed = f"'{train}' for an input of {wanted} channels"
        raise wrong((_GROUP, "input_type_train"), allowed, f"{channels} channels", "check input_layout_train")
    if rt == "gray" and train != "gray":
        raise wrong(key, "gray only where input_type_train is gray", f"gray for {train}")
    if train == "gray" and rt not in {"gray", "nv12"}:
        raise wrong(key, "gray or nv12 where input_type_train is gray", rt)
    if train == "yuv444" and rt not in {"yuv444", "nv12"}:
        raise wrong(key, "yuv444 or nv12 where input_type_train is yuv444", rt)


def with_normalisation(model: ModelProto, ends: Sequence[End]) -> ModelProto:
    """Return the model with (x − mean) · gain in front of its inputs, which keep their names."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    front = []
    for end in ends:
        if not end.normalises:
            continue
        inner = f"{end.name}/normalised"
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == end.name:
                    node.input[i] = inner
        for what, values in (("mean", end.mean), ("gain", end.gain)):
            graph.initializer.append(numpy_helper.from_array(end.along(values), f"{end.name}/{what}"))
        shifted = f"{end.name}/shifted"
        front += [
            helper.make_node("Sub", [end.name, f"{end.name}/mean"], [shifted], f"{end.name}/Sub"),
            helper.make_node("Mul", [shifted, f"{end.name}/gain"], [inner], f"{end.name}/Mul"),
        ]
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *behind])
    return made


def for_the_board(model: ModelProto, ends: Sequence[End]) -> Module:
    """Return the module that takes what the board gives: planes, pixels in bytes, or the tensor itself."""
    own = ModelProto()
    own.CopyFrom(model)
    module = Module(own)
    for end in ends:
        put = _feature if end.rt == "featuremap" else _picture
        put(module, end)
    return module


def _input(module: Module, name: str) -> Any:
    return next(one for one in module[0].flatten_inputs if one.name == name)


def _feature(module: Module, end: End) -> None:
    if end.normalises:
        module.model.CopyFrom(with_normalisation(module.model, [end]))
    turns = end.layout is not None and (end.layout == "NHWC") != end.last
    turns &= len(end.taker.shape or ()) == 4
    if turns:
        _input(module, end.name).insert_transpose([0, 2, 3, 1] if end.last else [0, 3, 1, 2])


def _picture(module: Module, end: End) -> None:
    if not end.last:
        _input(module, end.name).insert_transpose([0, 3, 1, 2])
    values = {"mean": end.mean, "std": [1 / gain for gain in end.gain]}
    _input(module, end.name).insert_image_preprocess(_mode(end), 1.0, **values, is_signed=False)
    if end.rt == "nv12":
        _input(module, end.name).insert_image_convert("gray" if end.train == "gray" else "nv12")


def _mode(end: End) -> str:
    """Return the conversion from the board's pixels to those of the training."""
    if end.rt in {"nv12", "yuv444"} and end.train in {"rgb", "bgr"}:
        return f"yuvbt601{'video' if end.video else 'full'}2{end.train}"
    if {end.rt, end.train} == {"rgb", "bgr"}:
        return f"{end.rt}2{end.train}"
    return "skip"
