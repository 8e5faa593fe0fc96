"""Results of layers, how alike they are in two models, and how alike the weights are."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from openbpu.arch.errors import QuantizationError, must
from openbpu.arch.files import write_text
from openbpu.compat.profiler.files import as_text, folder
from openbpu.compat.screen import say
from openbpu.quantization.layers import Statistics
from openbpu.quantization.measures import Closeness

if TYPE_CHECKING:
    from openbpu.quantization.torch.profiler import Feature

_ENGINE = "openbpu.quantization.torch.profiler"
_SIMILARITIES: dict[str, Callable[[Closeness], float]] = {
    "Cosine": lambda c: c.cosine,
    "MSE": lambda c: c.mse,
    "L1": lambda c: c.l1,
    "SQNR": lambda c: c.sqnr,
}
SIMILAR = ("Index", "Module Name", "Module Type", "Similarity", "qscale", "Acc Error(float atol)")
SIMILAR_COLUMNS = (*SIMILAR, "Acc Error(N out_qscale)")
WEIGHT_COLUMNS = ("Weight Name", "Module Type", "Shape", "Similarity", "Atol")
STATISTIC_COLUMNS = ("Module Index", "Module Name", "Module Type", "Min", "Max", "Mean", "Var", "Scale")


def engine() -> Any:
    """Return `openbpu.quantization.torch.profiler`; torch is imported now."""
    return importlib.import_module(_ENGINE)


def get_raw_features(
    model: Any,
    example_inputs: Any,
    prefixes: Sequence[str] = (),
    types: Sequence[type] = (),
    device: Any = None,
    preserve_int: bool = False,
    use_class_name: bool = False,
    skip_identity: bool = False,
    **ignored: Any,
) -> list[dict[str, Any]]:
    """Run a model and return the result of every layer as a dictionary, in the order of the forward.

    Keys: module_name, attr ("output"), data, scale, ch_axis, dtype, ff_method (of a FloatFunctional, else
    None). preserve_int: data as codes. use_class_name: the class stands for the path. Identity is never
    shown.
    """
    del device, skip_identity, ignored
    found = engine().features(model, example_inputs, prefixes, types)
    return [_raw(f, preserve_int=preserve_int, use_class_name=use_class_name) for f in found]


def _raw(f: Feature, *, preserve_int: bool, use_class_name: bool) -> dict[str, Any]:
    data = f.data
    if preserve_int and f.scale is not None:
        shape = [-1 if k == f.ch_axis and f.scale.numel() > 1 else 1 for k in range(data.ndim)]
        data = (data / f.scale.reshape(shape)).round().int()
    return {
        "module_name": f.op if use_class_name else f.name,
        "module_type": f.op,
        "attr": "output",
        "data": data,
        "scale": f.scale,
        "ch_axis": f.ch_axis,
        "dtype": f.dtype or "float32",
        "ff_method": f.function or None,
    }


def profile_featuremap(
    featuremap: Sequence[dict[str, Any]],
    with_tensorboard: bool = False,
    tensorboard_dir: Any = None,
    print_per_channel_scale: bool = False,
    show_per_channel: bool = False,
    out_dir: str | os.PathLike[str] | None = None,
    file_name: str | None = None,
    profile_func: Any = None,
    **ignored: Any,
) -> list[tuple[Any, ...]]:
    """Write `statistic.txt` (or FILE_NAME.txt): least, largest, mean, variance and scale of every result.

    Two tables: in the order of the forward, and those that span most first. `featuremap` is what
    `get_raw_features` returns. profile_func: called with every tensor, its result takes the place of it.
    """
    del with_tensorboard, tensorboard_dir, print_per_channel_scale, show_per_channel, ignored
    rows = statistic_rows(featuremap, profile_func)
    name = file_name or "statistic"
    write_text(folder(out_dir) / f"{name}.txt", statistic_text(rows))
    say(as_text(STATISTIC_COLUMNS, rows))
    return rows


def statistic_rows(featuremap: Sequence[dict[str, Any]], profile_func: Any = None) -> list[tuple[Any, ...]]:
    """Return a row of STATISTIC_COLUMNS for every result."""
    rows = []
    for index, entry in enumerate(featuremap):
        data = entry["data"] if profile_func is None else profile_func(entry["data"])
        s = Statistics.of(data.detach().cpu().float().numpy())
        scale = entry.get("scale")
        shown = "" if scale is None else float(scale.max())
        kind = ".".join(filter(None, (entry.get("module_type"), entry.get("ff_method"))))
        rows.append((index, entry["module_name"], kind, s.least, s.largest, s.mean, s.variance, shown))
    return rows


def statistic_text(rows: Sequence[tuple[Any, ...]]) -> str:
    """Return both tables: in the order of the forward, and the widest first."""
    widest = sorted(rows, key=lambda row: -(row[4] - row[3]))
    first, second = (as_text(STATISTIC_COLUMNS, part) for part in (rows, widest))
    return f"Statistics:\n{first}\n\nStatistics, the widest range first:\n{second}\n"


def featuremap_similarity(
    model1: Any,
    model2: Any,
    inputs: Any,
    similarity_func: str | Callable[[Any, Any], Any] = "Cosine",
    threshold: float | None = None,
    devices: Any = None,
    out_dir: str | os.PathLike[str] | None = None,
    **ignored: Any,
) -> list[list[Any]]:
    """Compare two models layer by layer; writes `similarity.txt` and returns its rows.

    similarity_func: Cosine, MSE, L1, SQNR, or a function of both results. threshold: only rows whose
    similarity is worse (below it for Cosine and SQNR, above it for L1 and MSE) are printed; all are written.
    """
    del devices, ignored
    by = _similarity(similarity_func)
    rows = [
        [k, name, op, value, scale, atol, steps]
        for k, (name, op, value, scale, atol, steps) in enumerate(_similar(model1, model2, inputs, by))
    ]
    write_text(folder(out_dir) / "similarity.txt", as_text(SIMILAR_COLUMNS, rows) + "\n")
    say(as_text(SIMILAR_COLUMNS, [r for r in rows if _is_worse(similarity_func, r[3], threshold)]))
    return rows


def _similarity(by: str | Callable[[Any, Any], Any]) -> str | Callable[[Any, Any], Any]:
    if callable(by) or by in _SIMILARITIES:
        return by
    allowed = f"{', '.join(_SIMILARITIES)} or a function of two tensors"
    raise QuantizationError(must("featuremap_similarity", "similarity_func", allowed, repr(by)))


def _is_worse(by: str | Callable[[Any, Any], Any], value: float, threshold: float | None) -> bool:
    if threshold is None:
        return True
    return value > threshold if by in ("L1", "MSE") else value < threshold


def _similar(model1: Any, model2: Any, inputs: Any, by: str | Callable[[Any, Any], Any]) -> Any:
    profiler = engine()
    first = profiler.comparable(model1, inputs, beside=model2)
    second = profiler.comparable(model2, inputs, beside=model1)
    if not callable(by):
        for row in profiler.layer_rows(first, second, inputs):
            scale = "" if row.scale is None else row.scale
            steps = "" if row.steps is None else row.steps
            yield row.name, row.op, _SIMILARITIES[by](row.close), scale, row.close.max_abs, steps
        return
    with first.settled() as a:
        expected = {f.name: f for f in profiler.features(a, inputs)}
    with second.settled() as b:
        for f in profiler.features(b, inputs):
            if f.name in expected and expected[f.name].data.shape == f.data.shape:
                other = expected[f.name].data
                scale = 0.0 if f.scale is None else float(f.scale.max())
                atol = float((other - f.data).abs().max()) if other.numel() else 0.0
                value = float(by(other, f.data))
                yield f.name, f.op, value, scale or "", atol, atol / scale if scale else ""


def compare_weights(
    float_model: Any,
    qat_quantized_model: Any,
    similarity_func: str = "Cosine",
    with_tensorboard: bool = False,
    tensorboard_dir: Any = None,
    out_dir: str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    **ignored: Any,
) -> list[tuple[Any, ...]]:
    """Compare the weights of two models, those that differ most first; writes `weight_comparison.txt`.

    Of a float model whose BatchNorm is fused in the other one, give example_inputs: they tell what belongs
    together. Without them its weights stand as they are.
    """
    del with_tensorboard, tensorboard_dir, ignored
    _similarity(similarity_func)
    profiler = engine()
    first = profiler.comparable(
        float_model, example_inputs, beside=None if example_inputs is not None else float_model
    )
    second = profiler.comparable(qat_quantized_model, example_inputs, beside=qat_quantized_model)
    rows = [
        (r.name, r.op, r.shape, _SIMILARITIES[similarity_func](r.close), r.close.max_abs)
        for r in profiler.weight_rows(first, second)
    ]
    write_text(folder(out_dir) / "weight_comparison.txt", as_text(WEIGHT_COLUMNS, rows) + "\n")
    say(as_text(WEIGHT_COLUMNS, rows))
    return rows
