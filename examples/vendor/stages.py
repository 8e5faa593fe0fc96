"""horizon_tc_ui: the same input through the float model, the quantized one, and the compiled file."""

import sys
from pathlib import Path

import numpy as np
from hbdk4.compiler import compile, convert, load, save  # noqa: A004
from horizon_tc_ui.hb_runtime import HBRuntime

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


def main(folder: Path) -> None:
    """Run one image through every stage."""
    module = convert(load(DIGITS / "digits.q.onnx"), "nash-m")
    save(module, folder / "digits.bc")
    compile(module, folder / "digits.hbm")
    image = (np.load(DIGITS / "test.npz")["images"][:1] / 16).astype(np.float32).reshape(1, 1, 8, 8)
    for stage in (DIGITS / "digits.onnx", folder / "digits.bc", folder / "digits.hbm"):
        runtime = HBRuntime(str(stage))
        (scores,) = runtime.run(runtime.output_names, {runtime.input_names[0]: image})
        print(f"{stage.suffix}: digit {scores.argmax()}, scores {np.round(scores[0][:3], 3).tolist()} ...")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
