"""The advice that `openbpu check --fix` can carry out: its words, and nothing else.

A row of the operator table, or what refuses a node, gives these words as its fix;
`openbpu.evaluation.fixing` has, for each of them, the function that does it and an example that prints it.
Advice in other words is for the user.
"""

from __future__ import annotations

WORDS: dict[str, str] = {}
"""Name of a fix → its words; none is part of another."""


def _fix(name: str, words: str) -> str:
    WORDS[name] = words
    return words


ZEROS = _fix("zeros in the kernel", "spread the kernel with zeros and dilate less")
STRIDE = _fix("slice behind a stride", "stride less here and take every n-th result with a Slice")
PHASES = _fix("phases of a ConvTranspose", "compute its phases with a Conv, and DepthToSpace behind it")
MAXIMA = _fix("maxima in steps", "pool in steps: the maximum of maxima is the same")
MEAN = _fix("mean of the image", "where the window is the whole image, use ReduceMean, else a smaller window")
TWO_AXES = _fix("reduce over two axes", "reshape the axis to two and reduce over both")
GROUPS = _fix("concat in groups", "concatenate in groups")
OUTPUTS = _fix("output channels apart", "split the output channels over two layers and concatenate")
BATCH = _fix("batch in pieces", "split the batch over several nodes and concatenate")
ROWS = _fix("rows in pieces", "split the rows over several nodes and concatenate")
COLUMNS = _fix("columns in pieces", "split the columns over several nodes and concatenate")
TABLE = _fix("table in pieces", "split the table, take from each part, and concatenate")
CROP = _fix("crop by Slice", "use Slice to crop")
APART = _fix("add apart", "leave it out, and add it in an Add of its own")
FACTORS = _fix("factors behind a norm", "normalize with ones and zeros; multiply and add behind it")
IMAGE = _fix("image around a norm", "reshape to [N, C, H, W]")
ROWS_FIRST = _fix("row-major indices", "use storage_order = 0")
NOTHING = _fix("reduce nothing", "remove it: it changes nothing")
EMPTY = _fix("empty operand", "take the empty tensor out of the model")
PIXELS = _fix("pixels", "replace it by DequantizeLinear with scale 1, which makes the same numbers")
MASK = _fix(
    "mask",
    "quantize the mask: .to(torch.float) and a QuantStub of its own in torch, a Quantize/Dequantize pair "
    "behind the Cast in ONNX",
)
PAIR = _fix("pair", "put a Quantize/Dequantize pair ")
"""Followed by where. Its scale is exact where the values are codes of a neighbour's, or few."""
BROADCAST = _fix(
    "broadcast product", "write the product as broadcast Mul and ReduceSum, which take int16 × int16"
)


def mechanical(advice: str) -> str:
    """Return the name of the fix that an advice asks for, "" where none can be carried out."""
    return next((name for name, words in WORDS.items() if words in advice), "")
