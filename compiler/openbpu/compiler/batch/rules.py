"""Where each operator leaves the batch: a rule per kind, from the axis in operands to that in results.

A rule raises `Mixed` where the images of a batch would meet. Of operators without a rule nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from openbpu.arch.numerics.functions import POINTWISE
from openbpu.compiler.batch.site import Mixed, Site

Rule = Callable[[Site], int]

_ELEMENTWISE = (
    *(
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Min",
        "Max",
        "Mean",
        "Sum",
        "Mod",
        "Where",
        "PRelu",
        "Clip",
        "Cast",
    ),
    *("Not", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Identity"),
    *(
        "Relu",
        "LeakyRelu",
        "Neg",
        "Abs",
        "Sign",
        "Floor",
        "Ceil",
        "Round",
        "IsNaN",
        "IsInf",
        "Shrink",
        "Cast",
    ),
    *("Gelu", "Swish", "Mish", "Erf", "HardSwish", "HardSigmoid", "Celu", "Selu", "Elu", "Dropout"),
    *POINTWISE,
)
_IMAGES = (
    *("Conv", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool"),
    *("GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"),
    *("DepthToSpace", "SpaceToDepth"),
)
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


def elementwise(site: Site) -> int:
    """Operands meet by broadcasting, aligned at their last axes."""
    rank = len(site.out_shape())
    positions = [i for i, name in enumerate(site.node.inputs) if name]
    found = {rank - len(site.shape(i)) + axis for i in positions if (axis := site.axis(i)) is not None}
    if len(found) != 1:
        raise Mixed("its operands have the batch on different axes")
    (axis,) = found
    for i in positions:
        if site.axis(i) is None:
            site.spread(i, axis - (rank - len(site.shape(i))))
    return axis


def images(site: Site) -> int:
    """Axis 0 of operand 0 is the batch by definition."""
    if site.data_axis() != 0:
        raise Mixed("its images do not lie on axis 0")
    return 0


def scaled(site: Site) -> int:
    """Quantize and Dequantize: a scale for all, or for each entry of another axis."""
    axis = site.data_axis()
    if site.node.attrs.get("block_size", 0):
        raise Mixed("it has scales in blocks")
    if prod(site.shape(1)) > 1:
        site.apart(axis, [int(site.node.attrs.get("axis", 1))], "has scales along")
    return axis


def resize(site: Site) -> int:
    """Sizes hold the batch."""
    axis, sizes = site.data_axis(), len(site.node.inputs) > 3 and bool(site.node.inputs[3])
    if sizes and not site.node.attrs.get("axes"):
        wanted = np.array(site.ints(3), dtype=np.int64)
        if wanted[axis] != site.shape(0)[axis]:
            raise Mixed("it resizes the axis of the batch")
        wanted[axis] *= site.times
        site.constants[3] = wanted
    elif site.out_shape()[axis] != site.shape(0)[axis]:
        raise Mixed("it resizes the axis of the batch")
    return axis


def along(site: Site) -> int:
    """Softmax and the like work along one axis."""
    return site.apart(site.data_axis(), [int(site.node.attrs.get("axis", -1))], "works along")


def rows(site: Site) -> int:
    """Normalizations work on all axes from one on."""
    rank = len(site.shape(0))
    first = int(site.node.attrs.get("axis", -1)) % rank
    return site.apart(site.data_axis(), range(first, rank), "normalizes over")


def cumulative(site: Site) -> int:
    """A running sum along a constant axis."""
    return site.apart(site.data_axis(), site.ints(1), "adds up along")


def concat(site: Site) -> int:
    """Operands without a batch are repeated for every image."""
    found = {axis for i in range(len(site.node.inputs)) if (axis := site.axis(i)) is not None}
    if len(found) != 1:
        raise Mixed("its operands have the batch on different axes")
    axis = site.apart(next(iter(found)), [int(site.node.attrs["axis"])], "joins along")
    for i in range(len(site.node.inputs)):
        if site.axis(i) is None:
            site.repeat(i, axis)
    return axis


def split(site: Site) -> int:
    """Parts along another axis."""
    return site.apart(site.data_axis(), [int(site.node.attrs.get("axis", 0))], "splits")


def transpose(site: Site) -> int:
    """The batch goes where its axis goes."""
    rank = len(site.shape(0))
    perm = [int(p) for p in site.node.attrs.get("perm") or reversed(range(rank))]
    return perm.index(site.data_axis())


def reshape(site: Site) -> int:
    """The batch stays outermost of its axis: as many elements lie in front of it as before."""
    axis, before, after = site.data_axis(), site.shape(0), site.out_shape()
    front = prod(before[:axis])
    fitting = [j for j, n in enumerate(after) if prod(after[:j]) == front and n and n % site.images == 0]
    if not fitting:
        raise Mixed("it takes the axis of the batch apart")
    found = next((j for j in fitting if after[j] == site.images), fitting[0])
    if site.node.op == "Reshape":
        target = [n * site.times if j == found else n for j, n in enumerate(after)]
        site.constants[1] = np.array(target, dtype=np.int64)
    return found


def flatten(site: Site) -> int:
    """Two axes of all: the batch must begin one of them."""
    rank, axis = len(site.shape(0)), site.data_axis()
    cut = int(site.node.attrs.get("axis", 1))
    part = 0 if axis < (cut + rank if cut < 0 else cut) else 1
    if prod(site.shape(0)[:axis]) != prod(site.out_shape()[:part]):
        raise Mixed("it takes the axis of the batch apart")
    return part


def squeeze(site: Site) -> int:
    """Axes of one go."""
    rank, axis = len(site.shape(0)), site.data_axis()
    gone = [a % rank for a in site.ints(1)] if len(site.node.inputs) > 1 else []
    site.apart(axis, gone, "takes away")
    return axis - sum(a < axis for a in gone)


def unsqueeze(site: Site) -> int:
    """Axes of one come."""
    rank, axis = len(site.out_shape()), site.data_axis()
    new = {a % rank for a in site.ints(1)}
    return [a for a in range(rank) if a not in new][axis]


def expand(site: Site) -> int:
    """The shape that is asked for holds the batch."""
    axis = len(site.out_shape()) - len(site.shape(0)) + site.data_axis()
    if site.out_shape()[axis] != site.shape(0)[site.data_axis()]:
        raise Mixed("it repeats along the axis of the batch")
    wanted = np.array(site.out_shape(), dtype=np.int64)
    wanted[axis] *= site.times
    site.constants[1] = wanted
    return axis


def tile(site: Site) -> int:
    """Repeats along other axes."""
    axis = site.data_axis()
    return site.apart(axis, [a for a, n in enumerate(site.ints(1)) if n != 1], "repeats")


def gather(site: Site) -> int:
    """From other axes; or from a table, by indices that depend on the image."""
    along_ = int(site.node.attrs.get("axis", 0)) % len(site.shape(0))
    at = site.axis(1)
    if site.axis(0) is None and at is not None:
        return along_ + at
    axis = site.apart(site.data_axis(), [along_], "picks along")
    return axis if axis < along_ else axis + len(site.shape(1)) - 1


def sampled(site: Site) -> int:
    """Every image has a grid of its own, or all have the same constant one; so may the image be constant."""
    found = [site.axis(i) for i in (0, 1)]
    if set(found) - {0, None}:
        raise Mixed("its images or grids do not lie on axis 0")
    for i, axis in enumerate(found):
        if axis is None:
            site.repeat(i, 0)
    return 0


def cut(site: Site) -> int:
    """Slices of other axes."""
    axis = site.data_axis()
    given = site.ints(3) if len(site.node.inputs) > 3 and site.node.inputs[3] else range(len(site.ints(1)))
    return site.apart(axis, list(given), "cuts")


def pad(site: Site) -> int:
    """Borders on other axes."""
    rank, pads = len(site.shape(0)), site.ints(1)
    named = len(site.node.inputs) > 3 and bool(site.node.inputs[3])
    axes = [a % rank for a in site.ints(3)] if named else list(range(rank))
    padded = [
        a for a, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True) if low or high
    ]
    return site.apart(site.data_axis(), padded, "pads")


def reduce(site: Site) -> int:
    """Sums over other axes."""
    axis, rank = site.data_axis(), len(site.shape(0))
    given = len(site.node.inputs) > 1 and bool(site.node.inputs[1])
    gone = [a % rank for a in site.ints(1)] if given else list(range(rank))
    return _less(site, axis, gone)


def arg(site: Site) -> int:
    """The place of an extreme along another axis."""
    return _less(site, site.data_axis(), [int(site.node.attrs.get("axis", 0)) % len(site.shape(0))])


def _less(site: Site, axis: int, gone: list[int]) -> int:
    site.apart(axis, gone, "reduces")
    return axis if site.node.attrs.get("keepdims", 1) else axis - sum(a < axis for a in gone)


def matmul(site: Site) -> int:
    """Rows, columns or leading axes, never the inner one."""
    return _product(site, 0, 3 if site.node.op == "QLinearMatMul" else 1)


def _product(site: Site, left: int, right: int) -> int:
    a, b = site.axis(left), site.axis(right)
    rank, ranks = len(site.out_shape()), (len(site.shape(left)), len(site.shape(right)))
    if min(ranks) < 2:
        raise Mixed("one of its operands is a vector")
    found = {r - n + axis for r, n, axis in ((rank, ranks[0], a), (rank, ranks[1], b)) if axis is not None}
    if a == ranks[0] - 1 or b == ranks[1] - 2:
        raise Mixed("it adds up along the axis of the batch")
    if len(found) != 1 or (a is not None and b is not None and next(iter(found)) >= rank - 2):
        raise Mixed("its operands have the batch on different axes")
    (axis,) = found
    if axis < rank - 2:
        for position, n, mine in ((left, ranks[0], a), (right, ranks[1], b)):
            if mine is None:
                site.spread(position, axis - (rank - n))
    return axis


def gemm(site: Site) -> int:
    """Rows of the first operand."""
    axis = site.data_axis()
    if axis != int(site.node.attrs.get("transA", 0)):
        raise Mixed("it adds up along the axis of the batch")
    if len(site.node.inputs) > 2 and site.node.inputs[2]:
        site.spread(2, len(site.shape(2)) - 2)
    return 0


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_IMAGES, images),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), scaled),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "TopK"), along),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), rows),
    **dict.fromkeys((f"Reduce{name}" for name in _REDUCTIONS), reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg),
    **dict.fromkeys(("MatMul", "QLinearMatMul"), matmul),
    "CumSum": cumulative,
    "Concat": concat,
    "Split": split,
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Gather": gather,
    "GridSample": sampled,
    "Slice": cut,
    "Pad": pad,
    "Resize": resize,
    "Gemm": gemm,
}
