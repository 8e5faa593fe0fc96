"""Which commands there are, and what becomes of what they raise."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version

from openbpu.arch.errors import OpenbpuError, printable

_HERE = "openbpu.compat.commands"

COMMANDS = {
    "hb_compile": "from an ONNX model and a YAML file to a .hbm",
    "hb_mapper": "checker: where nodes run; makertbin: from a YAML file to a .bin",
    "hb_verifier": "how far two stages of a model are apart",
    "hb_model_info": "what a compiled file, or an ONNX model, holds",
    "hb_perf": "the simulated latency of a compiled file, as JSON and HTML",
    "hb_analyzer": "where a quantized model loses precision",
    "hb_model_modifier": "nodes at the ends of a compiled file are listed and removed",
    "hrt_model_exec": "model_info, infer and perf of a compiled file",
}
"""Names and what they do."""

ERROR, INTERRUPTED = 1, 130


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a command; returns its exit code, having said on stderr in one line what went wrong."""
    try:
        main: Callable[[Sequence[str]], int] = importlib.import_module(f"{_HERE}.{name}").main
        return main(list(arguments))
    except OpenbpuError as error:
        return _said(str(error))
    except KeyboardInterrupt:
        return _said("interrupted", INTERRUPTED)
    except MemoryError:
        return _said("not enough memory for this model; use a machine with more")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _said(f"{where}{error.strerror or error}; check the path, its permissions and the free space")
    except Exception as error:  # noqa: BLE001  # the last line before the user: nothing may pass
        if os.environ.get("OPENBPU_DEBUG", "") not in {"", "0"}:
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _said(
            f"internal error in openbpu {version('openbpu')}: {what}; this is a bug, please report it"
        )


def _said(text: str, code: int = ERROR) -> int:
    sys.stderr.write(printable(f"openbpu: {text}") + "\n")
    return code
