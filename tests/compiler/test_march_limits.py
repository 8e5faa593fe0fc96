"""Every number among the limits of a march is read by something that it can change."""

import re
from dataclasses import fields, replace
from typing import Any

import onnx
import pytest

from openbpu.arch.errors import ModelError
from openbpu.arch.march import LIMITS, March, get_march, march_names
from openbpu.arch.march.march import Aae, Chip, Cpu, Ddr, Tae, Trans, Vae, Vpu
from openbpu.arch.numerics import MAX_SEGMENTS
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.compiler.ops import OPS
from test_layout import REPO, ROOTS

SECTIONS = (Chip, Tae, Vae, Aae, Trans, Vpu, Ddr, Cpu, March)

_WAITING = {
    "ArgMax": {"arg_axis_max", "arg_axis_only"},
    "CumSum": {"cumsum_axis_max"},
}
_COMPOSED = {"conv3d_kernel_max", "conv3d_stride_max", "conv3d_channels_max"}
"""Published numbers of a unit that nothing needs: a 3-D convolution becomes one of images (`ops.taps`)."""
WAITING = {key for op, keys in _WAITING.items() if op not in OPS for key in keys}
"""Published numbers of operators that no row of the table runs yet: who adds the row makes it read them."""


def with_limits(**limits: int) -> March:
    march = get_march("nash-e")
    return replace(march, limits={**march.limits, **limits})


def sources() -> str:
    """The text of all packages but the room of the march files, which only carries numbers."""
    files = (path for root in ROOTS for path in (REPO / root).rglob("*.py") if path.parent.name != "march")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_every_limit_is_read() -> None:
    text, put_together = sources(), {"model_inputs_max", "model_outputs_max"}
    unread = {key for key in LIMITS if key not in text} - put_together
    assert unread == WAITING | _COMPOSED


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_number_of_a_section_is_read(section: type[Any]) -> None:
    text = sources()
    unread = {field.name for field in fields(section) if not re.search(rf"\.{field.name}\b", text)}
    assert unread == ({"nv12_stride"} if section is Chip else set()), "images in NV12 are for who runs them"


def many_ends(inputs: int, outputs: int) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    ins = ", ".join(f"float[2] {name}" for name in names)
    outs = ", ".join(f"float[2] {name}" for name in made)
    body = "\n".join(f"{name} = Sum ({', '.join(names)})" for name in made)
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g ({ins}) => ({outs}) {{ {body} }}'
    )


@pytest.mark.parametrize(("key", "ends"), [("inputs", (4, 1)), ("outputs", (1, 4))])
def test_a_model_has_no_more_ends_than_the_march_takes(key: str, ends: tuple[int, int]) -> None:
    model = many_ends(*ends)
    assert check(model, march=with_limits(**{f"model_{key}_max": 4}))
    wanted = f"model: the number of {key} must be at most 3 on nash-e, not 4; "
    for run in (check, compile_model):
        with pytest.raises(ModelError, match=wanted):
            run(model, march=with_limits(**{f"model_{key}_max": 3}))


@pytest.mark.parametrize("name", march_names())
def test_no_march_has_longer_tables_than_the_instruction_set(name: str) -> None:
    assert get_march(name).limits["lut_segments_max"] <= MAX_SEGMENTS
