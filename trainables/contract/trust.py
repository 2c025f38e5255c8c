"""What a file that others wrote may do here: run nothing unless it is trusted, and take a bounded memory.

Trust is said with each command and is no part of a run: it changes what is read, not what is trained. It is
not kept in the environment, where a shell could leave it switched on for another study.
"""

import os
import resource
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from spaces.errors import UsageError
from trainables.contract.memory import is_out_of_memory

FLAG = "--trust-weights"
# Real pickles, whose tensors lie beside them, have a megabyte at most. An opcode of one byte can make an
# object of 56, so 32 MiB of them may become about 2 GiB.
PICKLE_BYTES = 32 * 2**20
SPARE_BYTES = 2 * 2**30  # what reading a file may take beyond its own size

_TRUSTING: ContextVar[bool] = ContextVar("trusting_weights", default=False)
_LIMIT = threading.Lock()  # of memory: the process has one


@contextmanager
def trusting_weights(trust: bool) -> Iterator[None]:
    """Within the context, whether pickles that can run code are loaded."""
    token = _TRUSTING.set(trust)
    try:
        yield
    finally:
        _TRUSTING.reset(token)


def trusts_weights() -> bool:
    """Whether the person has said so; no unless told."""
    return _TRUSTING.get()


def also_trusting(command: str) -> str:
    """The command that goes on with this one: trust has to be given again."""
    return f"{command} {FLAG}" if trusts_weights() else command


def trust_hint() -> str:
    """How a file that may run code is loaded all the same."""
    return (
        f"if you trust where it comes from, {FLAG} loads it with all that it runs; that is not stored: give "
        "it with each command, with --resume too"
    )


def refuse_bomb(file: Path, *, ratio: int = 1) -> None:
    """Refuse a zip that says it unpacks to more than `ratio` times its size and 2 GiB; reads its index only.

    Whoever unpacks an entry reserves what its index says, so one that says too little is found damaged.

    Args:
        file: Any file; one that is no zip is left to its reader.
        ratio: 1 for what is stored uncompressed, as torch does.

    Raises:
        UsageError: It does.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UsageError(f"{file}: a damaged zip: {error}") from None
    size, unpacked = file.stat().st_size, sum(entry.file_size for entry in entries)
    pickled = max((entry.file_size for entry in entries if entry.filename.endswith(".pkl")), default=0)
    packed = {entry.compress_type for entry in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if packed:
        raise UsageError(f"{file}: a zip packed in a way that torch and NumPy do not write")
    if unpacked > ratio * size + SPARE_BYTES:
        raise UsageError(
            f"{file}: {size:,} bytes that unpack to {unpacked:,}: no file that torch or rarecall wrote",
            "torch stores tensors uncompressed; load and save it anew where its origin is known",
        )
    if pickled > PICKLE_BYTES:
        raise UsageError(
            f"{file}: a pickle of {pickled:,} bytes in it, at most {PICKLE_BYTES:,} are read",
            "store a state_dict: its tensors lie beside the pickle",
        )


def pickles_in(file: Path) -> list[bytes]:
    """The pickles of a file that torch wrote, not loaded; none if it is no zip.

    Raises:
        UsageError: They are too large, or the file is damaged.
    """
    refuse_bomb(file)
    if not zipfile.is_zipfile(file):
        return []
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return [_read(file, archive, name) for name in names]


def _read(file: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as entry:
            return entry.read(PICKLE_BYTES)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise UsageError(f"{file}: cannot be unpacked: {error}") from None


@contextmanager
def bounded_memory(file: Path) -> Iterator[None]:
    """Within the context, this process may take twice the file's size and 2 GiB more than it has.

    Whatever a file makes its reader build, this ends it before the machine's memory does. Where the system
    does not say what a process has (macOS), there is no bound.

    Raises:
        UsageError: It would take more.
    """
    with _LIMIT:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        taken = _data_bytes()
        if taken is not None:
            wanted = taken + 2 * file.stat().st_size + SPARE_BYTES
            most = [limit for limit in (wanted, *before) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(resource.RLIMIT_DATA, (min(most), before[1]))
        try:
            yield
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            size = file.stat().st_size
            raise UsageError(f"{file}: {size:,} bytes that take {SPARE_BYTES:,} more to read") from None
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int | None:
    """What counts towards RLIMIT_DATA now, or None where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[5]
    except FileNotFoundError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
