"""ModelProfiler: records what a model computes while a block runs."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from openbpu.arch.files import write_text
from openbpu.compat.profiler.files import as_text, folder
from openbpu.compat.profiler.tables import STATISTIC_COLUMNS, engine, statistic_rows, statistic_text
from openbpu.compat.screen import say


class ModelProfiler:
    """`with ModelProfiler(model, "folder") as p: model(data)`; then p.get_info_manager().table().

    model: one in PyTorch. Every result of a layer is kept until the next block.
    """

    def __init__(self, model: Any, out_dir: str | os.PathLike[str] | None = None, **ignored: Any) -> None:
        del ignored
        self._model, self._place = model, folder(out_dir)
        self._recording: Any = None
        self._rows: list[tuple[Any, ...]] = []

    def __enter__(self) -> ModelProfiler:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self._recording = engine().Recording(self._model)
        self._recording.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = self._recording.stop()
        self._rows = statistic_rows(
            [
                {
                    "module_name": f.name,
                    "module_type": f.op,
                    "ff_method": f.function,
                    "data": f.data,
                    "scale": f.scale,
                }
                for f in found
            ]
        )

    def get_info_manager(self) -> InfoManager:
        """Return what was recorded."""
        return InfoManager(self._rows, self._place)


class InfoManager:
    """What a block recorded."""

    def __init__(self, rows: list[tuple[Any, ...]], place: Path) -> None:
        self.rows, self._place = rows, place

    def table(self, out_dir: str | os.PathLike[str] | None = None, **ignored: Any) -> list[tuple[Any, ...]]:
        """Print the statistics, write `statistic.txt`, and return the rows."""
        del ignored
        place = self._place if out_dir is None else folder(out_dir)
        write_text(place / "statistic.txt", statistic_text(self.rows))
        say(as_text(STATISTIC_COLUMNS, self.rows))
        return self.rows
