"""hmct.api: where a float model's nodes would run, and the model quantized with calibration data."""

import sys
from pathlib import Path

import numpy as np
import onnx
from hmct.api import build_model, check_model
from hmct.quantizer.debugger import get_sensitivity_of_nodes

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


def main(folder: Path) -> None:
    """Check, quantize, and find the most sensitive node."""
    model = onnx.load(DIGITS / "digits.onnx")
    images = np.load(DIGITS / "calibration.npz")["image"]
    samples = {"image": [image.reshape(1, 1, 8, 8) for image in images[:32]]}
    check_model(onnx_model=model, march="nash-e")
    config = {"model_config": {"activation": {"calibration_type": ["max", "kl"]}}}
    build_model(
        onnx_model=model,
        march="nash-e",
        cali_data=samples,
        quant_config=config,
        name_prefix=str(folder / "digits"),
    )
    calibrated = str(folder / "digits_calibrated_model.onnx")
    worst = get_sensitivity_of_nodes(calibrated, "cosine-similarity", samples, verbose=True)
    print("most sensitive:", next(iter(worst)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
