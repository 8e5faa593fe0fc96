"""`openbpu quantize --auto`: what it prints and writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from evaluation.analysed import TEXT, named
from interfaces.conftest import Command, fails
from openbpu.arch.march import get_march
from openbpu.cli.searching import config_path
from openbpu.compiler import compile as compile_model
from openbpu.runtime.latency import latency_of
from quantization.float_models import samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("auto")
    net = named(TEXT)
    onnx.save(net, made / "net.onnx")
    x = samples(net, 12)["x"]
    np.savez(made / "c.npz", x=x)
    np.savez(made / "d.npz", x=x, labels=np.arange(12) % 5)
    return made


def quantize(folder: Path, *more: object) -> list[object]:
    files = [folder / "net.onnx", "--calib", folder / "c.npz", "-o", folder / "q.onnx"]
    return ["quantize", *files, "--march", "nash-m", *more]


def test_the_chosen_config_gives_the_same_bytes(openbpu: Command, folder: Path) -> None:
    ran = openbpu(*quantize(folder, "--auto", "--latency", "+5%", "--trials", 4, "--int16-nodes", "n_[gy]"))
    assert ran.code == 0
    path = folder / "q.quant_config.yaml"
    assert f"wrote {path}; `openbpu quantize" in ran.err
    assert "the best metric at no more than +5 % latency: " in ran.out
    assert "4 configurations tried on nash-m" in ran.out
    text = path.read_text(encoding="utf-8")
    assert text.startswith(
        "# Chosen by `openbpu quantize --auto`: the best metric at no more than +5 % latency.\n"
    )
    assert "node_config:\n  n_g: {qtype: int16}\n  n_y: {qtype: int16}\n" in text  # as asked, by name
    first = (folder / "q.onnx").read_bytes()
    again = openbpu(*quantize(folder, "--quant-config", path))
    assert again.code == 0
    assert (folder / "q.onnx").read_bytes() == first


def test_json_holds_every_point(openbpu: Command, folder: Path) -> None:
    page = folder / "q.html"
    ran = openbpu(*quantize(folder, "--auto", "--budget", "90%", "--json", "--page", page))
    assert 'href="#search"' in page.read_text(encoding="utf-8")
    found = ran.json()["search"]
    assert found["reached"]
    assert found["metric"] == "cosine"
    assert found["goal"] == {"budget": 0.9, "latency": None}
    (point,) = found["points"]
    assert (point["name"], point["int16"], point["increase"], point["front"]) == ("int8", [], 0, True)
    assert point["latency_us"] == pytest.approx(point["bpu_us"] + point["cpu_us"])
    assert found["quant_config"] == str(config_path(folder / "q.onnx"))


def test_a_budget_out_of_reach_is_an_exit_code_and_the_closest_is_written(
    openbpu: Command, folder: Path
) -> None:
    """Labels that the float model itself gives at random leave the task's metric a budget of nothing."""
    arguments = ("--auto", "--budget", "0", "--trials", "3", "--metric", "cosine")
    ran = openbpu(*quantize(folder, *arguments))
    assert ran.code == 1
    assert "openbpu: the budget of 0 % is not reached: the closest is " in ran.err
    assert (folder / "q.quant_config.yaml").exists()
    assert "# the budget of 0 % is not reached" in (folder / "q.quant_config.yaml").read_text(
        encoding="utf-8"
    )


