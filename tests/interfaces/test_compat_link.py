"""Facts about files of several graphs: they share weights, and every reader finds each of them."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from interfaces.conftest import Command, fails
from interfaces.test_compat import DIGITS
from openbpu.arch.errors import CompileError, HbmError
from openbpu.arch.hbm import read_package, to_bytes, write_package
from openbpu.arch.hbm.container import pack, unpack
from openbpu.arch.hbm.package import package_sections
from openbpu.compat.commands import run
from openbpu.compat.hbdk import Hbm, compile, convert, hbm_perf, link, load  # noqa: A004
from openbpu.compat.hbdk.onnx import export
from openbpu.compat.hbm_runtime import HB_HBMRuntime
from openbpu.compat.pyeasy_dnn import load as load_dnn
from openbpu.runtime import Session

QDQ = DIGITS / "digits.q.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """day.hbo and night.hbo, one network stripped in two ways, and both.hbm."""
    place = tmp_path_factory.mktemp("link")
    for name, kinds in (("day", ["Dequantize"]), ("night", ["Quantize"])):
        module = export(load(QDQ).model, name)
        module[0].remove_io_op(kinds)
        compile(convert(module, "nash-e"), place / f"{name}.hbo")
    link([place / "day.hbo", Hbm(place / "night.hbo")], place / "both.hbm", desc="for cars")
    return place


IMAGE = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)


def test_every_graph_is_there_by_number_and_name(folder: Path) -> None:
    both = Hbm(folder / "both.hbm")
    assert [graph.name for graph in both.graphs] == ["day", "night"]
    assert len(both) == 2
    assert both["night"].name == both[1].name == "night"
    want = Session(folder / "day.hbo").run({"image": IMAGE}).outputs["logits"]
    assert np.array_equal(both["day"].feed({"image": IMAGE})["logits"], want)
    with pytest.raises(HbmError, match="the graph must be one of day, night, not 'dusk'"):
        both["dusk"]


def test_a_file_says_what_it_is(folder: Path) -> None:
    both = Hbm(folder / "both.hbm")
    assert (both.desc, both.toolkit_version, both.march_name) == ("for cars", version("openbpu"), "nash-e")
    graph = both["day"]
    assert graph.num_cores == 1
    (out,) = graph.flatten_outputs
    assert out.quant_info.scales == out.scales
    assert out.quant_info.zero_points == (0,) * len(out.scales)
    assert out.type._strides[-1] == np.dtype(out.type.np_dtype).itemsize


def test_shared_weights_are_stored_once(folder: Path) -> None:
    sizes = {name: (folder / name).stat().st_size for name in ("day.hbo", "night.hbo", "both.hbm")}
    programs = [read_package(folder / name)[0] for name in ("day.hbo", "night.hbo")]
    (first, second) = (program.constants.size for program in programs)
    assert sizes["both.hbm"] < sizes["day.hbo"] + sizes["night.hbo"] - 0.8 * min(first, second)


def test_what_is_read_is_what_was_written(folder: Path, tmp_path: Path) -> None:
    programs = [read_package(folder / name)[0] for name in ("day.hbo", "night.hbo")]
    write_package(programs, tmp_path / "two.hbm")
    assert [to_bytes(p) for p in read_package(tmp_path / "two.hbm")] == [to_bytes(p) for p in programs]
    again = link([tmp_path / "two.hbm"], tmp_path / "copy.hbm")
    assert Path(again.path).read_bytes() == (tmp_path / "two.hbm").read_bytes()


def test_the_boards_interfaces_load_all_graphs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "both.hbm")
    runtime = HB_HBMRuntime(path)
    assert runtime.model_names == ["day", "night"]
    made = runtime.run({"day": {"image": IMAGE}, "night": {"image": np.zeros((1, 1, 8, 8), np.int8)}})
    assert {name: set(outputs) for name, outputs in made.items()} == {"day": {"logits"}, "night": {"logits"}}
    assert [model.name for model in load_dnn(path)] == ["day", "night"]
    assert run("hrt_model_exec", ["perf", "--model_file", path, "--model_name", "night"]) == 0
    assert run("hb_model_info", [path]) == 0
    assert "night (" in capsys.readouterr().out
    with pytest.raises(HbmError, match="the number of graphs"):
        Session(path)


def test_each_graph_is_timed(folder: Path, tmp_path: Path) -> None:
    report = hbm_perf(str(folder / "both.hbm"), tmp_path)
    assert report["summary"]["performance"]["FPS"] > 0
    assert {p.name for p in tmp_path.iterdir()} == {
        f"both_{n}.{kind}" for n in "01" for kind in ("json", "html")
    }


def test_the_command_names_the_graphs(folder: Path, openbpu: Command) -> None:
    fails(openbpu("info", folder / "both.hbm"), "the number of graphs must be 1 here, not 2: day, night")


def test_what_cannot_be_linked_is_refused(folder: Path, tmp_path: Path) -> None:
    other = compile(convert(export(load(QDQ).model, "dawn"), "nash-m"), tmp_path / "dawn.hbo")
    with pytest.raises(CompileError, match="must be of one march, not nash-e, nash-m"):
        link([folder / "day.hbo", other], tmp_path / "x.hbm")
    with pytest.raises(HbmError, match="the names of graphs must be different"):
        link([folder / "day.hbo", folder / "day.hbo"], tmp_path / "x.hbm")
    assert not (tmp_path / "x.hbm").exists()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b'{"sizes":[', b'{"sizes":[-1,', "whole numbers"),
        (b'{"sizes":[', b'{"sizes":[9,', "the pieces take"),
        (b'"graphs":[', b'"grafhs":[', "not what a linker writes"),
        (b'["meta",[0]]', b'["meta",[999]]', "must be numbers of pieces"),
        (b'["meta",[0]]', b'["meta",[1]]', "used twice"),
        (b'["meta",[0]]', b'["meta"]', "a name and its pieces"),
        (b'["meta",[0]]', b'["mete",[0]]', "section 'meta' is missing"),
    ],
)
def test_a_forged_package_is_refused(folder: Path, old: bytes, new: bytes, text: str) -> None:
    programs = [read_package(folder / name)[0] for name in ("day.hbo", "night.hbo")]
    (name, table), pool = package_sections(programs)
    assert old in bytes(table)
    forged = b"".join(pack([(name, memoryview(bytes(table).replace(old, new, 1))), pool]))
    with pytest.raises(HbmError, match=text):
        read_package(forged)


def test_a_table_with_any_byte_changed_is_refused_or_read(folder: Path) -> None:
    """Behind a right checksum, too, there is no traceback, and nothing that unfolds without end."""
    programs = [read_package(folder / name)[0] for name in ("day.hbo", "night.hbo")]
    (name, table), pool = package_sections(programs)
    rng = np.random.default_rng(0)
    for _ in range(150):
        text = bytearray(table)
        for place in rng.integers(0, len(text), rng.integers(1, 4)):
            text[place] = rng.choice(list(b'0123456789,[]{}"a'))
        with contextlib.suppress(HbmError):
            read_package(b"".join(pack([(name, memoryview(text)), pool])))


def test_no_bit_of_a_package_is_outside_a_checksum(folder: Path) -> None:
    data = bytearray((folder / "both.hbm").read_bytes())
    for place in np.linspace(0, len(data) - 1, 40).astype(int):
        data[place] ^= 1
        with pytest.raises(HbmError):
            read_package(bytes(data))
        data[place] ^= 1
    assert len(unpack("x", np.frombuffer(bytes(data), np.uint8))) == 2
