"""The fuzzer notices what it is there for; a fixed share of what `make fuzz` runs finds nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.board import FAULT, Board
from fuzz.case import EQUAL, OUTCOMES, REFUSED, Case, FaultError
from fuzz.edges import INTEGERS
from fuzz.guard import Limits, fuzz
from fuzz.hbm_files import packed
from fuzz.hbm_mutations import MUTATIONS, reach
from fuzz.hbm_subject import HbmFiles
from fuzz.onnx_mutations import KINDS
from fuzz.onnx_subject import OnnxModels
from fuzz.record import SAVED, Record
from openbpu.arch.errors import OpenbpuError

TESTS = Path(__file__).parents[1]


def _crash() -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return EQUAL


def _spin() -> str:
    while True:
        pass


def _flood() -> str:
    return str(len(bytearray(1 << 40)))


def _raise(error: type[Exception]) -> str:
    raise error("on purpose")


SINS: dict[str, Callable[[], str]] = {
    "crash": _crash,
    "hang": _spin,
    "memory": _flood,
    "foreign": lambda: _raise(KeyError),
    "differs": lambda: _raise(FaultError),
    "refused": lambda: REFUSED,
    "equal": lambda: EQUAL,
}
SAID = {
    "crash": "crash: SIGSEGV",
    "hang": "hang: CPU time",
    "memory": "MemoryError",
    "foreign": "KeyError",
    "differs": "on purpose",
}


class Sinner:
    """Each case does one of the things that the guard must notice, or behaves."""

    name = "sinner"
    kinds = tuple(SINS)
    cpu_seconds = 0.3

    def warm_up(self) -> None: ...

    def make(self, seed: int, index: int) -> Case:
        kind = self.kinds[index % len(self.kinds)]
        return Case(kind, {"case.txt": kind.encode()}, None, "as asked")

    def run(self, case: Case) -> str:
        return SINS[case.kind]()


def _sinned(folder: Path, rounds: int = 1) -> tuple[Board, Record]:
    record = Record(folder)
    limits = Limits(seconds=60, cases=rounds * len(SINS), memory=1 << 30)
    board = Board(len(SINS))
    assert list(fuzz(Sinner(), 5, limits, record, board))
    return board, record


def test_every_sort_of_fault_is_noticed_and_saved(tmp_path: Path) -> None:
    board, record = _sinned(tmp_path / "faults")
    found = {fault.kind: fault for fault in record.faults()}
    assert found.keys() == SAID.keys()
    for kind, said in SAID.items():
        assert said in found[kind].sort
        folder = tmp_path / "faults" / f"sinner-5-{found[kind].index}"
        assert (folder / "case.txt").read_text() == kind
        assert f"--first {found[kind].index}" in (folder / "fault.txt").read_text()
    for kind, outcome in (("refused", REFUSED), ("equal", EQUAL)):
        row = board.counts[Sinner.kinds.index(kind)]
        assert row[OUTCOMES.index(outcome)] == row.sum() == 1
    assert board.counts[:, FAULT].sum() == len(SAID)


def test_faults_of_one_sort_are_counted_but_a_few_are_saved(tmp_path: Path) -> None:
    board, record = _sinned(tmp_path / "faults", rounds=SAVED + 2)
    assert board.cases == (SAVED + 2) * len(SINS)
    sorts = [fault.sort for fault in record.faults()]
    assert len(sorts) == (SAVED + 2) * len(SAID)
    assert sum(1 for _ in (tmp_path / "faults").glob("*/fault.txt")) == SAVED * len(set(sorts))


@pytest.mark.parametrize("subject", [HbmFiles(), OnnxModels()], ids=lambda s: s.name)
def test_a_case_is_the_same_each_time_and_every_kind_comes_up(subject: HbmFiles | OnnxModels) -> None:
    cases = [subject.make(1, index) for index in range(400)]
    assert cases == [subject.make(1, index) for index in range(400)]
    assert {case.kind for case in cases} == set(subject.kinds)
    assert set(KINDS) | set(MUTATIONS) >= {case.kind for case in cases}


def test_files_that_nobody_changed_run_alike_in_both_modes() -> None:
    subject = HbmFiles()
    for base in subject._bases:
        try:
            outcome = subject.run(Case("operator", {}, base.data))
        except OpenbpuError as error:
            pytest.fail(f"{base.name}: {error}")
        assert outcome == EQUAL or base.name == "every operator", base.name


@pytest.mark.slow
def test_edges_in_every_number_of_an_operator_do_no_harm() -> None:
    subject, draw = HbmFiles(), random.Random(20261129)
    for base in subject._bases:
        for path in base.places["operator"]:
            for edge in draw.sample(INTEGERS, 8):
                meta = base.meta
                holder = reach(meta, path)
                if type(holder[path[-1]]) is int:
                    holder[path[-1]] = edge
                    data = packed(base.sections | {"meta": json.dumps(meta).encode()})
                    subject.run(Case("operator", {}, data, f"{base.name} {path} {edge}"))


@pytest.mark.slow
@pytest.mark.parametrize(("subject", "cases"), [("hbm", 20_000), ("onnx", 2_000), ("graphs", 5)])
def test_a_fixed_share_finds_nothing(subject: str, cases: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzz", "--only", subject, "--cases", str(cases), "--seed", "20261129"]
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--seconds", "3000", "--out", str(tmp_path / "faults")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
