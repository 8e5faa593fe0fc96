"""`hb_mapper checker` and `hb_mapper makertbin`, the commands of the older tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.compat.commands.build import build, planned, random_plan
from openbpu.compat.commands.checker import checked
from openbpu.compat.commands.parser import Parser, files_of, shapes_of


def main(arguments: Sequence[str]) -> int:
    """Check a model, or build from a YAML file (or for latency only)."""
    parser = Parser("hb_mapper", "checker: where nodes run; makertbin: from a YAML file to a .bin.")
    parser.add_argument("command", choices=("checker", "makertbin"))
    parser.add_argument("--model-type", default="onnx", help="onnx")
    parser.add_argument("-m", "--model", help="an ONNX model")
    parser.add_argument("--proto", help="of Caffe models, which are not read")
    parser.add_argument("--march", help="bayes-e, bayes, …")
    parser.add_argument("-c", "--config", help="a YAML file")
    parser.add_argument("--fast-perf", action="store_true", help="ranges from noise: for latency only")
    parser.add_argument("-i", "--input-shape", nargs=2, action="append", metavar=("NAME", "SHAPE"))
    parser.add_argument("-o", "--output", help="a log that older versions wrote")
    given = parser.parsed(arguments)
    if given.model_type != "onnx" or given.proto is not None:
        fix = "export the model to ONNX from the framework it was trained in"
        raise InputError(must("hb_mapper", "--model-type", "onnx", f"'{given.model_type}'", fix))
    shapes = shapes_of(given.input_shape, "hb_mapper")
    if given.command == "makertbin" and given.config is not None and not given.fast_perf:
        build(planned(Path(given.config), suffix=".bin"))
        return 0
    if given.model is None or given.march is None:
        wanted = "--model FILE --march MARCH"
        wanted = f"--config FILE, or --fast-perf {wanted}" if given.command == "makertbin" else wanted
        raise InputError(must(f"hb_mapper {given.command}", "the options", wanted, "less"))
    (model,) = files_of(given.model, "hb_mapper")
    if given.command == "checker":
        return checked(model, given.march, shapes)
    if not given.fast_perf:
        raise InputError(must("hb_mapper makertbin", "--model", "given with --fast-perf", "without it"))
    build(random_plan(model, given.march, shapes, Path("model_output"), suffix=".bin"))
    return 0
