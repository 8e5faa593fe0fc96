"""hobot_dnn.pyeasy_dnn: a compiled model of the older boards, its tensors' properties, and a run."""

import sys
from pathlib import Path

import numpy as np
from hbdk4.compiler import compile, convert, load  # noqa: A004  # on a board the file is there already
from hobot_dnn import pyeasy_dnn as dnn

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


def main(folder: Path) -> None:
    """Make a file, run it on twenty images, count what is right."""
    compile(convert(load(DIGITS / "digits.q.onnx"), "bayes-e"), str(folder / "digits.bin"))

    model = dnn.load(str(folder / "digits.bin"))[0]
    said = model.inputs[0].properties
    print(model.name, said.tensor_type, said.layout, said.shape, f"{model.estimate_latency:.3f} ms")

    data, right = np.load(DIGITS / "test.npz"), 0
    for picture, label in zip(data["images"][:20], data["labels"][:20], strict=True):
        feed = (picture / 16).astype(np.float32).reshape(said.shape)
        outputs = model.forward(feed, core_id=0, priority=0)
        right += int(outputs[0].buffer.argmax()) == int(label)
    print(f"{right} of 20 right")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
