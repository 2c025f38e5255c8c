"""What runs leave on a storage, here a folder by `file://`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from left_by_runs import KEY, checkpoint, result

from search.record.away import StoredFiles
from search.record.storage.remote import Remote
from spaces.errors import RunError
from trainables.storage.address import parsed

Cut = Callable[[Path], object]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Where workers leave what the run does."""
    return tmp_path / "there" / "trials" / KEY


@pytest.fixture
def files(tmp_path: Path) -> StoredFiles:
    return StoredFiles(tmp_path / "here" / "trials", Remote(parsed((tmp_path / "there").as_uri())))


def test_the_furthest_whole_checkpoint_is_gone_on_from(
    files: StoredFiles, there: Path, tmp_path: Path
) -> None:
    checkpoint(there / "checkpoint_000000", 2)
    checkpoint(there / "checkpoint_000001", 3)
    (checkpoint(there / "checkpoint_000002", 4) / "state.bin").write_text("cut")
    address = files.resumable(KEY)
    assert address == (there / "resume").as_uri()
    copy = files.at_hand(address, tmp_path / "scratch")
    assert copy is not None
    assert (copy / "state.bin").read_text() == "after 3"
    assert [path.name for path in there.iterdir()] == ["resume"]
    assert files.resumable(KEY) == address
    checkpoint(there / "checkpoint_000000", 5)
    assert files.resumable(KEY) == address
    assert (there / "resume" / "state.bin").read_text() == "after 5"


def test_nothing_whole_is_begun_afresh(files: StoredFiles, there: Path) -> None:
    assert files.resumable(KEY) is None
    (checkpoint(there / "checkpoint_000000", 2) / "progress.json").write_text("{")
    assert files.resumable(KEY) is None
    assert list(there.iterdir()) == []


def test_a_result_is_fetched_when_it_is_asked_for(files: StoredFiles, there: Path) -> None:
    result(there / "checkpoint_000001")
    report = files.report(KEY)
    assert report is not None
    assert report.key == KEY
    assert not files.root.exists()
    found = files.to_use(KEY, "trial 0", hashed=True)
    assert found.is_relative_to(files.root)
    assert (found / "weights.pt").read_bytes() == b"weights" * 100


@pytest.mark.parametrize("cut", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "emptied"])
def test_a_result_that_was_cut_is_none(files: StoredFiles, there: Path, cut: Cut) -> None:
    cut(result(there / "checkpoint_000001") / "weights.pt")
    assert files.report(KEY) is None
    assert files.result(KEY) is None


def test_weights_are_removed_there_and_here(files: StoredFiles, there: Path) -> None:
    result(there / "checkpoint_000001")
    checkpoint(there / "resume", 2)
    checkpoint(there / "checkpoint_000000", 3)
    files.result(KEY)
    assert files.remove_weights(KEY) > 700
    assert not list(there.rglob("weights.pt"))
    assert not list(files.root.rglob("weights.pt"))
    assert files.report(KEY) is not None
    assert files.result(KEY) is not None
    assert files.remove_weights(KEY) == 0


def test_a_checkpoint_goes_once_the_newer_one_is_whole(files: StoredFiles, there: Path) -> None:
    older, newer = checkpoint(there / "checkpoint_000000", 1), checkpoint(there / "checkpoint_000001", 2)
    (newer / "state.bin").write_text("cut")
    files.replace(str(older), str(newer))
    assert older.exists()
    files.replace(str(older), str(checkpoint(newer, 2)))
    assert not older.exists()
    assert newer.exists()


def test_what_is_kept_takes_the_place_of_what_was(files: StoredFiles, there: Path, tmp_path: Path) -> None:
    files.keep(KEY, checkpoint(tmp_path / "a", 1))
    files.keep(KEY, result(tmp_path / "b"))
    assert [path.name for path in there.iterdir()] == ["checkpoint_000001"]
    assert files.report(KEY) is not None


def test_a_storage_that_stays_away_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("no folder")
    remote = Remote(parsed((tmp_path / "there").as_uri()), patience_s=0.3)
    with pytest.raises(RunError, match="cannot be used") as raised:
        remote.write("a", b"b")
    assert "--resume" in str(raised.value)
