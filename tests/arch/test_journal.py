"""A journal holds whole lines, whatever ends the process or fills the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openbpu.arch.journal import Journal


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize(("limit", "whole"), [(0, 0), (7, 0), (8, 1), (30, 3)])
def test_a_disk_that_fills_up_leaves_whole_lines_and_is_told_with_the_file(
    limit: int, whole: int, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    script = (
        "import resource, signal, sys; from openbpu.arch.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "with Journal(sys.argv[1], new=True) as journal:\n"
        "    try:\n"
        "        for _ in range(9): journal.add('line é')\n"
        "    except OSError as error: print(error.errno, error.filename)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} {path}\n"
    assert path.read_text(encoding="utf-8") == "line é\n" * whole
    with Journal(path, new=False) as journal:
        assert journal.lines == ["line é"] * whole
        journal.add("more")
    assert path.read_text(encoding="utf-8") == "line é\n" * whole + "more\n"


def test_a_line_that_was_cut_off_is_taken_away_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"one\ntw")
    with Journal(path, new=False) as journal:
        assert journal.lines == ["one"]
        assert path.read_bytes() == b"one\ntw"
        journal.add("two")
        journal.add("three")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
