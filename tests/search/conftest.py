"""What the tests of storages share."""

from pathlib import Path

import pytest
from machines import Machines

from search.record.storage import mirror


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    monkeypatch.setattr("search.record.storage.lease.SETTLE_S", 0.05)
    monkeypatch.setattr(mirror, "LOOK_S", 0.05)
    return Machines(tmp_path, monkeypatch)
