"""Names come from strangers: nothing that is printed of them steers a terminal, a page or a reader."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from interfaces.conftest import Command
from openbpu.arch.errors import HbmError, ModelError, printable
from openbpu.runtime import Session

TITLE = "n\x1b]0;title\x07\x1b[31m"
HOSTILE = [TITLE, "\x9b31mred", "\u202efdp.exe", "a\nopenbpu: all is well", "a\rb", "del\x7f", "<script>x"]


def is_harmless(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


def model(name: str, op: str = "Hardmax") -> onnx.ModelProto:
    """x → QDQ → Sigmoid → QDQ → an operator of the CPU → y; every name is, or begins with, `name`."""
    x, y = f"{name}x", f"{name}y"
    pairs = [
        helper.make_node("QuantizeLinear", [x, "s", "z"], ["q"], f"{name}q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], f"{name}d"),
        helper.make_node("Sigmoid", ["d"], [f"{name}t"], f"{name}n"),
        helper.make_node("QuantizeLinear", [f"{name}t", "s", "z"], ["u"], f"{name}u"),
        helper.make_node("DequantizeLinear", ["u", "s", "z"], ["v"], f"{name}v"),
        helper.make_node(op, ["v"], [y], name),
    ]
    graph = helper.make_graph(
        pairs,
        name,
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, (1, 8))],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, (1, 8))],
        [
            numpy_helper.from_array(np.array(v, k), n)
            for n, v, k in (("s", 0.05, np.float32), ("z", 0, np.int8))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_no_line_shows_is_written_out() -> None:
    assert printable("plain ümläut 名 …") == "plain ümläut 名 …"
    assert printable("\x1b[\x9b\u202e\n\t\x7f\U000e0001") == r"\x1b[\x9b\u202e\n\t\x7f\U000e0001"
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert printable(printable("\x1b")) == r"\x1b"
    assert str(HbmError("file '\x1b]0;'")) == r"file '\x1b]0;'"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_command_prints_a_name_that_steers(openbpu: Command, tmp_path: Path, name: str) -> None:
    onnx.save(model(name), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((1, 8), np.float32))
    hbm = tmp_path / "m.hbm"
    commands = [
        ("check", tmp_path / "m.onnx", "--march", "nash-e"),
        ("compile", tmp_path / "m.onnx", "--march", "nash-e", "-o", hbm),
        ("info", hbm),
        ("disasm", hbm),
        ("run", hbm, "--input", f"{name}x={tmp_path / 'x.npy'}", "-o", tmp_path / "out"),
        ("perf", hbm, "-o", tmp_path / "perf"),
        ("verify", tmp_path / "m.onnx", hbm),
    ]
    for command in commands:
        ran = openbpu(*command)
        assert ran.code == 0, ran
        assert is_harmless(ran.out + ran.err), (command, ran)
    for page in (tmp_path / "perf").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert is_harmless(text.replace("\t", ""))
        assert "<script>x" not in text
    for written in (tmp_path / "out").iterdir():
        assert is_harmless(written.name)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_error_prints_a_name_that_steers(openbpu: Command, tmp_path: Path, name: str) -> None:
    onnx.save(model(name, "Nope"), tmp_path / "m.onnx")
    onnx.save(model(name), tmp_path / "good.onnx")
    assert openbpu("compile", tmp_path / "good.onnx", "--march", "nash-e", "-o", tmp_path / "m.hbm").code == 0
    np.save(tmp_path / "x.npy", np.ones((1, 7), np.float32))
    (tmp_path / "calib").mkdir()
    np.save(tmp_path / "calib" / "x.npy", np.ones((1, 7), np.float32))
    for command in (
        ("compile", tmp_path / "m.onnx", "--march", "nash-e", "-o", tmp_path / "n.hbm"),
        ("quantize", tmp_path / "good.onnx", "--calib", tmp_path / "calib", "-o", tmp_path / "q.onnx"),
        ("run", tmp_path / "m.hbm", "--input", f"{name}x={tmp_path / 'x.npy'}"),
        ("run", tmp_path / "m.hbm", "--input", f"{name}z={tmp_path / 'x.npy'}"),
        ("info", tmp_path / name / "m.hbm"),
    ):
        ran = openbpu(*command)
        assert ran.code == 1, (command, ran)
        assert ran.out == ""
        assert is_harmless(ran.err), (command, ran)
        assert ran.err.count("\n") == 1


def test_json_keeps_the_name_itself(openbpu: Command, tmp_path: Path) -> None:
    onnx.save(model(TITLE), tmp_path / "m.onnx")
    openbpu("compile", tmp_path / "m.onnx", "--march", "nash-e", "-o", tmp_path / "m.hbm")
    ran = openbpu("info", tmp_path / "m.hbm", "--json")
    assert is_harmless(ran.out)
    assert f"{TITLE}x" in json.dumps(ran.json(), ensure_ascii=False).replace("\\u001b", "\x1b").replace(
        "\\u0007", "\x07"
    )


def test_errors_and_representations_in_python_are_harmless_too(tmp_path: Path) -> None:
    from openbpu.compiler import compile as compile_model

    session = Session(compile_model(model(TITLE), march="nash-e"))
    assert is_harmless(repr(session))
    assert is_harmless(repr(session.run({f"{TITLE}x": np.ones((1, 8), np.float32)})))
    with pytest.raises(ModelError) as raised:
        compile_model(model(TITLE, "Nope"), march="nash-e")
    assert "title" in str(raised.value)
    assert is_harmless(str(raised.value))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_no_sequence_from_a_name(tmp_path: Path) -> None:
    import pty
    import subprocess

    onnx.save(model(TITLE, "Nope"), tmp_path / "m.onnx")
    ours, theirs = pty.openpty()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "openbpu.cli", "compile", str(tmp_path / "m.onnx"), "--march", "nash-e"]
    with subprocess.Popen([*command, "-o", str(tmp_path / "m.hbm")], stdout=theirs, stderr=theirs, env=env):
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # Linux: the other end is closed
            pass
    os.close(ours)
    assert b"title" in seen
    assert b"\x1b]" not in seen
    assert b"\x07" not in seen
