"""hbdk4.compiler: a quantized ONNX model becomes a .hbm without Quantize and Dequantize at its ends."""

import sys
from pathlib import Path

from hbdk4.compiler import Hbm, compile, convert, hbm_perf, load, save, statistics  # noqa: A004
from hbdk4.compiler.march import March

DIGITS = Path(__file__).resolve().parents[2] / "models" / "digits"


def main(folder: Path) -> None:
    """Convert, strip the ends, compile, and look at the result."""
    module = convert(load(DIGITS / "digits.q.onnx"), March.NASH_E)
    function = module[0]
    function.remove_io_op(op_types=["Quantize", "Dequantize"])
    statistics(module)
    save(module, folder / "digits.bc")
    compile(
        load(folder / "digits.bc"), folder / "digits.hbm", March.NASH_E, opt=2, jobs=8, progress_bar=False
    )
    graph = Hbm(folder / "digits.hbm").graphs[0]
    for end in (*graph.flatten_inputs, *graph.flatten_outputs):
        print(end.name, end.type.shape, end.type.np_dtype, end.quant_info.scales)
    for node in graph.nodes:
        print(f"{node.name} on {node.device}: {node.estimated_latency_micros:.1f} us")
    hbm_perf(str(folder / "digits.hbm"), str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
