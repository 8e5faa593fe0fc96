"""Facts about compiled kernels on disk: where they are kept, and which files are never loaded."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from openbpu.simulator.fast import kernel_cache_dir, kernel_cache_refusals
from openbpu.simulator.fast.jit import cache, private

NAME = "family-0123.o"
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders have no owners here")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the kernels, with one in it."""
    monkeypatch.setenv("OPENBPU_CACHE_DIR", str(tmp_path))
    cache.store(NAME, b"machine code")
    assert cache.load(NAME) == b"machine code"
    return tmp_path / "kernels"


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the system for this test; no variable names a cache."""
    for name in ("OPENBPU_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBPU_CACHE_DIR", str(tmp_path))
    assert kernel_cache_dir() == tmp_path / "kernels"
    assert kernel_cache_refusals() == {}


def test_a_damaged_cut_or_renamed_file_is_not_loaded(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    private.write(folder / "family-4567.o", whole)
    assert cache.load("family-4567.o") is None
    for wrong in (whole[:-1], whole + b"\0", whole[:-1] + b"!", b""):
        private.write(folder / NAME, wrong)
        assert cache.load(NAME) is None
    assert cache.load("missing.o") is None


@POSIX
@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_nothing_is_loaded_that_others_may_write_to(folder: Path, what: str, mode: int) -> None:
    (folder if what == "folder" else folder / NAME).chmod(mode)
    assert cache.load(NAME) is None
    if what == "file":
        cache.store(NAME, b"again")
        assert cache.load(NAME) == b"again"


@POSIX
def test_nothing_is_put_where_others_may_write(folder: Path) -> None:
    folder.chmod(0o770)
    cache.store("other.o", b"code")
    assert sorted(p.name for p in folder.iterdir()) == [NAME]
    assert kernel_cache_refusals() == {folder: "other users may write to it"}


@POSIX
def test_nothing_of_another_user_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = os.geteuid() + 1
    monkeypatch.setattr(private, "_SUPERUSER", stranger)
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert cache.load(NAME) is None
    assert kernel_cache_refusals() == {folder: "it belongs to another user"}


@POSIX
def test_no_symbolic_link_is_followed(folder: Path) -> None:
    (folder / "linked.o").symlink_to(folder / NAME)
    with pytest.raises(OSError, match="symbolic"):
        private.read(folder / "linked.o")
    real = folder.rename(folder.with_name("real"))
    folder.symlink_to(real)
    assert cache.load(NAME) is None
    assert folder in kernel_cache_refusals()


def test_a_failed_write_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache.store("other.o", b"code")
    assert [p.name for p in folder.iterdir()] == [NAME]
    assert kernel_cache_refusals() == {folder: "No space left on device"}


def test_a_home_that_cannot_be_written_is_replaced(
    own_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_temporary / "file").write_text("")
    home = own_temporary / "file" / "home"
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    cache.store(NAME, b"code")
    assert cache.load(NAME) == b"code"
    where = kernel_cache_dir()
    assert where.parent == own_temporary
    assert (where / NAME).exists()
    assert [home in path.parents for path in kernel_cache_refusals()] == [True]
    if hasattr(os, "geteuid"):
        assert stat.S_IMODE(where.lstat().st_mode) == 0o700
        assert where.name.endswith(f"-{os.geteuid()}")


def test_kernels_of_a_home_that_became_read_only_are_still_loaded(
    own_temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    cache.store(NAME, b"code")

    def write(path: Path, data: bytes) -> None:
        if own_temporary not in path.parents:
            raise OSError(30, "Read-only file system")
        written(path, data)

    written = private.write
    monkeypatch.setattr(private, "write", write)
    cache.store("later.o", b"later")
    assert cache.load(NAME) == b"code"
    assert cache.load("later.o") == b"later"
    assert kernel_cache_dir().parent == own_temporary


@POSIX
@pytest.mark.parametrize("given", ["", "cache", "./cache", "~/cache"])
def test_a_relative_cache_folder_is_ignored(
    own_temporary: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache.places()[0] == Path("/home/someone/.cache/openbpu/kernels")
    assert cache.places()[1].parent == own_temporary


@POSIX
@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_the_list_of_users_is_asked(
    own_temporary: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    import pwd

    def unknown(_: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert cache.places()[0] == Path(pwd.getpwuid(os.getuid()).pw_dir, ".cache", "openbpu", "kernels")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    (only,) = cache.places()
    assert only.parent == own_temporary
    cache.store(NAME, b"code")
    assert cache.load(NAME) == b"code"


def test_names_tell_sources_apart_by_size_too(tmp_path: Path) -> None:
    def name(*texts: str) -> str:
        files = [tmp_path / f"{i}.py" for i in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        return cache.object_name("family", tuple(files))

    assert name("ab", "c") != name("a", "bc")
    assert name("ab", "c") == name("ab", "c")
