"""`openbpu run` on what `openbpu quantize --calib` reads: pictures, folders and stacked arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interfaces.conftest import Command, fails


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("seven.png", "one.bmp", "nine.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def planes(path: Path, scale: float = 1 / 255, mean: float = 0, std: float = 1) -> Any:
    pixels = np.asarray(Image.open(path), np.float32)[np.newaxis, np.newaxis]
    return ((pixels * np.float32(scale) - np.float32(mean)) / np.float32(std)).astype(np.float32)


def result_of(openbpu: Command, hbm: Path, array: Any) -> Any:
    np.save(hbm.with_name("a.npy"), array)
    assert openbpu("run", hbm, "--input", hbm.with_name("a.npy"), "-o", hbm.with_name("a")).code == 0
    return np.load(hbm.with_name("a") / "logits.npy")


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ((), {}),
        (("--scale", "1", "--mean", "3", "--std", "254"), {"scale": 1, "mean": 3, "std": 254}),
    ],
)
def test_a_picture_gives_the_result_of_its_array(
    openbpu: Command, hbm: Path, pictures: Path, options: tuple[str, ...], numbers: dict[str, float]
) -> None:
    ran = openbpu(
        "run", hbm, "--input", f"image={pictures / 'seven.png'}", *options, "-o", hbm.with_name("out")
    )
    assert ran.code == 0, ran
    expected = result_of(openbpu, hbm, planes(pictures / "seven.png", **numbers))
    np.testing.assert_array_equal(np.load(hbm.with_name("out") / "logits.npy"), expected)


def test_a_folder_is_a_run_per_file(openbpu: Command, hbm: Path, pictures: Path) -> None:
    out = hbm.with_name("out")
    document = openbpu("run", hbm, "--input", pictures, "-o", out, "--json").json()
    assert [row["run"] for row in document["outputs"]] == ["nine", "one", "seven"]
    for row, name in zip(document["outputs"], ("nine.png", "one.bmp", "seven.png"), strict=True):
        assert row["file"] == str(out / row["run"] / "logits.npy")
        expected = result_of(openbpu, hbm, planes(pictures / name))
        np.testing.assert_array_equal(np.load(row["file"]), expected)
    shown = openbpu("run", hbm, "--input", pictures).out
    assert all(name in shown for name in ("nine", "one", "seven"))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_stacked_arrays_are_a_run_each(openbpu: Command, hbm: Path, kind: str) -> None:
    path = hbm.with_name(f"many.{kind}")
    many = np.random.default_rng(0).random((12, 1, 8, 8), dtype=np.float32)
    np.save(path, many) if kind == "npy" else np.savez(path, anything=many)
    ran = openbpu("run", hbm, "--input", path, "-o", hbm.with_name("out"), "--json")
    files = [Path(row["file"]) for row in ran.json()["outputs"]]
    assert [f.parent.name for f in files] == [f"many_{n:02}" for n in range(12)]
    np.testing.assert_array_equal(np.load(files[7]), result_of(openbpu, hbm, many[7:8]))


def test_what_was_done_to_pictures_is_said(openbpu: Command, hbm: Path, pictures: Path) -> None:
    Image.new("RGB", (20, 10)).save(pictures / "wide.png")
    ran = openbpu("run", hbm, "--input", pictures / "wide.png")
    assert "images: resized 1 image to 8×8, converted 1 image to grey\n" in ran.err


def test_the_file_that_does_not_fit_is_named(openbpu: Command, hbm: Path) -> None:
    folder = hbm.with_name("arrays")
    folder.mkdir()
    for name, size in (("a", 8), ("b", 7)):
        np.save(folder / f"{name}.npy", np.zeros((1, 1, 8, size), np.float32))
    fails(openbpu("run", hbm, "--input", f"image={folder}"), "b: input 'image': shape must be 1×1×8×8")


def test_a_name_that_is_no_input_is_said_for_pictures_too(
    openbpu: Command, hbm: Path, pictures: Path
) -> None:
    fails(openbpu("run", hbm, "--input", f"imgae={pictures}"), "did you mean 'image'?")


def test_codes_of_a_picture_go_where_quantize_was_removed(
    openbpu: Command, hbm: Path, pictures: Path, tmp_path: Path
) -> None:
    from interfaces.conftest import QUANTIZED

    bare, out = tmp_path / "bare.hbm", tmp_path / "bare"
    openbpu("compile", QUANTIZED, "-o", bare, "--march", "nash-e", "--remove-io", "quantize")
    assert openbpu("run", bare, "--input", pictures / "one.bmp", "-o", out).code == 0
    expected = result_of(openbpu, hbm, planes(pictures / "one.bmp"))
    np.testing.assert_array_equal(np.load(out / "logits.npy"), expected)
