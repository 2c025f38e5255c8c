"""What lies in the cache once per node: it goes when room is needed, unless somebody uses it."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from trainables.data import mapped
from trainables.data.mapped import LIMIT, made_once, make_room, room

SIZE = 2**20
# A process that uses a folder until its standard input ends.
USES = """
import sys
from pathlib import Path
from typing import IO
from trainables.data.mapped import made_once
def make(partial):
    raise AssertionError("it is there")
made_once(Path(sys.argv[1]), make)
print("uses it", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Room for three."""
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path))
    monkeypatch.setenv(LIMIT, str(3.5 * SIZE / 2**30))
    monkeypatch.setattr(mapped, "LEFT_FREE", 0.0)
    return tmp_path


def made(cache: Path, name: str, at: int) -> Path:
    """By a process that has ended, and was last used then."""
    folder = cache / "pixels" / name
    made_once(folder, lambda partial: (partial / "data").write_bytes(os.urandom(SIZE)) and None)
    os.close(mapped._SHARED.pop(folder))
    os.utime(folder.with_suffix(mapped.USED), (at, at))
    return folder


@contextmanager
def used(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-c", USES, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "uses it\n"
        yield


def test_what_was_unused_for_longest_goes_and_no_more_than_is_needed(cache: Path) -> None:
    older, oldest, newer = made(cache, "b", 200), made(cache, "a", 100), made(cache, "c", 300)
    assert room() < SIZE
    assert make_room(SIZE) >= SIZE
    assert [folder.is_dir() for folder in (oldest, older, newer)] == [False, True, True]
    assert make_room(SIZE // 4) >= SIZE // 4  # there is room
    assert older.is_dir()


def test_what_another_process_uses_stays(cache: Path) -> None:
    oldest, newer = made(cache, "a", 100), made(cache, "b", 200)
    with used(oldest):
        assert make_room(2 * SIZE) >= 2 * SIZE
        assert [folder.is_dir() for folder in (oldest, newer)] == [True, False]
    assert make_room(3 * SIZE) >= 3 * SIZE
    assert not oldest.is_dir()


def test_room_is_made_where_a_lock_for_one_alone_needs_a_file_open_for_writing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def on_nfs(file: IO[bytes] | int, operation: int) -> None:
        reads_alone = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if operation & fcntl.LOCK_EX and reads_alone:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", on_nfs)
    oldest = made(cache, "a", 100)
    made(cache, "b", 200)
    assert make_room(2 * SIZE) >= 2 * SIZE
    assert not oldest.is_dir()


def test_what_cannot_be_locked_counts_as_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(cache, "a", 100)
    made(cache, "b", 200)

    def refused(file: IO[bytes] | int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert make_room(2 * SIZE) < 2 * SIZE
    assert folder.is_dir()


def test_nothing_goes_where_that_would_not_be_enough(cache: Path) -> None:
    folders = [made(cache, name, 100) for name in "abc"]
    assert make_room(4 * SIZE) < 4 * SIZE
    assert all(folder.is_dir() for folder in folders)


def test_what_is_in_the_making_stays(cache: Path) -> None:
    other = made(cache, "a", 100)

    def make(partial: Path) -> None:
        (partial / "data").write_bytes(os.urandom(2 * SIZE))
        assert make_room(4 * SIZE) < SIZE
        assert make_room(SIZE) >= SIZE
        assert partial.is_dir()

    made_once(cache / "pixels" / "b", make)
    assert not other.is_dir()


def test_what_was_removed_by_hand_is_made_again_though_it_was_used(cache: Path) -> None:
    folder = cache / "pixels" / "a"
    for _ in range(2):
        made_once(folder, lambda partial: (partial / "data").write_bytes(b"it") and None)
        (folder / "data").unlink()
        folder.rmdir()
    os.close(mapped._SHARED.pop(folder))
