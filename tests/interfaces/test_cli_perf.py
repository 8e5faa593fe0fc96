"""`openbpu perf`: its tables and its JSON."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from interfaces.conftest import Command
from openbpu.arch.march import get_march
from quantization.float_models import float_model


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


@pytest.fixture
def deep(openbpu: Command, tmp_path: Path) -> Path:
    """24 convolutions, the later the wider."""
    steps = [f"c{n} = Conv(x{n}, w{n}) x{n + 1} = Relu(c{n})" for n in range(24)]
    text = f"(float[1,4,8,8] x0) => (float[1,52,8,8] x24) {{ {' '.join(steps)} }}"
    weights = {f"w{n}": np.ones((4 + 2 * (n + 1), 4 + 2 * n, 1, 1), np.float32) for n in range(24)}
    onnx.save(float_model(text, weights), tmp_path / "deep.onnx")
    path = tmp_path / "deep.hbm"
    assert (
        openbpu("compile", tmp_path / "deep.onnx", "-o", path, "--march", "nash-e", "--fast-perf").code == 0
    )
    return path


def layers_shown(text: str) -> list[str]:
    """The layers of the first table that has them, in its order."""
    rows = text.partition(" Layer ")[2].splitlines()[2:]
    return [row.split()[0] for row in rows[: rows.index("")]]


def test_perf_begins_with_latency_and_fps(openbpu: Command, deep: Path) -> None:
    first = openbpu("perf", deep).out.splitlines()[0]
    assert re.search(r"FPS=[\d.]+, latency = [\d.]+ us", first)


def test_perf_shows_the_ten_layers_that_cost_most_unless_asked(openbpu: Command, deep: Path) -> None:
    text = openbpu("perf", deep).out
    assert len(layers_shown(text)) == 10
    assert f"10 of {len(layers_shown(openbpu('perf', deep, '--all').out))} (--all" in text
    assert len(text.splitlines()) < 60
    assert layers_shown(openbpu("perf", deep, "--top", "3").out) == layers_shown(text)[:3]
    assert layers_shown(openbpu("perf", deep, "--all").out)[:10] == layers_shown(text)


@pytest.mark.parametrize("sort", ["cost", "compute", "ddr", "exposed", "gain", "order"])
def test_perf_sorts_layers_by_what_was_asked_for(openbpu: Command, deep: Path, sort: str) -> None:
    document = openbpu("perf", deep, "--json").json()
    details, lines = document["summary"]["layer details"], document["openbpu"]["roofline"]["layers"]

    def us(n: int, *keys: str) -> float:
        return sum(float(details[n][key].split()[0]) for key in keys)

    transfers = ("load cost", "store cost")
    measures: dict[str, Callable[[int], float]] = {
        "cost": lambda n: us(n, "computing cost (no DDR)", *transfers),
        "compute": lambda n: us(n, "computing cost (no DDR)"),
        "ddr": lambda n: us(n, *transfers),
        "exposed": lambda n: lines[n]["exposed_us"],
        "gain": lambda n: lines[n]["change"]["gain_us"],
        "order": lambda n: -n,
    }
    names = [d["layer name"] for d in details]
    found = [
        measures[sort](names.index(name))
        for name in layers_shown(openbpu("perf", deep, "--all", "--sort", sort).out)
    ]
    assert len(found) == len(names)
    assert found == pytest.approx(sorted(found, reverse=True), rel=0.02)  # JSON rounds to three digits


def test_a_sort_or_count_that_is_none_is_a_usage_error(openbpu: Command, deep: Path) -> None:
    for option, value in (("--top", "0"), ("--sort", "name")):
        ran = openbpu("perf", deep, option, value)
        assert ran.code == 2
        assert option in ran.err


@pytest.mark.parametrize(
    ("shapes", "images"),
    [
        (("4,8,8,8",), 4),
        (("1,8,8,8",), 1),
        (("6,8,8,8", "6,8,8,8"), 6),
        (("6,8,8,8", "1,8,8,8"), 1),  # a template beside six crops: not a batch
    ],
)
def test_fps_counts_images_wherever_it_is_printed(
    openbpu: Command, tmp_path: Path, shapes: tuple[str, ...], images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from openbpu.compat.hbdk import hbm_perf

    given = ", ".join(f"float[{shape}] x{n}" for n, shape in enumerate(shapes))
    total = " ".join(f"s{n + 1} = Add(s{n}, x{n})" for n in range(1, len(shapes)))
    text = f"({given}) => (float[{shapes[0]}] y) {{ s1 = Relu(x0) {total} y = Sigmoid(s{len(shapes)}) }}"
    onnx.save(float_model(text), tmp_path / "m.onnx")
    hbm = tmp_path / "m.hbm"
    assert openbpu("compile", tmp_path / "m.onnx", "-o", hbm, "--march", "nash-e", "--fast-perf").code == 0
    document = openbpu("perf", hbm, "--json", "-o", tmp_path).json()
    performance = document["summary"]["performance"]
    assert performance["FPS"] == pytest.approx(images * 1e6 / performance["latency (us)"], rel=1e-3)
    assert document["openbpu"]["latency"]["images per run"] == images
    shown, page = openbpu("perf", hbm).out, (tmp_path / "m.html").read_text()
    assert f"FPS={performance['FPS']}" in shown
    assert (f"of {images} images" in shown) == (images > 1) == (f"{images} images per run" in page)
    numbers = [float(number) for number in re.findall(r">(\d+\.?\d*)<", page)]
    assert any(number == pytest.approx(performance["FPS"], rel=1e-4) for number in numbers)
    hbm_perf(hbm, tmp_path)
    assert f"FPS={performance['FPS']}" in capsys.readouterr().out


def test_what_is_in_a_sum_is_not_said_to_be_in_none(openbpu: Command, mixed: Path) -> None:
    latency = openbpu("perf", mixed, "--json").json()["openbpu"]["latency"]
    apart = latency["submit_us"] + latency["dequantize_us_estimate"]
    both = latency["bpu_us"] + latency["cpu_us_estimate"]
    assert latency["one_thread_us_estimate"] == pytest.approx(both + apart)
    assert "in no sum" not in openbpu("perf", mixed).out
