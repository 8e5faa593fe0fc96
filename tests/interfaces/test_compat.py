"""Facts about `openbpu.compat`: scripts written for the vendor's modules run, and what is missing says so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.arch.errors import CompileError, HbmError, ModelError
from openbpu.compat.finder import VendorFinder, VendorModule, install
from openbpu.compat.hbdk import (
    Hbm,
    Hbo,
    compile,  # noqa: A004 - the name of the vendor
    convert,
    hbm_perf,
    link,
    load,
    save,
    statistics,
    visualize,
)
from openbpu.compat.hbdk.onnx import export
from openbpu.compat.march import March, march_name
from openbpu.compat.names import MODULES, target_of
from openbpu.runtime import Session

DIGITS = Path(__file__).parents[2] / "models" / "digits"
QDQ = DIGITS / "digits.q.onnx"
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def vendor() -> Iterator[None]:
    """Provide the vendor's names for one test."""
    before = set(sys.modules)
    install()
    yield
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, VendorFinder)]
    for name in set(sys.modules) - before:
        if isinstance(sys.modules[name], VendorModule):
            del sys.modules[name]


def run_script(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "openbpu.compat", str(script), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=folder)


DEPLOYMENT = """\
import sys
import numpy as np
from hbdk4.compiler import load, save, convert, compile, hbm_perf, visualize, statistics, Hbm, link
from hbdk4.compiler.march import March

if __name__ == "__main__":
    module = load(sys.argv[1])
    func = module.functions[0]
    func.remove_io_op(op_types=["Dequantize"])
    quantized = convert(module, March.NASH_E, advice=True, advice_path="advice")
    statistics(quantized)
    save(quantized, "q.bc")
    compile(load("q.bc"), "model.hbo", March.NASH_E, opt=2, jobs=4, progress_bar=True)
    link(["model.hbo"], "model.hbm")
    hbm = Hbm("model.hbm", mode="exact")
    graph = hbm.graphs[0]
    image = graph.flatten_inputs[0]
    out = graph.feed({image.name: np.zeros(image.type.shape, image.type.np_dtype)})
    print("DTYPE", out["logits"].dtype, hbm.march_name, [n.device for n in graph.nodes])
    hbm_perf("model.hbm", "perf")
"""


def test_a_deployment_script_runs_without_a_changed_line(tmp_path: Path) -> None:
    ran = run_script(tmp_path, DEPLOYMENT, str(QDQ))
    assert ran.returncode == 0, ran.stderr
    assert "DTYPE int" in ran.stdout
    assert "nash-e ['BPU']" in ran.stdout
    assert "on the BPU in 1 subgraph" in ran.stdout
    assert "latency = " in ran.stdout
    assert (tmp_path / "perf" / "model.json").is_file()
    assert (tmp_path / "advice" / "advice.json").is_file()


def test_a_script_that_openbpu_stops_names_its_own_line(tmp_path: Path) -> None:
    text = "from hbdk4.compiler import load, compile\nm = load('x.onnx')\n"
    ran = run_script(tmp_path, text)
    assert ran.returncode == 1
    assert "openbpu: load: the path must be a readable file, not 'x.onnx'" in ran.stderr
    assert "script.py:2" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_script_of_its_own_mistakes_gets_pythons_traceback(tmp_path: Path) -> None:
    ran = run_script(tmp_path, "1 / 0\n")
    assert ran.returncode == 1
    assert "ZeroDivisionError" in ran.stderr


