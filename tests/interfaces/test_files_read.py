"""Files that people write are read up to a size: a device without an end is said, not waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from openbpu.arch.files import read_bounded
from openbpu.arch.march import get_march
from openbpu.evaluation.accuracy.data.coco import read_coco
from openbpu.quantization.onnx.config import read_config
from openbpu.report.analysis_file import read_analysis

ENDLESS = Path("/dev/zero")


@pytest.mark.parametrize(("most", "fits"), [(4, True), (3, False)])
def test_a_file_is_read_up_to_its_size(tmp_path: Path, most: int, fits: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"four")
    if fits:
        assert read_bounded(path, most) == b"four"
    else:
        with pytest.raises(OSError, match="more than 3 bytes"):
            read_bounded(path, most)


@pytest.mark.skipif(not ENDLESS.exists(), reason="POSIX")
@pytest.mark.parametrize("read", [get_march, read_config])
def test_a_device_without_an_end_is_refused(read: object, tmp_path: Path) -> None:
    path = tmp_path / "endless.json"
    path.symlink_to(ENDLESS)
    with pytest.raises(Exception, match=r"cannot be read \(more than [\d,]+ bytes\)"):
        read(str(path))  # type: ignore[operator]


@pytest.mark.skipif(not ENDLESS.exists(), reason="POSIX")
@pytest.mark.parametrize("module", ["openbpu.report.analysis_file", "openbpu.evaluation.accuracy.data.coco"])
def test_large_documents_end_too(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{module}._MOST", 1 << 20)
    path = tmp_path / "endless.json"
    path.symlink_to(ENDLESS)
    with pytest.raises(OSError, match="more than 1,048,576 bytes"):
        read_analysis(path) if "report" in module else read_coco(path, None)
