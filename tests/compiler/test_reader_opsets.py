"""Facts about the opset a graph leaves the reader with: as old as its nodes allow."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import defs

from compiler.reading import model, run
from openbpu.compiler.reader import read_model, to_onnx
from openbpu.compiler.reader.opsets import WIDENED

PLAIN = """
g (float[1,8,2,2] x) => (float[1,2,4,4] y, float[8,4] r) <int64[2] s = {8,4}, int32 three = {3}> {
    c = Celu (x)
    i = Cast <to = 6> (c)
    m = Mod (i, three)
    f = Cast <to = 1> (m)
    y = DepthToSpace <blocksize = 2> (f)
    r = Reshape (x, s)
}"""


SPACED = "g (float[1,1,2,2] x) => (float[1,4,1,1] y) {{ y = SpaceToDepth <{} = 2> (x) }}"


def opset(text: str, version: int) -> int:
    return read_model(model(text, version)).opsets[""]


@pytest.mark.parametrize("version", [v for v in (21, 23, 25, 27, 28) if v <= defs.onnx_opset_version()])
def test_operators_that_use_nothing_new_are_stamped_with_the_oldest_opset(version: int) -> None:
    graph = read_model(model(PLAIN, version))
    assert graph.opsets == {"": 21}
    onnx.checker.check_model(to_onnx(graph), full_check=True)


def test_the_older_stamp_computes_the_same() -> None:
    x = np.random.default_rng(0).normal(scale=9, size=(1, 8, 2, 2)).astype(np.float32)
    newest = read_model(model(PLAIN, defs.onnx_opset_version()))  # ONNX Runtime may not know that opset
    for old, new in zip(run(model(PLAIN, 21), {"x": x}), run(to_onnx(newest), {"x": x}), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(defs.onnx_opset_version() < 28, reason="this onnx has no opset 28")
@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ('g (int32[4] x, int32[4] n) => (int32[4] y) { y = BitShift <direction = "LEFT"> (x, n) }', 28),
        ('g (uint32[4] x, uint32[4] n) => (uint32[4] y) { y = BitShift <direction = "LEFT"> (x, n) }', 21),
        (SPACED.format('mode = "CRD", blocksize'), 28),
        (SPACED.format("blocksize"), 21),
        ("g (float16[3] x) => (float16[3] y) { y = Celu (x) }", 28),
        ("g (float[3] x) => (float[3] y) { y = Swish (x) }", 24),
        ("g (float[3] x, float[3] n) => (float[3] y) { y = Mod (x, n) }", 28),
    ],
)
def test_what_only_a_newer_revision_has_keeps_its_opset(text: str, needs: int) -> None:
    assert opset(text, 28) == needs


@pytest.mark.parametrize("op", sorted(WIDENED))
def test_a_widened_revision_has_all_that_the_one_before_had(op: str) -> None:
    for since in (s for s in WIDENED[op] if s <= defs.onnx_opset_version()):
        new, old = (defs.get_schema(op, version, "") for version in (since, since - 1))
        assert new.since_version == since
        assert old.attributes.keys() <= new.attributes.keys()
        for was, now in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
            assert [f.name for f in was] == [f.name for f in now][: len(was)]
            assert all(set(a.types) & set(b.types) for a, b in zip(was, now, strict=False))
        for name, attribute in old.attributes.items():
            assert new.attributes[name].default_value == attribute.default_value
