"""Labelled data of every kind: what it is read as, and what is wrong with it in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.accuracy_models import coco, pictures
from openbpu.arch.errors import InputError
from openbpu.evaluation.accuracy.data import evenly, read_data


def labels_of(path: Path, **options: Any) -> dict[str, Any]:
    data = read_data(path, ["x"], **options)
    return {s.key: s.label for s in data.samples}


def test_a_folder_per_class_is_numbered_in_the_order_of_names(tmp_path: Path) -> None:
    pictures(tmp_path, ["dog/b.png", "dog/a.png", "cat/z.png", "ant/deep/er.png", "cat/notes.bmp"])
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "zebra").mkdir()  # without images it is no class
    assert labels_of(tmp_path) == {
        "ant/deep/er.png": 0,
        "cat/notes.bmp": 1,
        "cat/z.png": 1,
        "dog/a.png": 2,
        "dog/b.png": 2,
    }
    assert read_data(tmp_path, ["x"]).classes == ("ant", "cat", "dog")


def test_a_file_of_classes_gives_the_order_and_keeps_empty_ones(tmp_path: Path) -> None:
    pictures(tmp_path / "data", ["dog/a.png", "cat/z.png"])
    (tmp_path / "classes.txt").write_text("dog\nbird\ncat\n")
    found = labels_of(tmp_path / "data", classes=tmp_path / "classes.txt")
    assert found == {"cat/z.png": 2, "dog/a.png": 0}


def test_numbers_as_names_that_are_not_the_labels_are_said(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{n}/a.png" for n in range(11)])
    (told,) = read_data(tmp_path, ["x"]).told
    assert "'10' is class 2" in told
    assert "--classes" in told


def test_numbers_as_names_that_are_the_labels_are_not(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{n}/a.png" for n in range(3)])
    assert read_data(tmp_path, ["x"]).told == ()


def test_one_folder_without_labels_is_data_without_labels(tmp_path: Path) -> None:
    pictures(tmp_path, ["b.png", "a.png"])
    assert labels_of(tmp_path) == {"a.png": None, "b.png": None}


@pytest.mark.parametrize(
    "text",
    ["b.png 3\na.png 0\n", "b.png,3\na.png,0\n", "image,label\nb.png,3\na.png,0", "b.png\t3\n\na.png\t0\n"],
)
def test_a_file_of_labels_names_images(tmp_path: Path, text: str) -> None:
    pictures(tmp_path / "data", ["a.png", "b.png", "c.png"])
    (tmp_path / "val.txt").write_text(text)
    assert labels_of(tmp_path / "data", labels=str(tmp_path / "val.txt")) == {"b.png": 3, "a.png": 0}


def test_a_file_of_labels_may_name_classes_that_are_listed(tmp_path: Path) -> None:
    pictures(tmp_path / "data", ["a.png", "b.png"])
    (tmp_path / "val.txt").write_text("a.png dog\nb.png cat\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    options = {"labels": str(tmp_path / "val.txt"), "classes": tmp_path / "classes.txt"}
    assert labels_of(tmp_path / "data", **options) == {"a.png": 1, "b.png": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png dog\n", r"val.txt:1: the label must be a whole number, not 'dog'; name the classes"),
        ("a.png\n", r"val.txt:1: the line must be an image and its label, 'a.png 3', not 'a.png'"),
        ("a.png 1\nz.png 2\n", r"the images must be those that .*val.txt names, not 1 missing of 2: 'z.png'"),
        ("a.png 1\na.png 2\n", r"val.txt:2: an image must be named once, not 'a.png' again"),
        ("\n", r"val.txt: the file must be a line for each, not empty"),
    ],
)
def test_what_is_wrong_with_a_file_of_labels_is_said(tmp_path: Path, text: str, said: str) -> None:
    pictures(tmp_path / "data", ["a.png"])
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(InputError, match=said):
        read_data(tmp_path / "data", ["x"], labels=str(tmp_path / "val.txt"))


def test_images_beside_folders_of_classes_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.png", "cat/a.png"])
    with pytest.raises(InputError, match=r"must be of one kind, not 1 folders and 1 images"):
        read_data(tmp_path, ["x"])


def test_a_folder_that_is_no_class_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "data", ["cat/a.png", "dgo/a.png"])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match="dgo: the folder must be one of the classes"):
        read_data(tmp_path / "data", ["x"], classes=tmp_path / "classes.txt")


def save_npz(**arrays: Any) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        np.savez(folder / "data.npz", **arrays)
        return folder / "data.npz"

    return save


def test_arrays_have_their_labels_beside_them(tmp_path: Path) -> None:
    path = save_npz(images=np.arange(12).reshape(4, 3), labels=np.array([2, 0, 1, 1], np.uint8))(tmp_path)
    data = read_data(path, ["x"])
    assert [s.label for s in data.samples] == [2, 0, 1, 1]
    assert all(type(s.label) is int for s in data.samples)
    assert data.inputs == {"x": "images"}
    np.testing.assert_array_equal(data.samples[2].arrays["images"], [6, 7, 8])


def test_the_array_of_labels_may_have_any_name(tmp_path: Path) -> None:
    path = save_npz(x=np.zeros((2, 3)), truth=np.array([[1], [0]]), y=np.zeros((2, 5)))(tmp_path)
    assert [s.label for s in read_data(path, ["x"], labels="truth").samples] == [1, 0]


def test_labels_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    np.save(tmp_path / "y.npy", np.array([1, 0]))
    data = read_data(tmp_path / "x.npy", ["x"], labels=str(tmp_path / "y.npy"))
    assert [s.label for s in data.samples] == [1, 0]


def test_several_inputs_take_arrays_of_their_names(tmp_path: Path) -> None:
    path = save_npz(a=np.zeros((2, 3)), b=np.zeros((2, 4)), more=np.zeros(2), labels=np.zeros(2, int))(
        tmp_path
    )
    data = read_data(path, ["b", "a"])
    assert data.inputs == {"b": "b", "a": "a"}
    assert set(data.samples[0].arrays) == {"a", "b", "more"}  # for a metric of the user's own


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (
            save_npz(x=np.zeros((3, 2)), labels=np.zeros(2)),
            "the same in every array, not 3 in 'x', 2 in 'labels'",
        ),
        (save_npz(a=np.zeros(2), b=np.zeros(2)), r"the array of input 'x' must be in it, not only a, b"),
        (save_npz(x=np.zeros(()), labels=np.zeros(2)), "array 'x' must be of one axis or more"),
        (save_npz(x=np.zeros((0, 2)), labels=np.zeros(0)), "the number of samples must be at least 1, not 0"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(tmp_path: Path, save: Callable[[Path], Path], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_data(save(tmp_path), ["x"])


def test_coco_numbers_categories_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = coco(
        tmp_path, {"a.png": [(7, [1, 2, 3, 4])], "b.png": [(3, [0, 0, 2, 2]), (7, [1, 1, 1, 1])]}, [7, 3]
    )
    data = read_data(path, ["x"])
    assert data.classes == ("thing3", "thing7")
    assert [[o["category"] for o in s.label] for s in data.samples] == [[1], [0, 1]]
    assert data.samples[0].label[0]["area"] == 12
    assert data.samples[0].size == (16, 16)


def test_the_images_of_coco_are_found_where_they_usually_are(tmp_path: Path) -> None:
    path = coco(tmp_path / "few", {"a.png": []}, [1])
    (tmp_path / "annotations").mkdir()
    moved = path.rename(tmp_path / "annotations" / "instances_few.json")
    assert read_data(moved, ["x"]).samples[0].path == tmp_path / "few" / "a.png"
    with pytest.raises(InputError, match=r"those that the file lists, not 1 of 1 missing, 'a.png' the first"):
        read_data(moved, ["x"], images=tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("annotations"), "'annotations' must be a list, not missing"),
        (lambda d: d["images"][0].pop("width"), r"images\[0\]: 'width' must be given, not missing"),
        (
            lambda d: d["annotations"][0].update(bbox=[1, 2]),
            r"annotations\[0\]: bbox must be \[x, y, width, height\]",
        ),
        (lambda d: d["annotations"][0].update(image_id=5), r"annotations\[0\]: image_id must be one that"),
        (
            lambda d: d["annotations"][0].update(category_id=5),
            r"annotations\[0\]: category_id must be one that",
        ),
        (
            lambda d: d["images"][0].update(width=0),
            r"images\[0\]: width and height must be whole and positive",
        ),
        (lambda d: d["images"].append(d["images"][0]), "every id of 'images' must be given once"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_said(tmp_path: Path, change: Any, said: str) -> None:
    path = coco(tmp_path, {"a.png": [(1, [1, 2, 3, 4])]}, [1])
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=said):
        read_data(path, ["x"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.npz", "must be a folder of images.*, not missing"),
        ("data.tar", "not a .tar"),
        ("x.json", "COCO .json, not"),
    ],
)
def test_data_of_no_kind_is_refused(tmp_path: Path, name: str, said: str) -> None:
    if not name.startswith("no"):
        (tmp_path / name).write_text("{")
    with pytest.raises(InputError, match=said):
        read_data(tmp_path / name, ["x"])


def test_an_option_for_another_kind_of_data_is_refused(tmp_path: Path) -> None:
    path = save_npz(x=np.zeros((2, 3)))(tmp_path)
    with pytest.raises(InputError, match="--images must be left out for this kind of data"):
        read_data(path, ["x"], images=tmp_path)


@pytest.mark.parametrize(
    ("total", "limit", "chosen"),
    [(5, None, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (10, 3, [0, 3, 6]), (4, 1, [0]), (3, 2, [0, 1])],
)
def test_a_limit_takes_samples_from_everywhere(total: int, limit: int | None, chosen: list[int]) -> None:
    assert evenly(total, limit) == chosen


def test_the_digest_sees_content_labels_and_names(tmp_path: Path) -> None:
    pictures(tmp_path / "a", ["x/1.png", "y/2.png"])
    digest = read_data(tmp_path / "a", ["x"]).digest()
    pictures(tmp_path / "b", ["x/1.png", "y/2.png"])
    assert read_data(tmp_path / "b", ["x"]).digest() == digest  # where it lies does not matter
    content = (tmp_path / "b" / "x" / "1.png").read_bytes()
    (tmp_path / "b" / "y" / "2.png").write_bytes(content)
    changed = read_data(tmp_path / "b", ["x"]).digest()
    (tmp_path / "a" / "y").rename(tmp_path / "a" / "w")  # other labels
    assert len({digest, changed, read_data(tmp_path / "a", ["x"]).digest()}) == 3


def test_the_digest_of_arrays_sees_values_types_and_labels(tmp_path: Path) -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.array([0, 1])
    forms: list[dict[str, Any]] = [
        {"x": x, "labels": y},
        {"x": x + 1, "labels": y},
        {"x": x.astype(np.float32), "labels": y},
        {"x": x, "labels": 1 - y},
        {"x": x},
    ]
    digests = {read_data(save_npz(**arrays)(tmp_path), ["x"]).digest() for arrays in forms}
    assert len(digests) == len(forms)