def test_a_missing_script_and_no_script_are_explained(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for arguments, code, text in (
        ([], 2, "usage:"),
        (["none.py"], 1, "must be a file"),
        (["-h"], 0, "usage:"),
    ):
        command = [sys.executable, "-m", "openbpu.compat", *arguments]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == code
        assert text in ran.stderr


@pytest.mark.usefixtures("vendor")
def test_a_name_that_is_missing_names_our_equivalent_or_says_there_is_none() -> None:
    with pytest.raises(ImportError, match=r"leap is not provided: .*here use ONNX"):
        exec("from hbdk4.compiler import leap")
    with pytest.raises(ImportError, match="openbpu has no equivalent"):
        exec("from hbdk4.compiler import frobnicate")
    with pytest.raises(ImportError, match=r"hbdk4\.compiler\.frobnicate is not provided"):
        exec("import hbdk4.compiler.frobnicate")
    with pytest.raises(ImportError, match="the nearest name here is convert"):
        exec("from hbdk4.compiler import converts")
    import hbdk4.compiler as hb4  # type: ignore[import-not-found]

    with pytest.raises(AttributeError, match="openbpu has no equivalent"):
        _ = hb4.frobnicate
    assert not hasattr(hb4, "frobnicate")


@pytest.mark.usefixtures("vendor")
def test_install_twice_installs_once() -> None:
    install()
    assert sum(isinstance(f, VendorFinder) for f in sys.meta_path) == 1


@pytest.mark.usefixtures("vendor")
def test_a_vendor_module_lists_what_it_has_and_its_version() -> None:
    import hbdk4.compiler

    assert {"convert", "compile", "Hbm", "onnx", "march"} <= set(dir(hbdk4.compiler))
    assert hbdk4.__version__ == version("openbpu")
    assert [n for n in dir(hbdk4) if not n.startswith("__")] == [
        "compiler",
        "march",
    ]  # its own, no deeper, no other's


@pytest.mark.usefixtures("vendor")
@pytest.mark.skipif(HAS_TORCH, reason="says what happens without torch")
def test_without_torch_the_plugin_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"pip install 'openbpu\[torch\]'"):
        exec("from horizon_plugin_pytorch.quantization import prepare")


@pytest.mark.usefixtures("vendor")
def test_an_installed_original_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hbdk4").mkdir()
    (tmp_path / "hbdk4" / "__init__.py").write_text("original = True\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import hbdk4

    assert hbdk4.original
    del sys.modules["hbdk4"]


def test_every_source_of_a_vendor_module_exists() -> None:
    for source in {s for sources in MODULES.values() for s in sources}:
        if not source.startswith("openbpu.quantization.torch") or HAS_TORCH:
            assert importlib.util.find_spec(source) is not None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hbm") / "digits.hbm"
    compile(convert(load(QDQ), "NASH_M"), path)
    return path


def test_feed_gives_what_a_session_gives(compiled: Path) -> None:
    image = np.load(DIGITS / "test.npz")["images"][:1] / np.float32(16)
    fed = Hbm(compiled, mode="exact").graphs[0].feed({"image": image})
    run = Session(compiled, mode="exact").run({"image": image}).outputs
    assert np.array_equal(fed["logits"], run["logits"])


def test_a_graph_tells_its_inputs_outputs_and_costs(compiled: Path) -> None:
    hbm = Hbm(compiled)
    graph = hbm[0]
    assert (hbm.march_name, len(hbm), graph.name) == ("nash-m", 1, hbm.graphs[0].name)
    assert [(v.name, v.type.shape) for v in graph.flatten_inputs] == [("image", (1, 1, 8, 8))]
    assert [v.type.nbytes for v in graph.flatten_outputs] == [10 * 4]
    assert [(v.name, v.type.np_dtype) for v in graph.flatten_outputs] == [("logits", np.dtype(np.float32))]
    assert [n.device for n in graph.nodes] == ["BPU"]
    assert graph.nodes[0].estimated_latency_micros == Session(compiled).latency.bpu_us
    kinds = {m.kind: m.size for m in graph.nodes[0].memspaces}
    assert set(kinds) == {"input", "output", "static", "dynamic", "chip"}
    assert (kinds["input"], kinds["output"]) == (256, 40)
    assert all(kinds.values())


def test_removed_quantize_and_dequantize_leave_integers_at_the_ends(tmp_path: Path) -> None:
    module = load(QDQ)
    removed = module[0].remove_io_op(op_types=["Quantize", "hbir.dequantize"])
    assert removed == ["image_QuantizeLinear"]  # the high-precision output has no node to name
    save(module, tmp_path / "m.bc")
    again = load(tmp_path / "m.bc")
    assert again.removed == ("dequantize", "quantize")
    graph = compile(again, tmp_path / "m.hbm", March.NASH_E)[0]
    kinds = {v.type.np_dtype.kind for v in (*graph.flatten_inputs, *graph.flatten_outputs)}
    assert kinds == {"i"}
    assert graph.flatten_inputs[0].scales


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m[0].remove_io_op(op_types=["Conv"]), "op_types must be among .*, not Conv"),
        (lambda m: m[0].flatten_inputs[0].insert_image_convert("nv12"), "the shape must be"),
        (lambda m: m[0].flatten_inputs[0].insert_transpose([0, 3, 1]), "permutes must be"),
        (lambda m: m[0].flatten_inputs[0].insert_image_preprocess("rgb"), "the shape must be"),
        (lambda m: m[0].flatten_inputs[0].insert_roi_resize("nv12"), "insert_roi_resize is not in openbpu"),
        (lambda m: m[0].feed({}), "the module must be converted"),
        (lambda m: m["other"], "the graph must be one of"),
        (lambda m: compile(m, "x.hbm"), "march must be given"),
        (lambda m: compile(convert(m, March.NASH_E), "x.hbm", March.NASH_M), "must be nash-e, as converted"),
        (lambda m: link([], "c.hbm"), "the objects must be of one march, not no object"),
    ],
)
def test_what_is_not_there_yet_says_so(call: Any, text: str) -> None:
    with pytest.raises(CompileError, match=text):
        call(load(QDQ))


