"""From samples to what a model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.evaluation.accuracy.data import Sample
from openbpu.evaluation.own import Own
from openbpu.quantization.samples import Changes, Input, Pixels, read_image, read_pixels

Read = dict[tuple[str, str, object, str], Array]


@dataclass(frozen=True, slots=True)
class Feeding:
    """How samples become feeds.

    pixels: what becomes of pixels · arrays: which array an input of the first model takes · own: the user's
    preprocessing, `method` of it or itself.
    """

    pixels: Pixels = field(default_factory=Pixels)
    arrays: Mapping[str, str] = field(default_factory=dict)
    own: Own | None = None
    method: str = ""

    def feed(
        self,
        samples: Sequence[Sample],
        inputs: Sequence[Input],
        names: Mapping[str, str],
        changes: Changes,
        read: Read,
    ) -> dict[str, Array]:
        """Return the feed of a model for as many samples as it takes at a time.

        inputs: of the model · names: those of the first model, by its own · read: what was read of
        these samples for other models.
        """
        found: dict[str, list[Array]] = {i.name: [] for i in inputs}
        for sample in samples:
            for i, name in ((i, names[i.name]) for i in inputs):
                key = (sample.key, name, i.shape, str(i.dtype))
                if key not in read:
                    read[key] = self._one(sample, i, name, changes)
                found[i.name].append(read[key])
        return {i.name: _together(i, found[i.name], samples) for i in inputs}

    def _one(self, sample: Sample, taker: Input, name: str, changes: Changes) -> Array:
        """Return what an input takes of one sample."""
        if self.own is not None:
            return self._by_own(sample, taker, name)
        if sample.path is not None:
            return read_image(sample.path, taker, self.pixels, changes, sample.content)
        array = sample.arrays[self.arrays[name]]
        where = f"sample '{sample.key}'"
        if array.dtype.kind in "iu" and taker.dtype.kind == "f":
            single = _inner(taker, array.shape)
            return read_pixels(array.reshape(single), taker, self.pixels, where)
        return _cast(array, taker, where)

    def _by_own(self, sample: Sample, taker: Input, name: str) -> Array:
        assert self.own is not None  # noqa: S101  # the caller asked
        made = self.own.call(sample.key, self.method, sample)
        if isinstance(made, Mapping):
            wanted = next((n for n in (taker.name, name) if n in made), None)
            if wanted is None:
                allowed = f"an array for input '{taker.name}'"
                raise InputError(must(self.own.spec, "what it returns", f"{allowed} too", f"{list(made)}"))
            made = made[wanted]
        return _cast(np.asarray(made), taker, f"{self.own.spec}, sample '{sample.key}'")


def _cast(array: Array, taker: Input, where: str) -> Array:
    """Return an array in the input's type; floats do not become integers by themselves."""
    kinds = ("f", "iub") if taker.dtype.kind == "f" else (taker.dtype.kind, "b")
    if not np.can_cast(array.dtype, taker.dtype, "same_kind") and array.dtype.kind not in "".join(kinds):
        fix = "convert the data"
        raise InputError(must(where, f"the type of input '{taker.name}'", taker.dtype, array.dtype, fix))
    return array.astype(taker.dtype, copy=False)


def _inner(taker: Input, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one sample without an axis for the batch."""
    rank = None if taker.shape is None else len(taker.shape)
    return shape[1:] if rank == len(shape) and shape[:1] == (1,) else shape


def is_whole_run(taker: Input, shape: tuple[int, ...]) -> bool:
    """Whether a sample's array is all that an input takes at a time, its first axis included."""
    declared = taker.shape
    return declared is not None and len(declared) == len(shape) and _fits(declared, shape)


def _fits(declared: Sequence[object], shape: Sequence[int]) -> bool:
    return all(not isinstance(d, int) or d == n for d, n in zip(declared, shape, strict=True))


def _together(taker: Input, arrays: Sequence[Array], samples: Sequence[Sample]) -> Array:
    """Return the arrays of several samples as one batch."""
    first = arrays[0]
    if len(arrays) == 1 and is_whole_run(taker, first.shape):
        made = first
    else:
        parts = [a[0] if taker.shape and a.ndim == len(taker.shape) and len(a) == 1 else a for a in arrays]
        if len({p.shape for p in parts}) > 1:
            what = f"the shapes for input '{taker.name}'"
            found = ", ".join(f"{p.shape} of '{s.key}'" for p, s in zip(parts, samples, strict=True))
            raise InputError(must("samples of one batch", what, "equal", found))
        made = np.stack(parts)
    if taker.shape is not None and not (
        len(made.shape) == len(taker.shape) and _fits(taker.shape, made.shape)
    ):
        what = f"the shape for input '{taker.name}'"
        found = f"{made.shape}"
        fix = "the first axis of an array counts samples; --preprocess can change what a model gets"
        raise InputError(must(f"sample '{samples[0].key}'", what, taker.shown, found, fix))
    return np.ascontiguousarray(made)


def samples_at_once(inputs: Sequence[Input], sample: Sample, arrays: Mapping[str, str]) -> int:
    """Return how many samples a model takes at a time; 1 where a sample's arrays are a whole run."""
    if sample.arrays and all(
        n in arrays and is_whole_run(i, sample.arrays[arrays[n]].shape)
        for i, n in zip(inputs, arrays, strict=False)
    ):
        return 1
    return math.lcm(*(i.batch for i in inputs)) if inputs else 1


def split_outputs(outputs: Mapping[str, Array], count: int, where: str) -> list[dict[str, Array]]:
    """Return the outputs of a batch sample by sample, each as of a batch of one."""
    if count == 1:
        return [dict(outputs)]
    for name, y in outputs.items():
        if y.ndim == 0 or len(y) % count:
            allowed = f"a multiple of {count}, the batch"
            fix = "compile or export it with a batch of 1"
            raise InputError(must(where, f"the first size of output '{name}'", allowed, y.shape, fix))
    size = {name: len(y) // count for name, y in outputs.items()}
    return [{n: y[k * size[n] : (k + 1) * size[n]] for n, y in outputs.items()} for k in range(count)]
