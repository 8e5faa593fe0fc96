"""Facts about the names of the vendor's packages: each works, or its import says what to use instead."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbpu.compat.__main__ import main
from openbpu.compat.finder import VendorFinder, VendorModule, install
from openbpu.compat.names import MODULES, answer
from openbpu.compat.registry import ROWS, Row

HAS_TORCH = importlib.util.find_spec("torch") is not None
COUNTERPART = re.compile(
    r"openbpu|torch|hbdk4|hmct|hbm_runtime|Hbm|onnx|Float|Module|quantiz|featuremap|prepare"
)


@pytest.fixture
def vendor() -> Iterator[None]:
    before = set(sys.modules)
    install()
    yield
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, VendorFinder)]
    for name in set(sys.modules) - before:
        if isinstance(sys.modules[name], VendorModule):
            del sys.modules[name]


def needs_torch(module: str) -> bool:
    return module.startswith(("horizon_plugin", "torch", "pytorch_quantization"))


def imported(row: Row) -> None:
    exec(f"from {row.module} import {row.name or '*'}", {})


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.module}.{row.name}")
def test_a_registered_name_is_what_the_table_says(row: Row) -> None:
    if needs_torch(row.module) and not HAS_TORCH:
        pytest.skip("needs torch")
    if row.status != "refused":
        imported(row)
        return
    with pytest.raises(ImportError) as refused:
        imported(row)
    assert "with the vendor it" in str(refused.value)
    assert COUNTERPART.search(str(refused.value).partition("here use")[2])


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize("module", sorted({row.module for row in ROWS if row.status != "refused"}))
def test_a_star_import_brings_what_works(module: str) -> None:
    if needs_torch(module) and not HAS_TORCH:
        pytest.skip("needs torch")
    if module == "torch.quantization":
        return
    brought: dict[str, object] = {}
    exec(f"from {module} import *", brought)
    names = {row.name for row in ROWS if row.module == module and row.status != "refused"}
    children = {m.rpartition(".")[2] for m in MODULES if m.rpartition(".")[0] == module}
    assert names - children <= set(brought)


@pytest.mark.usefixtures("vendor")
@pytest.mark.skipif(not HAS_TORCH, reason="needs torch")
@pytest.mark.parametrize(
    ("module", "some"),
    [
        ("dtype", "qint16"),
        ("march", "set_march"),
        ("nn.qat", "Conv2d"),
        ("quantization.qconfig", "get_default_qat_qconfig"),
        ("quantization.qconfig_setter", "ModuleNameTemplate"),
        ("quantization.qconfig_template", "default_calibration_qconfig_setter"),
        ("quantization.observer_v2", "MSEObserver"),
        ("quantization.stubs", "QuantStub"),
    ],
)
def test_a_star_import_of_one_package_hides_no_name_of_another(module: str, some: str) -> None:
    """`convert` of hbdk4 and `export` of the plugin's hbdk4 stay what they were."""
    brought: dict[str, object] = {}
    exec(f"from horizon_plugin_pytorch.{module} import *", brought)
    assert some in brought
    others = {"convert", "compile", "export", "prepare", "check_model", "load", "save", "wrap", "Any", "must"}
    assert others.isdisjoint(brought)


def test_no_name_stands_twice_in_the_registry() -> None:
    every = [(row.module, row.name) for row in ROWS]
    assert len(every) == len(set(every))


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import horizon_nn", "hmct.api.build_model"),
        ("from horizon_nn.api import build_onnx", "hmct.api.build_model"),
        ("import hbm_infer.hbm_rpc_session", "openbpu.runtime.Session"),
        ("from hmct.ir import OnnxModel", "onnx.load"),
        ("from hbdk4.compiler.remote_bpu import RemoteBPU", "simulator"),
        ("from hmct.common import constant", "openbpu has no equivalent"),
    ],
)
def test_no_package_of_the_vendor_is_a_bare_module_not_found(text: str, words: str) -> None:
    with pytest.raises(ImportError, match=words) as refused:
        exec(text, {})
    assert type(refused.value) is ImportError


@pytest.mark.parametrize("name", ["convert", "load", "statistics"])
def test_the_nearest_name_is_never_the_one_that_was_asked_for(name: str) -> None:
    assert f"here is {name}" not in answer("hbdk4.compiler", name)


@pytest.mark.usefixtures("vendor")
def test_a_name_that_a_star_import_does_not_bring_is_explained_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    script.write_text("from hmct.quantizer.debugger import *\ntensor_analysis('x', 'y')\n", encoding="utf-8")
    assert main([str(script)]) == 1
    told = capsys.readouterr().err
    assert "tensor_analysis is not provided: with the vendor it prints the values" in told
    assert "script.py:2" in told
    script.write_text("import os\n\nfrom hmct.ir import OnnxModel\n", encoding="utf-8")
    assert main([str(script)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("openbpu: openbpu.compat: hmct.ir.OnnxModel is not provided: ")
    assert "script.py:3" in told
    script.write_text("import hbdk4.compiler as h\nh.disas\n", encoding="utf-8")
    assert main([str(script)]) == 1
    assert "openbpu disasm" in capsys.readouterr().err
    script.write_text("import nothing_of_the_kind\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError):
        main([str(script)])
    script.write_text("frobnicate()\n", encoding="utf-8")
    with pytest.raises(NameError, match="name 'frobnicate' is not defined"):
        main([str(script)])
