"""Every file that the packages write goes through `openbpu.arch.files`: whole, or not there at all."""

import ast
from collections.abc import Iterator

import pytest

from test_layout import REPO, modules

OWN = {
    "arch/openbpu/arch/files.py": {"os.fdopen"},
    "arch/openbpu/arch/journal.py": {"os.fdopen"},  # lines of long work; one that is cut off is taken away
    "interfaces/openbpu/cli/guard.py": {".open"},  # os.devnull, in place of a standard error that is closed
}
"""What may open files for writing: the writer itself, and what is no file."""

METHODS = {"write_text", "write_bytes", "tofile", "copyfile", "copy2", "copytree", "move", "rename", "touch"}
MAKERS = {"NamedTemporaryFile", "TemporaryDirectory", "mkstemp", "mkdtemp", "fdopen"}
LIBRARIES = {"np", "numpy", "onnx", "torch", "json", "pickle", "marshal", "shutil", "image"}
SAVERS = {"save", "savez", "savez_compressed", "savetxt", "save_model", "dump"}


def mode_of(call: ast.Call) -> str:
    """The mode that a call of open() gives; "?" where it is no constant."""
    first = 0 if isinstance(call.func, ast.Attribute) else 1  # path.open(mode), open(path, mode)
    given = [k.value for k in call.keywords if k.arg == "mode"] or call.args[first : first + 1]
    if not given:
        return "r"
    return str(given[0].value) if isinstance(given[0], ast.Constant) else "?"


def writers(source: str) -> Iterator[str]:
    """Calls that make or change a file, as OBJECT.NAME."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        text = f"{owner}.{name}" if owner.isidentifier() else f".{name}"
        buffer = node.args and isinstance(node.args[0], ast.Name) and node.args[0].id == "buffer"
        if (
            (name == "open" and owner != "os" and set(mode_of(node)) & set("wax+?") and owner != "Image")
            or (owner and name in METHODS)
            or name in MAKERS
            or (owner in LIBRARIES and name in SAVERS and not buffer)
        ):
            yield text


@pytest.mark.parametrize(
    "source",
    [
        "open(p, 'w')",
        "open(p, mode='ab')",
        "Path(p).open('x')",
        "path.open('r+b')",
        "open(p, m)",
        "p.write_text(t)",
        "(a / b).write_bytes(t)",
        "np.save(p, a)",
        "np.savez(p, a=a)",
        "onnx.save(m, p)",
        "torch.save(m, p)",
        "json.dump(d, f)",
        "a.tofile(p)",
        "shutil.copyfile(a, b)",
        "tempfile.mkstemp()",
        "os.fdopen(n, 'w')",
    ],
)
def test_a_writer_is_recognised(source: str) -> None:
    assert list(writers(source))


@pytest.mark.parametrize(
    "source", ["open(p)", "p.open('rb')", "write_text(p, t)", "np.save(buffer, a)", "os.open(p, f)"]
)
def test_what_writes_no_file_is_none(source: str) -> None:
    assert not list(writers(source))


def test_no_module_writes_files_but_through_the_one_writer() -> None:
    found = {str(m.relative_to(REPO)): set(writers(m.read_text(encoding="utf-8"))) for m in modules()}
    assert {name: calls for name, calls in found.items() if calls} == OWN
