"""Samples from files: how pictures, folders and stacked arrays become what an input takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openbpu.arch.errors import InputError
from openbpu.quantization.samples import Changes, Input, Pixels, read_samples, stacked

F32 = np.dtype(np.float32)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for n in range(4):
        pixels = np.random.default_rng(n).integers(0, 256, (4, 6, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{n}.png")
    return tmp_path


def pixels_of(path: Path) -> Any:
    return np.asarray(Image.open(path))


def one(path: Path, taker: Input, pixels: Pixels | None = None) -> Any:
    (sample,) = read_samples(path, taker, pixels or Pixels(), Changes())
    return sample.read()


def test_a_picture_is_planes_of_0_to_1(pictures: Path) -> None:
    made = one(pictures / "p0.png", Input("x", (1, 3, 4, 6), F32))
    expected = pixels_of(pictures / "p0.png").transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    np.testing.assert_array_equal(made, expected * np.float32(1 / 255))


def test_channels_last_inputs_take_pictures_as_they_lie(pictures: Path) -> None:
    made = one(pictures / "p0.png", Input("x", (1, 4, 6, 3), F32), Pixels(1.0))
    np.testing.assert_array_equal(made[0], pixels_of(pictures / "p0.png"))


def test_an_input_of_codes_gets_codes(pictures: Path) -> None:
    made = one(pictures / "p0.png", Input("x", (1, 3, 4, 6), np.dtype(np.int8), 1 / 255, -128))
    assert made.dtype == np.int8
    expected = pixels_of(pictures / "p0.png").transpose(2, 0, 1).astype(int) - 128
    np.testing.assert_array_equal(made[0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_an_input_of_integers_without_a_scale_gets_the_pixels(pictures: Path, dtype: Any) -> None:
    made = one(pictures / "p0.png", Input("x", (1, 3, 4, 6), np.dtype(dtype)))
    assert made.dtype == dtype
    np.testing.assert_array_equal(made[0], pixels_of(pictures / "p0.png").transpose(2, 0, 1))


def test_pictures_of_a_folder_fill_batches_in_the_order_of_their_names(pictures: Path) -> None:
    samples = read_samples(pictures, Input("x", (2, 3, 4, 6), F32), Pixels(1.0), Changes())
    assert [s.label for s in samples] == ["p0-p1", "p2-p3"]
    last = pixels_of(pictures / "p3.png").transpose(2, 0, 1)
    np.testing.assert_array_equal(samples[1].read()[1], last)


def test_a_batch_that_stays_open_is_refused_with_what_to_do(pictures: Path) -> None:
    with pytest.raises(
        InputError, match=r"multiple of 3, the batch of input 'x', not 4; add 2 or leave 1 out"
    ):
        read_samples(pictures, Input("x", (3, 3, 4, 6), F32), Pixels(), Changes())


def test_pictures_of_one_name_keep_their_suffixes(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    samples = read_samples(tmp_path, Input("x", (1, 1, 2, 2), F32), Pixels(), Changes())
    assert [s.label for s in samples] == ["a.bmp", "a.png"]


def test_pictures_beside_arrays_are_not_left_out_silently(pictures: Path) -> None:
    np.save(pictures / "a.npy", np.zeros((1, 3, 4, 6), np.float32))
    with pytest.raises(InputError, match=r"must be of one kind, not 1 \.npy files and 4 images"):
        read_samples(pictures, Input("x", (1, 3, 4, 6), F32), Pixels(), Changes())


def test_a_picture_of_16_bits_is_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png: the image must be of 8 bits a channel"):
        one(tmp_path / "deep.png", Input("x", (1, 1, 2, 2), F32))


@pytest.mark.parametrize(
    ("array", "shape", "runs"),
    [
        ((6, 2), (2, 2), 3),
        ((3, 2, 2), (2, 2), 3),
        ((2, 2), (2, 2), 1),
        ((4,), (2,), 2),
        ((5, 2), (2, 2), 1),  # does not divide: the session says what is wrong
        ((4, 3), (2, 2), 1),
        ((6, 2), ("n", 2), 1),  # an open batch takes all of it
        ((), (), 1),
    ],
)
def test_runs_stacked_in_an_array(array: tuple[int, ...], shape: tuple[Any, ...], runs: int) -> None:
    data = np.arange(np.prod(array, dtype=int), dtype=np.float32).reshape(array)
    samples = stacked("x", data, Input("x", shape, F32))
    assert len(samples) == runs
    np.testing.assert_array_equal(np.concatenate([s.read().ravel() for s in samples]), data.ravel())


def test_a_file_is_no_picture_only_because_it_is_named_so(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.eps", "EPS")  # for which Pillow would start a program
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="must be an image, not"):
        one(tmp_path / "a.png", Input("x", (1, 3, 4, 6), F32))
