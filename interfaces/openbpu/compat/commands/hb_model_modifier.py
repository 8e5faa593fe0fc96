"""`hb_model_modifier x.bin [-a | -r NODE]`: nodes at the ends of a compiled file.

A compiled file has no graph any more, so the quantized model that was written beside it is compiled again
without them, with the options of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openbpu.arch.errors import InputError, must
from openbpu.arch.hbm import write_hbm
from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.hbdk.build import load
from openbpu.compat.hbdk.ends import REMOVABLE
from openbpu.compat.hbdk.module import Module
from openbpu.compat.screen import say, table
from openbpu.runtime import Session

_KEPT = ("opt", "balance", "core_num", "max_l2m_size")
"""Options of the compiled file that the new one has as well."""

_BESIDE = ("_quantized_model.bc", "_ptq_model.onnx", "_quantized_model.onnx")


def main(arguments: Sequence[str]) -> int:
    """List the nodes that can be removed, or remove all (-a) or some (-r) of them."""
    parser = Parser("hb_model_modifier", "Nodes at the ends of a compiled file are listed and removed.")
    parser.add_argument("model", help=".bin or .hbm, beside its quantized model")
    parser.add_argument("-a", "--all", action="store_true", help="remove every node that can be")
    parser.add_argument(
        "-r", "--remove", action="append", default=[], metavar="NODE", help="remove this node"
    )
    parser.add_argument("-o", "--output", help="the file to write (NAME_modified beside it)")
    given = parser.parsed(arguments)
    (path,) = files_of(given.model, "hb_model_modifier")
    module, session = _module(path), Session(path)
    there = _removable(module)
    if not given.all and not given.remove:
        say(table(("Node", "Type", "at"), [(name, op, end) for name, (op, end) in there.items()]))
        say("remove them all with -a, or some with -r NODE")
        return 0
    for name in given.remove:
        if name not in there:
            raise InputError(must("-r", "the node", f"one of {', '.join(there) or 'none'}", f"'{name}'"))
    names = list(there) if given.all else given.remove
    _strip(module, names, there, every=given.all)
    target = Path(given.output) if given.output else path.with_name(f"{path.stem}_modified{path.suffix}")
    _write(module, session, target)
    say(f"removed {', '.join(names)}; wrote {target}")
    return 0


def _module(path: Path) -> Module:
    for ending in _BESIDE:
        beside = path.with_name(path.stem + ending)
        if beside.is_file():
            return load(beside)
    fix = "or compile the model again with `openbpu compile --remove-io quantize,dequantize`"
    allowed = f"beside it, as {path.stem}{_BESIDE[0]} or {path.stem}{_BESIDE[1]}"
    raise InputError(must(str(path), "the quantized model", allowed, "missing", fix))


def _removable(module: Module) -> dict[str, tuple[str, str]]:
    """Return name → (type, end) of the nodes beside the ends; without a name that of what they make."""
    found = {}
    ends = [*module[0].flatten_inputs, *module[0].flatten_outputs]
    for end in ends:
        for node in end.get_attached_op():
            if node.op_type in REMOVABLE:
                node.name = node.name or node.output[0]
                found[node.name] = (node.op_type, end.name)
    return found


def _strip(module: Module, names: Sequence[str], there: dict[str, tuple[str, str]], *, every: bool) -> None:
    """Take nodes off; with `every`, and where none of a kind stays, what the units do at the ends as well."""
    kinds = {"QuantizeLinear", "DequantizeLinear"}
    left = {there[name][0] for name in set(there) - set(names)}
    gone = kinds if every else {there[name][0] for name in names} & kinds - left
    module[0].remove_io_op(op_types=sorted(gone), op_names=names)


def _write(module: Module, session: Session, target: Path) -> None:
    from openbpu.compiler import compile as build  # noqa: PLC0415  # only when it is used

    before: dict[str, str] = dict(session.program.options)
    used: dict[str, Any] = {name: int(before[name]) for name in _KEPT if name in before}
    used["remove_io"] = module.removed
    program = build(module.model, march=session.program.march, options=used)
    write_hbm(program, target)
