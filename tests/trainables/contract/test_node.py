"""What a node gives to a run."""

from pathlib import Path

import pytest

from spaces.errors import RunError
from trainables.contract.node import cache_folder


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        RunError, match=r"the cache folder .*/file/cache cannot be written: Not a directory"
    ) as told:
        cache_folder()
    assert "RARECALL_CACHE" in told.value.hint
