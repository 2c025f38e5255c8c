"""An SQLite file as it was before the transaction that locks it, for whoever only wants to look.

Knows SQLite's rollback journal: before a page of the file is written over, the page as it was stands in
`<file>-journal`, and whoever opens the file when its writer has died puts it back. So does a copy of both.
"""

import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

TRIES, PAUSE_S = 20, 0.05
NONCE = slice(12, 20)  # of a journal's header: what differs from transaction to transaction


def snapshot(file: Path) -> sqlite3.Connection | None:
    """The content of an SQLite file, in memory; None if it does not hold still for a copy.

    Not for a process that holds a lock on the file itself: closing the copied file would give that up.
    """
    journal = file.with_name(f"{file.name}-journal")
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="rarecall-") as folder:
            copy = Path(folder) / file.name
            before = _transaction(file, journal)
            try:
                shutil.copyfile(file, copy)  # first: the journal may grow meanwhile, by what undoes more
                if before[1] is not None:
                    shutil.copyfile(journal, copy.with_name(journal.name))
            except FileNotFoundError:  # the journal: that transaction has just ended
                continue
            if _transaction(file, journal) == before:
                memory = sqlite3.connect(":memory:", check_same_thread=False)
                with closing(sqlite3.connect(copy)) as stored:
                    stored.backup(memory)
                return memory
        time.sleep(PAUSE_S)
    return None


def _transaction(file: Path, journal: Path) -> tuple[int | None, bytes | None]:
    """Which transaction is being written: a journal's own bytes, or without one when the file was written."""
    try:
        with journal.open("rb") as stored:
            return None, stored.read(NONCE.stop)[NONCE]
    except FileNotFoundError:
        return file.stat().st_mtime_ns, None
