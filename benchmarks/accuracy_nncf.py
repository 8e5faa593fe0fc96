"""Quantize with NNCF: `PYTHON accuracy_nncf.py MODEL.onnx FEEDS.npz OUT.onnx`, in an environment that has it.

Started by `accuracy.py --nncf PYTHON`; imports nothing of openbpu.
"""

import sys

import numpy as np
import onnx


def main() -> None:
    """Read, quantize with the defaults, write."""
    import nncf

    model, data, out = sys.argv[1:]
    arrays = np.load(data)
    feeds: dict[int, dict[str, object]] = {}
    for key in arrays:
        number, name = key.split(" ", 1)
        feeds.setdefault(int(number), {})[name] = arrays[key]
    samples = [feeds[n] for n in sorted(feeds)]
    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(samples), subset_size=len(samples)), out)


if __name__ == "__main__":
    main()
