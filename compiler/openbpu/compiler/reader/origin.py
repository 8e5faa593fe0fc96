"""What the exporter said about a node: the module it came from and the line of code that called it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath

from onnx import NodeProto

from openbpu.arch.marks import STAYS_FLOAT
from openbpu.compiler.ir.graph import Origin

_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACE = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_DOC_FRAME = re.compile(r"^(?:# )?(\S.*)\((\d+)\): ", re.MULTILINE)
_LIBRARY = re.compile(r"(^|[\\/])(site-packages|dist-packages)[\\/]torch[\\/]")
_MAX_TEXT = 100_000


def origin_of(node: NodeProto, name: str) -> Origin:
    """Return the origin of `node`, known to the user as `name`; never raises, whatever the metadata holds."""
    said = {entry.key: entry.value for entry in node.metadata_props}
    scope = _scope(said.get(_SCOPES, "")) or _scope_in_name(node.name)
    source = _source(said.get(_TRACE, "")) or _source_in_doc(node.doc_string)
    return Origin(name, node.op_type, scope, source, said.get(STAYS_FLOAT) == "true")


def _scope(text: str) -> str:
    """Deepest module path of torch's list: "['', 'layer1', 'layer1.0.conv1', 'conv2d']" → "layer1.0.conv1".

    The last entry is the traced function's own name, not a module.
    """
    paths = _string_list(text)
    modules = [path for path in paths[:-1] if path]
    return modules[-1] if modules else ""


def _scope_in_name(name: str) -> str:
    """Module path in a name of torch's older exporter: "/layer1/layer1.0/conv1/Conv" → "layer1.0.conv1"."""
    if not name.startswith("/"):
        return ""
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)


def _string_list(text: str) -> list[str]:
    if not text or len(text) > _MAX_TEXT:
        return []
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return [str(item) for item in parsed] if isinstance(parsed, (list, tuple)) else []


def _source(trace: str) -> str:
    """Innermost frame that is not torch's own, as "file.py:123"."""
    frames = _FRAME.findall(trace[-_MAX_TEXT:])
    return next(_short(frames, keep_library=False), next(_short(frames, keep_library=True), ""))


def _source_in_doc(text: str) -> str:
    """The same of torch's older exporter, innermost frame first: "/home/me/net.py(12): forward"."""
    frames = _DOC_FRAME.findall(text[:_MAX_TEXT])[::-1]
    return next(_short(frames, keep_library=False), next(_short(frames, keep_library=True), ""))


def _short(frames: list[tuple[str, str]], *, keep_library: bool) -> Iterator[str]:
    for file, line in reversed(frames):
        if keep_library or not _LIBRARY.search(file):
            name = PureWindowsPath(file).name if "\\" in file else PurePosixPath(file).name
            yield f"{name}:{line}"
