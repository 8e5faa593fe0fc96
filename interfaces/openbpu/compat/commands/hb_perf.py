"""`hb_perf x.bin`: the simulated latency as JSON and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openbpu.compat.commands.parser import Parser, files_of
from openbpu.compat.hbdk.build import hbm_perf


def main(arguments: Sequence[str]) -> int:
    """Write NAME.json and NAME.html of every file into the output folder."""
    parser = Parser("hb_perf", "The simulated latency of compiled files, as JSON and HTML.")
    parser.add_argument("model", nargs="+", help=".hbm or .bin")
    parser.add_argument("-o", "--output", default="hb_perf_result", help="the folder to write to")
    given = parser.parsed(arguments)
    for path in files_of(",".join(given.model), "hb_perf"):
        hbm_perf(path, Path(given.output) / path.stem)
    return 0
