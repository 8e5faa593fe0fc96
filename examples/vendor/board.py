"""hbm_runtime: a compiled model is run on images; codes and scales become numbers."""

import sys
from pathlib import Path

import numpy as np
from hbdk4.compiler import compile, convert, load  # noqa: A004  # on a board the file is there already
from hbm_runtime import HB_HBMRuntime

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


def main(folder: Path) -> None:
    """Make a file, run it on twenty images, count what is right."""
    module = load(DIGITS / "digits.q.onnx")
    module[0].remove_io_op(op_types=["Dequantize"])
    compile(convert(module, "nash-e"), str(folder / "digits.hbm"))

    runtime = HB_HBMRuntime(str(folder / "digits.hbm"))
    name = runtime.model_names[0]
    (image,), (logits,) = runtime.input_names[name], runtime.output_names[name]
    print(name, runtime.input_shapes[name][image], runtime.input_dtypes[name][image].name)
    runtime.set_scheduling_params(priority={name: 0}, bpu_cores={name: [0]})

    data, right = np.load(DIGITS / "test.npz"), 0
    quant = runtime.output_quants[name][logits]
    for picture, label in zip(data["images"][:20], data["labels"][:20], strict=True):
        feed = (picture.reshape(runtime.input_shapes[name][image]) / 16).astype(np.float32)
        codes = runtime.run({name: {image: feed}})[name][logits]
        scores = codes.astype(np.float32) * quant.scale
        right += int(scores.argmax()) == int(label)
    print(f"{right} of 20 right")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
