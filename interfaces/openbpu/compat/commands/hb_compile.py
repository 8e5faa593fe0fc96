"""`hb_compile -c x.yaml`, or `-m x.onnx --march nash-e [--fast-perf]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.compat.commands.build import STAGES, build, planned, random_plan
from openbpu.compat.commands.checker import checked
from openbpu.compat.commands.parser import Parser, files_of, shapes_of


def main(arguments: Sequence[str]) -> int:
    """Build from a YAML file, build for latency only, or check where nodes will run."""
    parser = Parser("hb_compile", "From an ONNX model to a .hbm.")
    parser.add_argument("-c", "--config", help="a YAML file")
    parser.add_argument("-m", "--model", help="an ONNX model, for a check or --fast-perf")
    parser.add_argument("--march", help="nash-e, nash-m, nash-p, …")
    parser.add_argument("--fast-perf", action="store_true", help="ranges from noise: for latency only")
    parser.add_argument("-i", "--input-shape", nargs=2, action="append", metavar=("NAME", "SHAPE"))
    parser.add_argument("--core-num", type=int, default=1)
    parser.add_argument("--skip", choices=STAGES, help="end before this stage")
    given = parser.parsed(arguments)
    shapes = shapes_of(given.input_shape, "hb_compile")
    if given.config is not None:
        if given.model is not None or given.fast_perf:
            raise InputError(must("hb_compile", "-c", "given without --model and --fast-perf", "with them"))
        build(planned(Path(given.config), stop=given.skip or ""))
        return 0
    if given.model is None or given.march is None:
        raise InputError(
            must("hb_compile", "the options", "-c FILE, or --model FILE --march MARCH", "neither")
        )
    (model,) = files_of(given.model, "hb_compile")
    if given.fast_perf:
        plan = random_plan(
            model,
            given.march,
            shapes,
            Path("model_output"),
            suffix=".hbm",
            core_num=given.core_num,
            stop=given.skip or "",
        )
        build(plan)
        return 0
    return checked(model, given.march, shapes)
