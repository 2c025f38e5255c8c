"""What was seen of images is kept: a damaged note is made anew, a folder that cannot be written is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import RunError
from trainables.data.boxes.whole import HEADERS
from trainables.data.probing import look_at


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(np.full((4, 5 + i, 3), 9, dtype=np.uint8)).save(file)
    return files


@pytest.mark.parametrize("left", [b"", b'{"cut', b"[1]", b'{"a": [1]}', b'{"a": [1, 2, {"no": 1}]}', b"\xff"])
def test_a_damaged_note_is_made_anew(left: bytes, images: list[Path], tmp_path: Path) -> None:
    first = look_at(images, HEADERS)
    (note,) = (tmp_path / "cache" / "looks").glob("*.json")
    note.write_bytes(left)
    assert look_at(images, HEADERS) == first
    assert set(json.loads(note.read_text())) == {str(file) for file in images}


def test_a_cache_folder_that_cannot_be_written_is_named(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match=r"the cache folder .*looks cannot be written: No space left"):
        look_at(images, HEADERS)
