"""The models side by side: float and QDQ ONNX on ONNX Runtime, `.hbm` in the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, ModelError, must
from openbpu.evaluation.ends import Ends, channels_last
from openbpu.quantization.samples import Input
from openbpu.runtime import Session
from openbpu.runtime.reference import Reference

Shapes = Mapping[str, tuple[int, ...]]


class Runner(Protocol):
    """A model that is ready: float arrays in, arrays out, as its author knows them.

    Codes and channels last are the affair of a binary that was compiled so; its values are the same.
    """

    @property
    def inputs(self) -> Sequence[Input]:
        """What it takes, in its own order."""

    @property
    def outputs(self) -> Sequence[str]:
        """What it makes."""

    def run(self, feed: Mapping[str, Array], /) -> dict[str, Array]:
        """Return the outputs by name."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as it travels.

    name: as the user wrote it · digest: of its bytes, and of those beside it · content: the bytes, where
    workers do not see the file.
    """

    name: str
    digest: str
    content: bytes | None = None

    @property
    def is_binary(self) -> bool:
        """Whether it is a `.hbm`."""
        return Path(self.name).suffix.lower() == ".hbm"

    def packed(self) -> ModelFile:
        """Return the model with its bytes inside, those of other files included."""
        if self.is_binary:
            return replace(self, content=Path(self.name).read_bytes())
        import onnx  # noqa: PLC0415  # a session of binaries never needs it

        try:
            return replace(self, content=onnx.load(self.name).SerializeToString())
        except Exception as error:  # protobuf refuses more than 2 GiB, with an exception of its own
            fix = "put it where the workers see it: they then read it themselves"
            raise ModelError(
                must(self.name, "the model", "below 2 GiB to be sent", f"({error})", fix)
            ) from error

    def open(self, *, threads: int, march: str | None, shapes: Shapes) -> Runner:
        """Return the model, ready to run; raises ModelError, HbmError, InputError."""
        if self.content is None and _digest(Path(self.name)) != self.digest:
            fix = "let nothing write to it while it is evaluated"
            raise InputError(must(self.name, "the model", "what it was at the start", "changed", fix))
        if self.is_binary:
            source = self.name if self.content is None else self.content
            return Binary(Session(source, threads=threads, march=march))
        return OnnxModel(self.name, self.content, threads, shapes)


def model_file(path: Path) -> ModelFile:
    """Return a model by its path; raises InputError for a file of another kind."""
    if path.suffix.lower() not in {".hbm", ".onnx"}:
        raise InputError(must(str(path), "the model", "an .onnx or a .hbm file", f"'{path.name}'"))
    return ModelFile(str(path), _digest(path))


def _digest(path: Path) -> str:
    made = hashlib.sha256()
    for file in (path, *_beside(path)):
        with file.open("rb") as content:
            while piece := content.read1():  # not all of it at once: it may be gigabytes
                made.update(piece)
    return made.hexdigest()


def _beside(path: Path) -> list[Path]:
    """Return the files of an ONNX model that hold its weights, where they are not inside."""
    if path.suffix.lower() == ".hbm":
        return []
    from openbpu.arch.protos import external_tensors  # noqa: PLC0415  # as above

    locations = {
        entry.value
        for tensor in external_tensors(_proto(path))
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path.parent / location for location in sorted(locations)]
    return [f for f in files if f.is_file()]  # ONNX Runtime says which is missing


def _proto(path: Path) -> Any:
    import onnx  # noqa: PLC0415  # as above
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ModelError(must(str(path), "the model", "an ONNX file", f"({error})")) from error


class OnnxModel:
    """An ONNX model on ONNX Runtime, nothing optimised: what it means, and not what a CPU makes of it."""

    def __init__(self, name: str, content: bytes | None, threads: int, shapes: Shapes) -> None:
        import onnx  # noqa: PLC0415  # as above

        from openbpu.quantization.onnx.inputs import fed_inputs  # noqa: PLC0415
        from openbpu.quantization.onnx.samples import input_of  # noqa: PLC0415

        model = _proto(Path(name)) if content is None else onnx.load_from_string(content)
        self._engine = Reference(name if content is None else model, threads=threads)
        self.inputs = [input_of(v) for v in fed_inputs(model, shapes)]
        self.outputs = list(self._engine.output_names)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        return self._engine.run(feed)


class Binary:
    """A `.hbm` in the fast simulator; its integers and channels last are turned into the model's form."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.outputs = [t.name for t in session.outputs]
        self.inputs = _takers(session)
        self._ends = Ends(session, [i.name for i in self.inputs], self.outputs)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        made = self.session.run(self._ends.given(feed)).outputs
        return self._ends.made(made, {})


def _takers(session: Session) -> list[Input]:
    """Return the inputs as the model has them: floats where the binary takes codes, channels first."""
    turned = channels_last(session.program)
    found = []
    for t in session.inputs:
        shape = t.shape
        if t.name in turned:
            n, *places, channels = shape
            shape = (n, channels, *places)
        dtype = np.dtype(np.float32) if t.scale else t.dtype.numpy
        found.append(Input(t.name, shape, dtype))
    return found
