"""Facts about the examples: they run, and what they print is what they computed."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"openbpu_examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_demo_reports_accuracy_latency_and_placement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], march: str
) -> None:
    hbm = tmp_path / "new" / "digits.hbm"
    example("demo").main(["--march", march, "-o", str(hbm)])
    out = capsys.readouterr().out
    right = [int(n) for n in re.findall(r"(\d+) of 200", out)]
    assert len(right) == 3  # float, QDQ, compiled
    assert min(right) >= 198
    assert right[1] == right[2]
    assert f"simulated {march}" in out
    for part in ("Elements that differ", "all BPU segments", "submitting a run", "In/Out DataType"):
        assert part in out
    assert re.search(r"\n\d+ of 19 nodes on the BPU in 1 subgraph", out)
    assert sorted(p.name for p in hbm.parent.iterdir()) == ["digits.hbm", "digits.html", "image.npy"]
    page = hbm.with_suffix(".html")
    assert out.rstrip().endswith(page.resolve().as_uri())
    assert march in page.read_text(encoding="utf-8")


def test_python_api_example_classifies_its_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hbm = tmp_path / "digits.hbm"
    example("python_api").main(hbm)
    out = capsys.readouterr().out
    found = re.match(r"digit (\d), labelled (\d)", out)
    assert found is not None
    assert found[1] == found[2]
    assert re.search(r"BPU \d+\.\d\d µs simulated, CPU \d+\.\d\d µs estimated", out)
    assert hbm.stat().st_size > 10_000
