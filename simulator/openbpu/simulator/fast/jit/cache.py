"""Where compiled kernels are kept: one object file per family of kernels, named by what it was made from.

The name holds a digest of the sources, of numba's and LLVM's versions and of the CPU, so a file is either
right or never looked at. Its first 32 bytes are the digest of the rest: a damaged file is compiled again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

from openbpu.arch.files import write_atomic
from openbpu.simulator.fast.jit.cpu import host

_DIGEST_BYTES = 32


def kernel_cache_dir() -> Path:
    """Return the folder of the compiled kernels: $OPENBPU_CACHE_DIR/kernels, or the user's cache folder."""
    asked = os.environ.get("OPENBPU_CACHE_DIR", "")
    return (Path(asked) if asked else _user_cache() / "openbpu") / "kernels"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")


def object_file(family: str, sources: tuple[Path, ...]) -> Path:
    """Return the file that holds, or will hold, the kernels compiled from `sources` for this CPU."""
    cpu = host()
    digest = hashlib.sha256()
    made_from = (family, version("numba"), version("llvmlite"), sys.platform, cpu.name, cpu.features)
    digest.update("\0".join(made_from).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return kernel_cache_dir() / f"{family}-{digest.hexdigest()[:24]}.o"


def load(path: Path) -> bytes | None:
    """Return the object code in `path`, or None when there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == head else None


def store(path: Path, code: bytes) -> None:
    """Keep object code, in one step:

    a reader sees all of it or nothing. A folder that cannot be written is no error.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, [hashlib.sha256(code).digest(), code], mode=0o600)
    except OSError:
        return
