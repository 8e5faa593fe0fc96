"""Sizes and lengths in a forged file: none is believed unseen, none costs more than its bytes."""

import copy
import json
import time
from typing import Any

import numpy as np
import pytest

from arch.test_hbm_forged import META, SECTIONS, forged
from openbpu.arch import memory
from openbpu.arch.errors import HbmError, SimulationError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.hbm.check import MAX_TENSOR_BYTES
from openbpu.arch.memory import check_fits
from openbpu.arch.program import Gather, Space
from simulator.build import Build


def with_tensors(*tensors: dict[str, Any]) -> dict[str, Any]:
    meta = copy.deepcopy(META)
    meta["tensors"] += tensors
    return meta


def chain(length: int) -> dict[str, Any]:
    """The sample with views of views of its first input; the last comes first, so none helps another."""
    first = META["inputs"][0]
    count = len(META["tensors"])
    seen = META["tensors"][first] | {"space": "view"}
    views = [seen | {"name": f"v{k}", "address": count + k + 1} for k in range(length)]
    views[-1]["address"] = first
    meta = with_tensors(*views)
    for segment in meta["segments"]:
        segment["inputs"] = [*segment["inputs"], *range(count, count + length)]
        if segment["on"] == "CPU":
            segment["names_in"] = [*segment["names_in"], *(v["name"] for v in views)]
    return meta


def seconds(data: bytes) -> float:
    best = []
    for _ in range(3):
        start = time.process_time()
        read_hbm(data)
        best.append(time.process_time() - start)
    return min(best)


def test_reading_chained_views_takes_time_in_proportion() -> None:
    assert seconds(forged(chain(4000))) <= 8 * seconds(forged(chain(1000)))


def test_views_that_lead_nowhere_are_refused() -> None:
    meta = chain(50)
    meta["tensors"][-1]["address"] = len(meta["tensors"]) - 10
    with pytest.raises(HbmError, match="is a view of itself"):
        read_hbm(forged(meta))


def test_a_view_of_what_has_no_bytes_is_refused() -> None:
    other = {"name": "text", "shape": [2], "dtype": "other", "space": "ddr", "address": -1}
    view = {"name": "bits", "shape": [2], "dtype": "int64", "space": "view", "address": len(META["tensors"])}
    with pytest.raises(HbmError, match="dtype as a view of cannot be other"):
        read_hbm(forged(with_tensors(other, view)))


@pytest.mark.parametrize("space", ["ddr", "chip"])
def test_a_tensor_larger_than_any_model_has_is_refused(space: str) -> None:
    big = {
        "name": "big",
        "shape": [MAX_TENSOR_BYTES // 4 + 1],
        "dtype": "float32",
        "space": space,
        "address": 0,
    }
    meta = with_tensors(big) | {"ddr_bytes": 1 << 36}
    with pytest.raises(HbmError, match="'big': size in bytes cannot be"):
        read_hbm(forged(meta))


def test_more_cores_than_any_march_has_are_refused() -> None:
    meta, sections = copy.deepcopy(META), dict(SECTIONS)
    index = next(i for i, s in enumerate(meta["segments"]) if s["on"] == "BPU")
    meta["segments"][index]["cores"] = 5
    others = {f"code_{index}_{core}": sections.get(f"code.{index}.{core}", b"") for core in range(5)}
    with pytest.raises(HbmError, match="number of cores cannot be 5"):
        read_hbm(forged(json.loads(json.dumps(meta)), **others))


def test_memory_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    check_fits("here", "DDR", 1 << 20)
    monkeypatch.setattr(memory, "memory_bytes", lambda: 1000)
    with pytest.raises(
        SimulationError, match=r"here: DDR must be no more than this computer has \(1,000 bytes\)"
    ):
        check_fits("here", "DDR", 1001)
    monkeypatch.setattr(memory, "memory_bytes", lambda: None)
    check_fits("here", "DDR", 1 << 60)


def test_a_constant_that_many_operators_share_is_looked_through_once() -> None:
    def gathers(count: int) -> bytes:
        build, n = Build(), 1 << 22
        x, indices = build.input((4,)), build.const(np.zeros(n, np.int32))
        for _ in range(count):
            y = build.tensor((n,), space=Space.CHIP)
            build.add(Gather(inputs=(x,), outputs=(y,), indices_id=indices, shape=(1, 4, 1)))
        return to_bytes(build.program((x,)))

    assert seconds(gathers(400)) <= 20 * seconds(gathers(4))
