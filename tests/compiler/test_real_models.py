"""Real networks: meaning, agreement of simulators on every march, ONNX Runtime, and a detector's boxes."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from compiler import faces
from compiler.cut import against_onnxruntime
from compiler.observe import quantized_tensors, run_everything
from openbpu.arch.march import get_march, march_names
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from witness.ort import run

Array = npt.NDArray[Any]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FIXTURES = Path(os.environ.get("OPENBPU_FIXTURES", Path(__file__).parents[2] / "build" / "fixtures"))
QUICK = ("light_squeezenet", "light_shufflenet")
SLOW = (
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_vgg19",
    "light_zfnet512",
)
EXPORTED = tuple(
    f"{model}.{form}"
    for model in ("resnet18", "mobilenetv2_100", "ultraface", *QUICK, *SLOW)
    for form in ("u8", "s8", "s8pc")
)
MARCHES = tuple(name for name in march_names() if get_march(name).target)
# Softmax and linear Resize are approximated (docs/numerics.md); everything else in these networks is exact.
APPROXIMATE = frozenset({"Softmax", "Resize"})
ORT_SHARE = 1e-3

CASES = [
    *(pytest.param(name, id=name) for name in QUICK),
    *(pytest.param(name, id=name, marks=pytest.mark.slow) for name in SLOW),
    *(pytest.param(name, id=name, marks=pytest.mark.slow) for name in EXPORTED),
]


@lru_cache(maxsize=1)
def model_and_inputs(name: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    rng = np.random.default_rng(7)
    if name.startswith("light_") and "." not in name:
        proto = onnx.load(LIGHT / f"{name}.onnx")
        constants = {t.name for t in proto.graph.initializer}
        info = next(i for i in proto.graph.input if i.name not in constants)
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        samples = rng.normal(size=(2, *shape)).astype(np.float32)
        return quantize(proto, {info.name: samples}), {info.name: samples[0]}
    path = FIXTURES / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is made by benchmarks/fixtures.py (needs torch and timm)")
    proto = onnx.load(path)
    info = proto.graph.input[0]
    shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    return proto, {info.name: np.clip(rng.normal(size=shape), -2, 2).astype(np.float32)}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_means_what_the_graph_says(name: str) -> None:
    model, inputs = model_and_inputs(name)
    program = compile_model(model, march="nash-e", opt=0)
    observed = quantized_tensors(model, inputs, run_everything(program, inputs))
    assert observed
    on_cpu = {row.op for row in program.placement if row.on == "CPU"}
    for report in compare_layerwise(model, observed, inputs).values():
        bounded = report.producer in APPROXIMATE and report.max_error <= 1.0
        assert report.exact or bounded or report.producer in on_cpu, str(report)
    exact = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"} - _behind_approximate(
        model
    )
    for tensor, steps in against_onnxruntime(model, inputs, observed).items():
        if tensor in exact:
            assert steps.largest <= 1, (tensor, steps)
            # Weights of light_* are constant: whole planes hold one value, next to a tie or not.
            assert name.startswith("light_") or steps.differ <= max(1, ORT_SHARE * steps.elements), (
                tensor,
                steps,
            )


def _behind_approximate(model: onnx.ModelProto) -> set[str]:
    made = {o for n in model.graph.node if n.op_type in APPROXIMATE for o in n.output}
    return {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in made}


@pytest.mark.parametrize("name", CASES)
def test_fast_is_exact_on_every_march(name: str) -> None:
    model, inputs = model_and_inputs(name)
    for march in MARCHES:
        program = compile_model(model, march=march, opt=2)
        wanted = Session(program, mode="exact").run(inputs).outputs
        for threads in (1, 2):
            found = Session(program, threads=threads).run(inputs).outputs
            for output, value in wanted.items():
                np.testing.assert_array_equal(found[output], value, f"{march}, {threads} threads")


@pytest.mark.skipif(
    not faces.MODEL.exists(), reason="../shared/models/ultraface is only beside the repository"
)
def test_boxes_of_a_real_detector_match_the_float_model() -> None:
    photos = faces.photos()
    program = compile_model(quantize(faces.MODEL, {"input": np.stack(photos)}), march="nash-e")
    session, proto = Session(program), onnx.load(faces.MODEL)
    overlaps: list[float] = []
    for photo in photos:
        wanted = faces.faces(run(proto, {"input": photo}), score=0.9)
        found = faces.faces(session.run({"input": photo}).outputs, score=0.5)
        overlaps += [float(faces.iou(box, found).max(initial=0)) for box in wanted]
    assert len(overlaps) > 100
    # Between two anchors with the same score suppression may keep the other one: a box apart, rarely.
    assert min(overlaps) >= 0.8
    assert np.mean(overlaps) >= 0.975
