"""Processes that stage data of a storage, for tests: what each has fetched, and one that dies meanwhile."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from trainables.data import mapped
from trainables.data.staging import staged

# Stages what is named, notes each file that it fetches, then uses it until its standard input ends.
STAGES = """
import os, signal, sys, time
from trainables.data.staging import fetched, staged
from trainables.storage.reading import Storage
source, log, dies_after, pause_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
fetch = Storage.fetch
def noted(storage, name, file):
    time.sleep(pause_s)
    got = fetch(storage, name, file)
    with open(log, "a") as out:
        out.write(name + "\\n")
    if sum(1 for _ in open(log)) == dies_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return got
Storage.fetch = noted
fetched.THREADS = 2
print(staged.local(source), flush=True)
sys.stdin.read()
"""


def staging(
    source: str,
    log: Path,
    *,
    dies_after: int = 0,
    pause_s: float = 0.0,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """A process that stages; it kills itself once so many files are in the log."""
    return subprocess.Popen(
        [sys.executable, "-c", STAGES, source, str(log), str(dies_after), str(pause_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def ended(process: subprocess.Popen[str]) -> str:
    """What it has printed, once it has ended; errors too."""
    out, errors = process.communicate(timeout=120)
    return out + errors


def fetched(log: Path) -> list[str]:
    return sorted(log.read_text().splitlines()) if log.exists() else []


def forget() -> None:
    """Let this process use nothing of the cache, as one that begins."""
    for used in mapped._SHARED.values():
        os.close(used)
    mapped._SHARED.clear()
    staged._HERE.clear()
