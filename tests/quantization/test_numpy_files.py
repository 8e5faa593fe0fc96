"""NumPy's files are read right, or refused before memory is taken for what their headers claim."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openbpu.arch.errors import InputError
from openbpu.quantization.samples import Input, read_numpy
from openbpu.quantization.samples import headers as headers_of

IMAGE = Input("x", (1, 3, 8, 8), np.dtype(np.float32))


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    body = text.encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(body))
    return np.lib.format.MAGIC_PREFIX + bytes(version) + length + body


def described(shape: object, dtype: object = "<f4", fortran: object = False) -> str:
    return repr({"descr": dtype, "fortran_order": fortran, "shape": shape}) + "\n"


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def bomb(path: Path, shape: tuple[int, ...], name: str = "x") -> None:
    """An .npz of zeros, written without holding them."""
    zeros, left = bytes(1 << 20), int(np.prod(shape)) * 4
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(described(shape)))
        while left:
            left -= member.write(zeros[:left])


@pytest.fixture(scope="module")
def bombed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bomb") / "x.npz"
    bomb(path, (350_000, 3, 8, 8))
    return path


HEADERS = {
    "four tebibytes": (described((1 << 40,)), "its header says 4398046511104 bytes of data, of which 0 are"),
    "more than numbers hold": (described((1 << 62, 1 << 62)), "its header says"),
    "a negative size": (described((-1, 4)), r"its shape is \(-1, 4\)"),
    "objects": (described((1,), "|O"), "it holds objects"),
    "fields": (described((1,), [("a", "<f4")]), "it holds no numbers"),
    "elements of no size": (described((1 << 40,), "|V0"), "it holds no numbers"),
    "dates": (described((1,), "<M8[s]"), "it holds no numbers"),
    "no type": (described((1,), "<q99"), "descr"),
    "a shape that is none": (described("abc"), "shape"),
    "an order that is none": (described((1,), fortran="no"), "fortran"),
    "code": ("__import__('os').abort()\n", "header"),
    "nesting": ("(" * 5000 + "\n", "."),
    "nothing": ("", "."),
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_forged_headers_are_refused(
    name: str, packed: bool, version: tuple[int, int], tmp_path: Path
) -> None:
    text, said = HEADERS[name]
    path = tmp_path / "x.npy"
    path.write_bytes(header(text, version))
    if packed:
        with zipfile.ZipFile(path := tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", header(text, version))
    with pytest.raises(InputError, match=rf"x\.np.: the file must be a \.npy or \.npz file, not \(.*{said}"):
        read_numpy(path, [IMAGE])


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"PK\x03\x04", b"text", npy(1.0)[:-1]]
)
def test_what_is_no_whole_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"must be a \.npy or \.npz file, not \(\w"):
        read_numpy(tmp_path / "x.npy", [IMAGE])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ((3, 0), "its elements have fields"),
        ((4, 0), "its version is unknown"),
        ((1, 1), "its version is unknown"),
    ],
)
def test_headers_of_other_versions_are_refused_with_what_they_say(
    version: tuple[int, int], said: str, tmp_path: Path
) -> None:
    (tmp_path / "x.npy").write_bytes(header(described((1,)), version))
    with pytest.raises(InputError, match=rf"not \({said}\)"):
        read_numpy(tmp_path / "x.npy", [IMAGE])


@pytest.mark.parametrize("cut", range(1, 400, 23))
def test_damaged_archives_are_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(2, 3, 8, 8)))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-cut])
    with pytest.raises(InputError):
        read_numpy(path, [IMAGE])
    data[cut] ^= 0xFF
    path.write_bytes(data)
    with contextlib.suppress(InputError):  # where the damage is in a date, say, it is read
        read_numpy(path, [IMAGE])


def test_members_that_are_no_arrays_or_locked_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"array 'readme.txt': it is no NumPy file"):
        read_numpy(path, [IMAGE])
    data = bytearray(path.read_bytes())
    for at in (6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1  # encrypted
    path.write_bytes(data)
    with pytest.raises(InputError, match="password"):
        read_numpy(path, [IMAGE])


ARRAYS: dict[str, Any] = {
    "plain": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns first": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "a number": np.float32(3),
    "none": np.zeros((0, 3), np.float32),
    "big-endian": np.arange(5, dtype=">f4"),
    "big-endian integers": np.arange(5, dtype=">i8"),
    "bools": np.array([True, False]),
    "half": np.arange(5, dtype=np.float16),
    "texts": np.array(["ab", "c"]),
    "strided": np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::3],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    array = ARRAYS[name]
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "a.npz", x=array)
    np.savez_compressed(tmp_path / "b.npz", x=array)
    taker = Input("x", None, np.dtype(np.float32))
    read: list[Any] = [read_numpy(tmp_path / name, [taker]) for name in ("x.npy", "a.npz", "b.npz")]
    for found in (read[0], read[1]["x"], read[2]["x"]):
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, array)
        assert found.shape == np.shape(array)
        assert found.dtype == np.asarray(array).dtype.newbyteorder("=")
        assert found.flags.c_contiguous


def test_an_archive_that_unpacks_to_gigabytes_is_refused(bombed: Path) -> None:
    assert bombed.stat().st_size < 2 << 20
    with pytest.raises(InputError, match=r"unpack to 268800\d\d\d, over 100 times as many"):
        read_numpy(bombed, [IMAGE])


def test_an_archive_of_more_arrays_than_a_model_has_inputs_is_refused_by_their_number(tmp_path: Path) -> None:
    path, member = tmp_path / "x.npz", header(described((0,)))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.npy", member)
    with pytest.raises(InputError, match=r"it holds 1,001 arrays, over 1,000: stack the samples in one"):
        read_numpy(path, [IMAGE])


def test_a_large_array_that_fits_no_input_is_refused_by_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:  # a hole: no disk is taken
        file.write(header(described((1 << 25,))))
        file.truncate(file.tell() + (4 << 25))
    with pytest.raises(
        InputError, match=r"must be samples for an input of the model, not \(33554432,\) of float32"
    ):
        read_numpy(path, [IMAGE])


def test_more_than_half_of_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 8), np.float32))
    monkeypatch.setattr(headers_of, "memory", lambda: 2000)
    with pytest.raises(
        InputError, match="the array must be half of the memory, not 1536 bytes; at most 1000"
    ):
        read_numpy(tmp_path / "x.npy", [IMAGE])


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 3, 8, 8), True),
        ((5, 3, 8, 8), True),
        ((5, 1, 3, 8, 8), True),
        ((3, 8, 8), True),
        ((8, 8), False),
        ((1, 3, 8, 9), False),
        ((1, 1, 1, 3, 8, 8), False),
        ((), False),
    ],
)
def test_sizes_tell_what_an_input_can_take(shape: tuple[int, ...], fits: bool) -> None:
    assert IMAGE.could_take(shape) is fits


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")
def test_refusing_takes_no_memory(tmp_path: Path, bombed: Path) -> None:
    (tmp_path / "claim.npy").write_bytes(header(described((1 << 40,))))
    script = """
import sys, resource
import numpy as np
from openbpu.arch.errors import InputError
from openbpu.quantization.samples import Input, read_numpy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(__import__("pathlib").Path, sys.argv[1:]):
    try: read_numpy(path, [Input("x", (1, 3, 8, 8), np.dtype("f4"))])
    except InputError: continue
    sys.exit(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script, str(tmp_path / "claim.npy"), str(bombed)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10_000  # KiB
