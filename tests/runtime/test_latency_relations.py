"""What must hold between the latencies of any two runs, whatever a march's numbers were fitted to."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.march import get_march, with_values
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize_unseen
from openbpu.runtime.latency import latency_of
from quantization.float_models import float_model

MARCHES = ["bayes-e", "nash-b", "nash-e", "nash-p"]
"""Of every kind of core one; the others differ in clock and memory."""
FASTER = [("nash-b", "nash-e"), ("nash-e", "nash-m"), ("nash-m", "nash-p")]
"""Slower and faster chips of one core: clock and array grow from one to the next."""
CONV = "Conv<pads=[1,1,1,1]>"
BODIES = {
    "products": f"a = {CONV}(x, w) b = {CONV}(a, v) y = {CONV}(b, v)",
    "tables": f"a = {CONV}(x, w) s = Sigmoid(a) m = Mul(a, s) b = {CONV}(m, v) y = Tanh(b)",
    "elements": f"a = {CONV}(x, w) b = {CONV}(x, w) s = Add(a, b) y = MaxPool<kernel_shape=[2,2]>(s)",
    "rows": "a = Softmax(x) y = Transpose<perm=[0,2,3,1]>(a)",
}


@cache
def drawn(body: str, dtype: DType, channels: int, side: int, layers: int) -> ModelProto:
    """A network, its last convolution `layers` times over, with all activations in one type."""
    kernel = np.ones((channels, channels, 3, 3), np.float32)
    steps = [BODIES[body], *(f"r{n + 1} = {CONV}(r{n}, v)" for n in range(1, layers))]
    text = " ".join(steps).replace("y = ", "r1 = ", 1)
    size = f"float[1,{channels},{side},{side}]"
    used = {name: kernel for name in ("w", "v") if f", {name})" in text}
    model = float_model(f"({size} x) => (float[N,M,K,L] r{layers}) {{ {text} }}", used)
    return quantize_unseen(model, activation=dtype, tail=dtype)


@cache
def microseconds(
    body: str, march: str, dtype: DType = DType.INT8, channels: int = 32, side: int = 24, layers: int = 1
) -> float:
    """Time on the BPU of a drawn network."""
    given = drawn(body, dtype, channels, side, layers)
    ends = ("quantize", "dequantize", "transpose")
    program = build(given, march=march, remove_io=ends, bpu_ops=("Softmax",))
    return latency_of(program, get_march(march)).bpu_us


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("body", BODIES)
def test_16_bits_are_not_cheaper_than_8(body: str, march: str) -> None:
    assert microseconds(body, march, DType.INT16) >= microseconds(body, march)


@pytest.mark.parametrize(("slower", "faster"), FASTER)
@pytest.mark.parametrize("body", BODIES)
def test_a_faster_chip_is_not_slower(body: str, slower: str, faster: str) -> None:
    assert microseconds(body, faster) <= microseconds(body, slower)


@pytest.mark.parametrize("march", MARCHES)
def test_more_channels_pixels_and_layers_are_not_faster(march: str) -> None:
    one = microseconds("tables", march)
    assert microseconds("tables", march, channels=64) >= one
    assert microseconds("tables", march, side=32) >= one
    assert microseconds("tables", march, layers=3) >= one


def test_cores_that_are_all_busy_wait_for_the_memory_that_they_share() -> None:
    march = with_values(get_march("nash-p"), {"cpu.serial_us": 0, "ddr.shared_bytes_per_second": 1_000_000})
    ends = ("quantize", "dequantize", "transpose")
    program = build(drawn("products", DType.INT8, 32, 24, 1), march=march, remove_io=ends)
    latency = latency_of(program, march)
    (timing,) = [s.timing for s in latency.segments if s.timing]
    assert latency.shared_us == timing.loaded + timing.stored  # at a byte per µs
    assert latency.frame_us_on(4) == 4 * latency.shared_us > latency.bpu_us
    apart = with_values(march, {"ddr.shared_bytes_per_second": 0})
    assert latency_of(program, apart).frame_us_on(4) == latency.bpu_us