def test_the_model_that_is_written_is_the_one_that_was_priced(openbpu: Command, tmp_path: Path) -> None:
    """A Softmax stays on the CPU of bayes-e; pairs around it, which the result does not have, take time."""
    text = """(float[1, 3, 8, 8] x) => (float[1, 6, 8, 8] y) {
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
        s = Sigmoid (c) n = Softmax <axis = 1> (s) t = Tanh (n)
        y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, v) }"""
    net = named(text)
    onnx.save(net, tmp_path / "net.onnx")
    np.savez(tmp_path / "c.npz", x=samples(net, 12)["x"])
    files = [tmp_path / "net.onnx", "--calib", tmp_path / "c.npz", "-o", tmp_path / "q.onnx"]
    ran = openbpu(
        "quantize", *files, "--march", "bayes-e", "--auto", "--latency", "+50%", "--trials", 6, "--json"
    )
    found = ran.json()["search"]
    march = get_march("bayes-e")
    latency = latency_of(compile_model(tmp_path / "q.onnx", march=march), march)
    best = found["points"][found["chosen"]]
    assert (best["bpu_us"], best["cpu_us"]) == (
        pytest.approx(latency.bpu_us, abs=1e-3),
        pytest.approx(latency.cpu_us, abs=1e-3),
    )
    assert best["left_float"] == ["n_n"]
    assert all("n_n" not in {*point["int16"], *point["float"]} for point in found["points"])
    assert found["config"]["node_config"]["n_n"] == {"qtype": "float"}
    first = (tmp_path / "q.onnx").read_bytes()
    path = tmp_path / "q.quant_config.yaml"
    assert "--march bayes-e" in ran.err
    openbpu("quantize", *files, "--march", "bayes-e", "--quant-config", path)
    assert (tmp_path / "q.onnx").read_bytes() == first


def test_data_of_its_own_leaves_all_samples_to_calibration(openbpu: Command, folder: Path) -> None:
    options = ("--auto", "--budget", "100%", "--data", folder / "d.npz", "--json")
    ran = openbpu(*quantize(folder, *options))
    assert ran.json()["report"]["samples"]["calibrated"] == 12
    assert "--no-hold-out" in ran.err
    first = (folder / "q.onnx").read_bytes()
    again = openbpu(*quantize(folder, "--quant-config", folder / "q.quant_config.yaml", "--no-hold-out"))
    assert again.code == 0
    assert (folder / "q.onnx").read_bytes() == first
    kept = openbpu(*quantize(folder, *options, "--hold-out"))
    assert kept.json()["report"]["samples"]["calibrated"] == 11


def test_labels_choose_the_metric_of_the_task(openbpu: Command, folder: Path) -> None:
    ran = openbpu(*quantize(folder, "--auto", "--budget", "100%", "--data", folder / "d.npz"))
    assert ran.code == 0
    assert "top1 of float: " in ran.out
    assert "on 12 samples" in ran.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--budget", "1%"],
            "--budget: must be given with --auto, not '0.01'; it is an option of the search",
        ),
        (["--metric", "top1"], "--metric: must be given with --auto"),
        (["--auto", "--int16"], "--int16: must be left out with --auto"),
        (["--auto", "--budget", "-1%"], "--budget: must be 0 or more, not '-1.00%'"),
        (["--auto", "--labels", "y"], "--labels: must be given with --data, not 'y'"),
        (["--auto", "--workers", "2", "--scheduler", "tcp://h:1"], "--workers: must be 0 with --scheduler"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    openbpu: Command, folder: Path, options: list[str], said: str
) -> None:
    ran = openbpu(*quantize(folder, *options))
    assert ran.code == 2
    assert said in " ".join(ran.err.split())


def test_files_are_looked_at_before_anything_is_done(openbpu: Command, folder: Path) -> None:
    own = folder / "q.quant_config.yaml"
    own.write_text("node_config: {n_c: {qtype: int16}}")
    before = own.read_bytes()
    fails(openbpu(*quantize(folder, "--auto", "--quant-config", own)), str(own))
    assert own.read_bytes() == before
    everything = folder / "all16.yaml"
    everything.write_text("model_config: {all_node_type: int16}")
    said = "--auto: model_config.all_node_type must be int8, not int16"
    fails(openbpu(*quantize(folder, "--auto", "--quant-config", everything)), said)
    missing = folder / "none.npz"
    fails(openbpu(*quantize(folder, "--auto", "--data", missing)), str(missing), "missing")
