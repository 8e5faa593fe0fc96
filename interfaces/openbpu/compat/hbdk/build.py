"""The functions of `hbdk4.compiler`: load, save, convert, compile, link, statistics, visualize, hbm_perf."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from openbpu.arch.errors import CompileError, ModelError, must
from openbpu.arch.files import copy_file, write_text
from openbpu.arch.hbm import write_hbm
from openbpu.compat.hbdk.hbm import Hbm, Hbo
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


def link(objects: Sequence[Hbm | Path_], path: Path_, **ignored: Any) -> Hbm:
    """Make a `.hbm` of one compiled object; raises CompileError for several: it holds one graph."""
    del ignored
    if len(objects) != 1:
        fix = "keep a .hbm per graph"
        raise CompileError(must("link", "objects", "one", len(objects), fix))
    source = objects[0]
    copy_file(source.path if isinstance(source, Hbm) else source, path)
    return Hbm(path)


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
    """Simulate the latency of a `.hbm`; prints and returns the report.

    NAME.json and NAME.html go into `output_dir`.
    """
    del ignored
    file = Path(path.path if isinstance(path, Hbm) else path)
    session = Session(file)
    document = performance_json(session)
    folder = Path(output_dir) if output_dir is not None else Path()
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{file.stem}.json"
    write_text(written, json.dumps(document))
    write_text(written.with_suffix(".html"), performance_page(document, file.stem))
    found = document["summary"]["performance"]
    ddr = document["summary"]["DDR access data"]
    moved = ddr["loaded bytes per run"] + ddr["stored bytes per run"]
    say(
        f"{file.name}: FPS={found['FPS']}, latency = {found['latency (us)']} us, DDR = {moved} bytes"
        f" ({written})"
    )
    cpu = session.latency.cpu_us
    if cpu:
        say(f"{file.name}: CPU segments are not in this figure: {cpu:.1f} us, estimated")
    return document
