"""openbpu from Python: quantize, compile, run. `python examples/python_api.py [OUT.hbm]`."""

import sys
from pathlib import Path

import numpy as np

from openbpu.arch.hbm import write_hbm
from openbpu.compiler import compile as compile_model
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session

DIGITS = Path(__file__).resolve().parents[1] / "models" / "digits"


def main(output: Path | None = None) -> None:
    """Take the float digits model to the simulated chip; `output` also keeps the binary as a file."""
    qdq = quantize(DIGITS / "digits.onnx", {"image": np.load(DIGITS / "calibration.npz")["image"]})

    program = compile_model(qdq, march="nash-e")
    if output is not None:
        write_hbm(program, output)

    session = Session(program, mode="exact")  # or Session("digits.hbm"); mode="fast" runs whole layers
    test = np.load(DIGITS / "test.npz")
    result = session.run({"image": test["images"][:1] / np.float32(16)})

    logits = result.outputs["logits"]
    print(f"digit {logits.argmax()}, labelled {test['labels'][0]}; logits {np.round(logits, 2)}")
    print(f"BPU {result.latency.bpu_us:.2f} µs simulated, CPU {result.latency.cpu_us:.2f} µs estimated")
    for node in result.placement:
        print(f"{node.on}  {node.op:16}  {node.node}  {node.reason}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
