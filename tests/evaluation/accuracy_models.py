"""Small models and data for the tests of `openbpu eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

DIGITS = Path(__file__).parents[2] / "models" / "digits"
FLOAT, QUANTIZED, TEST = DIGITS / "digits.onnx", DIGITS / "digits.q.onnx", DIGITS / "test.npz"


def save(path: Path, nodes: Sequence[onnx.NodeProto], ends: Mapping[str, Any], **constants: Any) -> Path:
    """Write a model. ends: inputs, then outputs, (shape, element type) by name; outputs begin with "y"."""
    infos = {n: helper.make_tensor_value_info(n, t, shape) for n, (shape, t) in ends.items()}
    graph = helper.make_graph(
        list(nodes),
        path.stem,
        [i for n, i in infos.items() if not n.startswith("y")],
        [i for n, i in infos.items() if n.startswith("y")],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def scorer(path: Path, classes: int = 3, batch: int | str = 1, scale: float = 1.0) -> Path:
    """A model whose scores are its input: (batch, classes) to (batch, classes)."""
    shape = [batch, classes]
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    ends = {"x": (shape, TensorProto.FLOAT), "y": (shape, TensorProto.FLOAT)}
    return save(path, [node], ends, scale=np.float32(scale))


def detector(path: Path, rows: Sequence[Sequence[float]]) -> Path:
    """A model of 8×8 pictures that finds the same boxes in each: (1, N, 6)."""
    found = np.asarray([rows], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["y"]),
    ]
    ends = {
        "image": ([1, 3, 8, 8], TensorProto.FLOAT),
        "y": (list(found.shape), TensorProto.FLOAT),
    }
    return save(path, nodes, ends, rows=found, zero=np.float32(0))


def pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = (16, 16)) -> None:
    """Grey pictures, each of another brightness. size: width and height."""
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (10 * n,) * 3).save(folder / name)


def coco(
    folder: Path, boxes: Mapping[str, Sequence[tuple[int, list[float]]]], categories: Sequence[int]
) -> Path:
    """A COCO file and its pictures. boxes: (category id, [x, y, w, h]) by picture."""
    pictures(folder, list(boxes))
    document = {
        "images": [
            {"id": 100 + n, "file_name": name, "width": 16, "height": 16} for n, name in enumerate(boxes)
        ],
        "annotations": [
            {"id": 1000 + 10 * n + k, "image_id": 100 + n, "category_id": of, "bbox": box}
            for n, found in enumerate(boxes.values())
            for k, (of, box) in enumerate(found)
        ],
        "categories": [{"id": i, "name": f"thing{i}"} for i in categories],
    }
    path = folder / "instances_few.json"
    path.write_text(json.dumps(document))
    return path
