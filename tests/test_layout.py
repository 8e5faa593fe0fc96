"""Facts about the layout: one distribution, one namespace, and who may import which third party."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
ROOTS = ("arch", "compiler", "simulator", "quantization", "runtime", "evaluation", "interfaces")

# Package -> third parties its modules may import ("google" is protobuf). docs/dependencies.md says why.
THIRD_PARTIES = {
    "arch": {"numpy"},
    "compiler": {"google", "numpy", "onnx"},
    "simulator": {"numpy", "llvmlite", "numba"},
    "quantization": {"numpy", "onnx"},
    "quantization/measures.py": {"numpy"},
    "quantization/ranges": {"numpy"},
    "quantization/save.py": {"google", "onnx"},
    "quantization/onnx": {"google", "numpy", "onnx", "pydantic", "pydantic_core", "yaml"},
    "quantization/samples": {"PIL", "numpy"},
    "quantization/torch": {"numpy", "onnx", "onnxscript", "torch"},
    "engine": {"onnx", "onnxruntime"},
    "runtime": {"google", "numpy", "onnx"},
    "evaluation": {"numpy", "onnx"},
    "evaluation/accuracy": {"google", "numpy", "onnx", "pycocotools"},
    "evaluation/distribution": {"cloudpickle", "dask", "distributed"},
    "report": {"numpy", "rich"},
    "report/analysis_file.py": {"pydantic"},
    "report/node_data.py": {"onnx"},
    "report/page": {"jinja2", "markupsafe"},
    "cli": {"numpy", "onnx", "rich", "typer"},
    "onnx_backend": {"numpy", "onnx"},
    "compat": {"numpy", "onnx"},
    "compat/commands": {"numpy", "onnx", "pydantic", "pydantic_core", "yaml"},
}


def packages() -> list[Path]:
    return sorted(path for root in ROOTS for path in (REPO / root / "openbpu").iterdir() if path.is_dir())


def modules() -> list[Path]:
    return sorted(module for package in packages() for module in package.rglob("*.py"))


def imported_names(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def third_parties(module: Path) -> set[str]:
    tops = {name.partition(".")[0] for name in imported_names(module)}
    return tops - sys.stdlib_module_names - {"openbpu"}


def allowed_third_parties(module: Path) -> set[str]:
    inside = module.relative_to(REPO).parts[2:]
    return THIRD_PARTIES.get("/".join(inside[:2])) or THIRD_PARTIES[inside[0]]


@pytest.mark.parametrize("root", ROOTS)
def test_namespace_has_no_init(root: str) -> None:
    assert not (REPO / root / "openbpu" / "__init__.py").exists()


@pytest.mark.parametrize("root", ROOTS)
def test_root_makes_nothing_importable_but_openbpu(root: str) -> None:
    importable = {path.name for path in (REPO / root).iterdir() if path.is_dir() or path.suffix == ".py"}
    assert importable - {"__pycache__"} == {"openbpu"}


@pytest.mark.parametrize("package", packages(), ids=lambda path: path.name)
def test_package_is_documented_and_typed(package: Path) -> None:
    source = (package / "__init__.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert (package / "py.typed").exists()


@pytest.mark.parametrize("module", modules(), ids=lambda path: "/".join(path.parts[-3:]))
def test_module_imports_only_the_third_parties_of_its_package(module: Path) -> None:
    assert third_parties(module) <= allowed_third_parties(module)


def test_tests_ask_onnx_runtime_in_one_place_only() -> None:
    """An optimized graph breaks ties, and is sometimes wrong: `witness.ort` turns the optimizations off."""
    asking = {
        str(module.relative_to(REPO / "tests"))
        for module in (REPO / "tests").rglob("*.py")
        if "openbpu.engine" in imported_names(module)
    }
    assert asking == {"witness/ort.py"}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {module.parent for module in modules()}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_two_roots_define_the_same_package() -> None:
    names = [package.name for package in packages()]
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_wheel_holds_every_file_of_every_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(REPO)], check=True)
    (wheel,) = tmp_path.glob("openbpu-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("openbpu/")}
    expected = {
        f"openbpu/{path.relative_to(package.parent)}"
        for package in packages()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {
        f"openbpu/{module.name}"
        for root in {package.parent for package in packages()}
        for module in root.glob("*.py")
    }
    assert inside == expected
