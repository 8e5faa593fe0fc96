"""The functions of `hbdk4.compiler`: load, save, convert, compile, link, statistics, visualize, hbm_perf."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from openbpu.arch.errors import CompileError, ModelError, must
from openbpu.arch.files import copy_file, write_text
from openbpu.arch.hbm import read_package, write_hbm, write_package
from openbpu.arch.program import Program
from openbpu.compat.hbdk.hbm import DESC, Hbm, Hbo
from openbpu.compat.hbdk.module import MARCH_KEY, Module, as_module, check_march
from openbpu.compat.level import level
from openbpu.compat.march import march_name
from openbpu.compat.placement import placement_text, write_placement
from openbpu.compat.screen import say, table
from openbpu.quantization.save import write_model
from openbpu.report.page import performance_page
from openbpu.report.performance import performance_json
from openbpu.runtime import Session

Path_ = str | os.PathLike[str]


def load(path: Path_) -> Module:
    """Read a module that `save` wrote, or any ONNX model; raises ModelError for the vendor's own files."""
    try:
        model = onnx.load(path)
    except OSError as error:
        raise ModelError(must("load", "the path", "a readable file", f"'{os.fspath(path)}'")) from error
    except Exception as error:  # protobuf's own, which is no dependency of this package
        fix = "the vendor's .bc files cannot be read: export the model again with openbpu"
        raise ModelError(must("load", "the file", "an ONNX model", f"'{os.fspath(path)}'", fix)) from error
    return Module(model)


def save(m: Any, path: Path_) -> None:
    """Write a module as ONNX, whatever the suffix of the path; raises ModelError as `write_model` does."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_model(as_module(m, "save").model, path)


def convert(m: Any, march: Any, advice: bool = False, advice_path: str = "", **ignored: Any) -> Module:
    """Bind a module to a march, having checked where its nodes run.

    advice: print the placement with reasons and fixes. advice_path: a folder that it is written to.
    Raises what `openbpu.compiler.check` raises. Other options of the vendor's are accepted and do nothing.
    """
    del ignored
    from openbpu.compiler import check  # noqa: PLC0415  # only when it is used

    module, name = as_module(m, "convert"), march_name(march)
    placement = check(module.model, march=name)
    if advice:
        say(placement_text(placement))
    if advice_path:
        write_placement(placement, Path(advice_path))
    return module.with_note(MARCH_KEY, name)


def compile(  # noqa: A001 - the vendor's name
    m: Any,
    path: Path_ = "model.hbm",
    march: Any = None,
    opt: int | str = 2,
    balance: int = 100,
    core_num: int = 1,
    max_l2m_size: int = 0,
    **ignored: Any,
) -> Hbm:
    """Compile a module and write it; the suffix decides what is returned: Hbm, or Hbo for `link`.

    march: that of `convert` unless given. opt, balance, core_num, max_l2m_size: as in
    `openbpu.compiler.compile`, whose errors it raises. Other options of the
    vendor's (jobs, progress_bar, …) are accepted and do nothing.
    """
    del ignored
    from openbpu.compiler import compile as build  # noqa: PLC0415  # only when it is used

    module = as_module(m, "compile")
    target = module.march if march is None else march
    if target is None:
        raise CompileError(must("compile", "march", "given", None, "compile(m, path, March.NASH_M)"))
    name = check_march(module, target, "compile")
    program = build(
        module.model,
        march=name,
        opt=level(opt),
        balance=balance,
        core_num=core_num,
        max_l2m_size=max_l2m_size,
        remove_io=module.removed,
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_hbm(program, path)
    return (Hbo if Path(path).suffix == ".hbo" else Hbm)(path)


def link(objects: Sequence[Hbm | Path_], path: Path_, desc: str | None = None, **ignored: Any) -> Hbm:
    """Write the graphs of compiled objects to one `.hbm`, weights that they share stored once.

    desc: a description, which Hbm shows. Raises CompileError for objects of different marches, HbmError for
    graphs of one name.
    """
    del ignored
    files = [source.path if isinstance(source, Hbm) else source for source in objects]
    programs = [program for file in files for program in read_package(file)]
    marches = {program.march for program in programs}
    if len(marches) != 1:
        found = ", ".join(sorted(marches)) or "no object"
        raise CompileError(must("link", "the objects", "of one march", found))
    if desc is None and len(files) == 1:
        copy_file(files[0], path)
        return Hbm(path)
    if desc is not None:
        programs = [_described(program, desc) for program in programs]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_package(programs, path)
    return Hbm(path)


def _described(program: Program, desc: str) -> Program:
    kept = tuple((k, v) for k, v in program.options if k != DESC)
    return replace(program, options=(*kept, (DESC, desc)))


def statistics(m: Any) -> dict[str, int]:
    """Print how many nodes of each operator the module has; returns the counts."""
    counts = Counter(node.op_type for node in as_module(m, "statistics").model.graph.node)
    say(table(("Operator", "Count"), [(op, str(n)) for op, n in counts.most_common()]))
    return dict(counts)


def visualize(m: Any, onnx_file: Path_ | None = None, use_netron: bool = False, **ignored: Any) -> Path:
    """Write the module as ONNX, for a viewer such as Netron; returns the path."""
    del ignored
    if isinstance(m, Hbm):
        fix = "a compiled file is shown by `openbpu info` and `openbpu disasm`"
        raise ModelError(must("visualize", "the model", "a module", "a .hbm", fix))
    path = Path(onnx_file) if onnx_file is not None else Path("model.onnx")
    save(m, path)
    hint = "; openbpu starts no viewer: open the file in Netron" if use_netron else ""
    say(f"wrote {path}{hint}")
    return path


def hbm_perf(path: Path_ | Hbm, output_dir: Path_ | None = None, **ignored: Any) -> dict[str, Any]:
    """Simulate the latency of a `.hbm`, write NAME.json and NAME.html into `output_dir`, print the figures.

    Returns the report. Of a file with several graphs each has files of its own, NAME_0.json and so on, and
    the report is that of the first.
    """
    del ignored
    hbm = path if isinstance(path, Hbm) else Hbm(path)
    folder = Path(output_dir) if output_dir is not None else Path()
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(hbm.path).stem
    several = len(hbm) > 1
    found = [
        _timed(session, folder / (f"{stem}_{n}" if several else stem), Path(hbm.path).name)
        for n, session in enumerate(hbm.sessions)
    ]
    return found[0]


def _timed(session: Session, target: Path, name: str) -> dict[str, Any]:
    document = performance_json(session)
    written = target.with_name(f"{target.name}.json")
    write_text(written, json.dumps(document))
    write_text(target.with_name(f"{target.name}.html"), performance_page(document, target.name))
    found = document["summary"]["performance"]
    ddr = document["summary"]["DDR access data"]
    moved = ddr["loaded bytes per run"] + ddr["stored bytes per run"]
    say(f"{name}: FPS={found['FPS']}, latency = {found['latency (us)']} us, DDR = {moved} bytes ({written})")
    cpu = session.latency.cpu_us
    if cpu:
        say(f"{name}: CPU segments are not in this figure: {cpu:.1f} us, estimated")
    return document
