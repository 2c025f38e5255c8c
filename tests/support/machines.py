"""Several machines that see one storage, here a folder by `file://`: each has a cache of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import DATA, config

from search.cli.common import runs_path
from search.record.folder import StudyFolder
from search.record.storage.lease import LEASE, Lease


class Machines:
    """Some, that see one storage."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there = root / "there"
        self.there.mkdir()
        self._root, self._monkeypatch = root, monkeypatch

    def on(self, name: str) -> StudyFolder:
        """The study as a machine has it, which from now on is this one."""
        self._monkeypatch.setenv("RARECALL_CACHE", str(self._root / name))
        folder = self.here()
        folder.bring()
        return folder

    def here(self) -> StudyFolder:
        """The study as this machine has it."""
        return StudyFolder(runs_path(self.there.as_uri()) / "toy")

    def lease(self) -> Lease:
        return Lease.model_validate_json((self.there / "toy" / LEASE).read_bytes())

    def age(self, seconds: float) -> None:
        """Let the lease be older."""
        lease = self.lease()
        older = lease.model_copy(update={"seen": lease.seen - seconds})
        (self.there / "toy" / LEASE).write_text(older.model_dump_json())


@contextmanager
def written(folder: StudyFolder) -> Iterator[None]:
    folder.create(config(), "fingerprint", DATA.minority).flush()
    with folder.claimed():
        yield
