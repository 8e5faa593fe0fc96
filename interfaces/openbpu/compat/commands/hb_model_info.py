"""`hb_model_info x.hbm`: what a compiled file, or an ONNX model, holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.hbm import read_package, read_sections
from openbpu.compat.commands.described import tensors_text
from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.hbdk.build import load
from openbpu.compat.screen import say, table
from openbpu.report.info import info_json
from openbpu.report.placement import placement_summary
from openbpu.runtime import Session


def main(arguments: Sequence[str]) -> int:
    """Print march, options, inputs, outputs and segments of a compiled file; the same of a module."""
    parser = Parser("hb_model_info", "What a compiled file, or an ONNX model, holds.")
    parser.add_argument("model", help=".hbm, .bin, .bc or .onnx")
    given = parser.parsed(arguments)
    (path,) = files_of(given.model, "hb_model_info")
    tell = _of_module if path.suffix.lower() in {".bc", ".onnx"} else _of_program
    tell(path)
    return 0


def _of_program(path: Path) -> None:
    for program in read_package(path):
        _of_graph(Session(program), path)


def _of_graph(session: Session, path: Path) -> None:
    found = info_json(session, read_sections(path))
    said = {
        "march": found["march"],
        "product": session.march.product,
        "cores": session.program.working_cores,
        **found["options"],
        "input bytes": found["memory"]["input"],
        "output bytes": found["memory"]["output"],
    }
    say(f"{found['name']} ({path})")
    say(table(("what", "value"), [(k, str(v)) for k, v in said.items()]))
    say(tensors_text(session))
    rows = [
        (s["name"], s["on"], s.get("nodes", sum(s.get("operators", {}).values()))) for s in found["segments"]
    ]
    say(table(("segment", "ON", "operators"), rows))
    say(placement_summary(session.placement))


def _of_module(path: Path) -> None:
    module = load(path)
    function = module[0]
    say(f"{function.name} ({path}), march: {module.march or 'none yet'}")
    ends = [("input", v) for v in function.flatten_inputs] + [("output", v) for v in function.flatten_outputs]
    rows = [(kind, v.name, list(v.type.shape), v.type.np_dtype) for kind, v in ends]
    say(table(("", "name", "shape", "type"), rows))
    counts = Counter(node.op_type for node in module.model.graph.node)
    say(table(("operator", "nodes"), list(counts.most_common())))
