"""`openbpu perf`: its tables and its JSON."""

from pathlib import Path

import pytest

from interfaces.conftest import Command
from openbpu.arch.march import get_march


def test_perf_json_has_the_keys_users_know(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    summary = document["summary"]
    assert set(summary["performance"]) == {"FPS", "latency (us)", "latency (ms)", "latency (us) by segments"}
    assert set(summary["DDR access data"]) == {
        "DDR megabytes per run",
        "loaded bytes per run",
        "stored bytes per run",
        "min memory requirement",
        "input memory",
        "output memory",
        "static memory",
        "dynamic memory",
    }
    assert set(summary["interval info"]) == {
        "interval number",
        "interval time (ms)",
        "interval computing unit utilization",
        "interval ddr loading bandwidth (megabytes/s)",
        "interval ddr storing bandwidth (megabytes/s)",
    }
    assert set(summary["layer details"][0]) == {
        "layer name",
        "active period of time",
        "computing cost (no DDR)",
        "load cost",
        "store cost",
        "origin ops",
    }
    assert set(summary["model info"]) == {
        "BPU march",
        "BPU core number",
        "compiling options",
        "double int8 macs",
        "feature int16 weight int8 macs",
        "feature int8 weight int16 macs",
        "original conv ops",
    }
    instruction = document["details"][0][0]
    assert set(instruction) == {"inst_type", "source_layer_names", "start_time (us)", "working_time (us)"}


def test_perf_figures_fit_together(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    performance, intervals = document["summary"]["performance"], document["summary"]["interval info"]
    ddr, total = document["summary"]["DDR access data"], performance["latency (us)"]
    assert len(performance["latency (us) by segments"]) == 2
    assert sum(performance["latency (us) by segments"]) == pytest.approx(total, abs=0.002)
    assert performance["FPS"] == pytest.approx(1e6 / total, rel=1e-3)
    count = intervals["interval number"]
    running = total - 2 * get_march("nash-e").chip.start_us  # intervals cover what instructions take
    assert count * intervals["interval time (ms)"] * 1e3 == pytest.approx(running, rel=0.01)
    for kind, name in (("loading", "loaded"), ("storing", "stored")):
        rates = intervals[f"interval ddr {kind} bandwidth (megabytes/s)"]
        moved = sum(rates) * intervals["interval time (ms)"] * 1e3
        assert moved == pytest.approx(ddr[f"{name} bytes per run"], rel=0.02)
    assert document["openbpu"]["latency"]["cpu_us_estimate"] > 0
    ends = [i["start_time (us)"] + i["working_time (us)"] for i in document["details"][0]]
    assert max(ends) <= total + 0.001
    assert {i["inst_type"] for i in document["details"][0]} >= {"LOAD", "STORE", "TAE", "VPU"}
    assert {p["on"] for p in openbpu("info", mixed, "--json").json()["segments"]} == {"BPU", "CPU"}


def test_perf_labels_what_is_estimated(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()["openbpu"]
    estimates, latency = document["estimates"], document["latency"]
    assert {e["basis"] for e in estimates} == {"estimate"}
    cpu = [e for e in estimates if e["what"].startswith("CPU segment")]
    assert sum(e["us"] for e in cpu) == pytest.approx(latency["cpu_us_estimate"])
    for e in cpu:
        work = max(e["arithmetic_us"], e["memory_us"])
        assert e["us"] == pytest.approx(e["handover_us"] + e["dispatch_us"] + work)
        assert e["origin ops"]
    others = {e["what"]: e["us"] for e in estimates if e not in cpu}
    assert others == {
        "dispatch: submitting a run": latency["submit_us"],
        "dequantization of integer outputs": latency["dequantize_us_estimate"],
    }


def test_perf_has_a_roofline_whose_numbers_decide(openbpu: Command, mixed: Path) -> None:
    document = openbpu("perf", mixed, "--json").json()
    roofline, names = document["openbpu"]["roofline"], document["summary"]["layer details"]
    assert [line["layer name"] for line in roofline["layers"]] == [d["layer name"] for d in names]
    roof = roofline["roof"]
    ridge = roof["int8 macs per second"] / roof["ddr bytes per second"]
    assert roof["ridge (macs per byte)"] == pytest.approx(ridge, abs=0.1)
    for line in roofline["layers"]:
        three = {k: line[f"{k.lower()}_us"] for k in ("compute", "DDR", "overhead")}
        assert line["bound"] == max(three, key=lambda k: three[k])
        if line["macs"]:
            assert line["macs per byte"] == pytest.approx(line["macs"] / line["ddr bytes"], abs=0.001)
            assert line["reached macs per us"] <= line["attainable macs per us"]
        assert 0 <= line["change"]["gain_us"] <= line["exposed_us"] + 0.001
    assert sum(line["ddr bytes"] for line in roofline["layers"]) == sum(
        document["summary"]["DDR access data"][f"{k} bytes per run"] for k in ("loaded", "stored")
    )
    (segment,) = roofline["cpu segments"]
    assert segment["basis"] == "estimate"
    gains = [c["gain_us"] for c in roofline["network"]["changes"]]
    assert gains == sorted(gains, reverse=True)
    assert roofline["network"]["best change"]["gain_us"] == gains[0] > 0


def test_perf_tables_name_layers_and_sides(openbpu: Command, mixed: Path) -> None:
    text = openbpu("perf", mixed).out
    words = ("conv1", "conv2", "TAE", "simulated", "estimate", "FPS=", "Roofline", "What would help most")
    for word in words:
        assert word in text
