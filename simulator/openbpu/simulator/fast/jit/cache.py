"""Where compiled kernels are kept: one object file per family of kernels, named by what it was made from.

The name holds a digest of the sources, of numba's and LLVM's versions and of the CPU, so a file is either
right or never looked at. Its first 32 bytes are a digest of its name, size and content: a damaged, renamed or
cut file is compiled again. Files are read and written as `private` says.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from openbpu.simulator.fast.jit import private
from openbpu.simulator.fast.jit.cpu import host

_DIGEST_BYTES = 32
_FOLDER = "kernels"


def kernel_cache_dir() -> Path:
    """Return the folder that compiled kernels are written to: of `places()`, the first that takes files.

    Where none does it is the first, and kernels are compiled by every process.
    """
    refused = refusals()
    folders = places()
    return folders[len(refused) % len(folders)]


def refusals() -> dict[Path, str]:
    """Return, of `places()`, those up to the first that takes files, with the reason why each does not."""
    found: dict[Path, str] = {}
    for folder in places():
        reason = _refusal(folder)
        if not reason:
            break
        found[folder] = reason
    return found


def _refusal(folder: Path) -> str:
    """Return why no file can be kept in a folder, "" where one can be."""
    try:
        private.check(folder)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        return getattr(error, "strerror", None) or str(error)
    return ""


def places() -> tuple[Path, ...]:
    """Return the folders that kernels may be in, the best first.

    $OPENBPU_CACHE_DIR/kernels alone if that is set; else the user's cache folder and, for homes that cannot
    be written, a folder of this user's own below the system's temporary one.
    """
    asked = os.environ.get("OPENBPU_CACHE_DIR", "")
    if asked:
        return (Path(asked) / _FOLDER,)
    cache = _user_cache()
    return (*((cache / "openbpu" / _FOLDER,) if cache else ()), _temporary())


def _user_cache() -> Path | None:
    """Return the folder for caches of the user, None for a user without a home."""
    home = _home()
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA") or (home and home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home and home / "Library" / "Caches"
    return _absolute("XDG_CACHE_HOME") or (home and home / ".cache")


def _home() -> Path | None:
    if sys.platform == "win32":
        return _absolute("USERPROFILE")
    import pwd  # noqa: PLC0415  # not on Windows

    given = _absolute("HOME")
    if given is not None:
        return given
    try:
        known = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (KeyError, ValueError):  # a container's user that its list of users does not have
        return None
    return known if known.is_absolute() else None


def _absolute(variable: str) -> Path | None:
    """Return a folder of the environment; a relative one is invalid, as the XDG specification has it."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def _temporary() -> Path:
    """Return a folder of this user alone, the same in every process."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:  # not one can be written
        folder = Path("/tmp")  # noqa: S108  # `private` refuses what is not ours
    whose = f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""
    return folder / f"openbpu-{_FOLDER}{whose}"


def object_name(family: str, sources: tuple[Path, ...]) -> str:
    """Return the name of the file that holds, or will hold, the kernels made from `sources` for this CPU."""
    cpu = host()
    digest = hashlib.sha256()
    made_from = (family, version("numba"), version("llvmlite"), sys.platform, cpu.name, cpu.features)
    digest.update("\0".join(made_from).encode())
    for source in sources:
        text = source.read_bytes()
        digest.update(f"\0{source.name}\0{len(text)}\0".encode())
        digest.update(text)
    return f"{family}-{digest.hexdigest()[:24]}.o"


def load(name: str) -> bytes | None:
    """Return the object code of that name, or None when there is none that is whole and in safe hands."""
    for folder in places():
        try:
            data = private.read(folder / name)
        except (OSError, ValueError):
            continue
        head, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if _digest(name, code) == head:
            return code
    return None


def store(name: str, code: bytes) -> None:
    """Keep object code in the first place that takes it; that none does is no error."""
    for folder in places():
        try:
            private.write(folder / name, _digest(name, code) + code)
        except (OSError, ValueError):
            continue
        return


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.sha256(f"{name}\0{len(code)}\0".encode() + code).digest()