def test_wrong_files_and_models_are_refused(tmp_path: Path, compiled: Path) -> None:
    (tmp_path / "x.bc").write_bytes(b"MLIR nothing of ours")
    with pytest.raises(ModelError, match=r"vendor's \.bc files cannot be read"):
        load(tmp_path / "x.bc")
    with pytest.raises(HbmError, match=r"the path must be a \.hbm file"):
        Hbm(tmp_path / "x.hbm")
    with pytest.raises(ModelError, match="the model must be a module or an ONNX model, not int"):
        save(3, tmp_path / "y")  # a wrong type
    with pytest.raises(ModelError, match="openbpu info"):
        visualize(Hbm(compiled))


def test_an_unknown_march_lists_the_known_ones() -> None:
    assert (March.NASH_P, March.S600) == ("nash-p", "nash-p")
    spelled = [march_name(m) for m in ("March.NASH_M", "NASH_M", "S100P", "own/file.json")]
    assert spelled == ["nash-m", "nash-m", "nash-m", "own/file.json"]
    with pytest.raises(AttributeError, match="NASH_E"):
        _ = March.NASH_X


def test_statistics_count_operators(capsys: pytest.CaptureFixture[str]) -> None:
    counts = statistics(onnx.load(QDQ))
    assert counts["Conv"] == 6
    assert "QuantizeLinear" in capsys.readouterr().out


def test_visualize_writes_onnx(tmp_path: Path) -> None:
    path = visualize(load(QDQ), tmp_path / "shown.onnx", use_netron=True)
    assert onnx.load(path).graph.node


def test_an_exported_graph_keeps_its_name_unless_it_is_given_one() -> None:
    model = onnx.load(QDQ)
    own = model.graph.name
    assert export(model)[0].name == own != "net"
    assert export(model, "net")[0].name == "net"
    assert model.graph.name == own


def test_an_object_file_links_to_a_binary(tmp_path: Path) -> None:
    made = compile(load(QDQ), tmp_path / "m.hbo", March.NASH_E, opt="O3")
    assert isinstance(made, Hbo)
    linked = link([made], tmp_path / "m.hbm")
    assert (tmp_path / "m.hbm").read_bytes() == (tmp_path / "m.hbo").read_bytes()
    report = hbm_perf(linked, tmp_path)
    assert report["summary"]["model info"]["BPU march"] == "nash-e"


@pytest.mark.parametrize("module", MODULES)
def test_layers_with_quantizers_are_in_nn_qat_alone(module: str) -> None:
    """Elsewhere stand those of torch, which prepare gives quantizers."""
    is_qat = f"{module}.".startswith("horizon_plugin_pytorch.nn.qat.")
    assert any(source.startswith("openbpu.quantization.torch.qat.") for source in MODULES[module]) is is_qat
    if HAS_TORCH:
        for layer in ("Conv2d", "ReLU", "LayerNorm"):  # one of each file
            assert (target_of(module, layer) is not None) is is_qat
