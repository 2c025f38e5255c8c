"""A folder on a storage, as pyarrow reads it, with patience for one that is away."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from spaces.errors import RarecallError, RunError, UsageError
from trainables.storage.address import Address

ANSWERS_S = 10.0  # at the start, where somebody waits to be told of a mistake
PATIENCE_S = 180.0  # later, where a search would have to end
LONGEST_PAUSE_S = 10.0
_REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "EXPIRED_TOKEN",
    "HTTP status 301",
    "HTTP status 400",
    "HTTP status 401",
    "HTTP status 403",
)
FOLDERS = ("local", "hdfs")  # pyarrow's names of what has folders, and renames
BLOCK = 2**22  # bytes that are read at a time
Got = TypeVar("Got")


class StorageAway(RunError):
    """A storage that was waited for in vain."""


class _Here(Exception):
    """Carries what this machine's disk has raised past the patience with the storage."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Listed:
    """A file as a storage lists it.

    Attributes:
        size: Bytes.
        changed_ns: When it was changed, in nanoseconds since 1970; 0 where the storage does not say.
    """

    size: int
    changed_ns: int


class Storage:
    """One folder of a storage; it is there as soon as something is in it.

    Every call takes names relative to it. One that fails is made again, for as long as `patience_s`.

    Attributes:
        mend: What a person may do about a bucket that is not there.
        go_on: What a person may do once a storage can be reached again.

    Args:
        address: Of the folder.
        patience_s: Seconds that the storage may be away; None for the usual.

    Raises (every call):
        UsageError: There is no such bucket, or it lets nobody in.
        StorageAway: It stayed away.
    """

    mend = "make it, or mend the address"
    go_on = "the same command goes on once it can be reached"

    def __init__(self, address: Address, patience_s: float | None = None) -> None:
        self.address = address
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self._away = False  # and said so
        self._left = threading.Event()

    def leave(self) -> None:
        """Let calls that other threads make again end as soon as they fail: nobody waits for them."""
        self._left.set()

    @cached_property
    def _connected(self) -> tuple[Any, str]:
        try:
            from pyarrow.fs import FileSystem  # noqa: PLC0415  (a second, for who has a storage)
        except ImportError:
            raise UsageError(
                f"{self.address.place} needs the Python package 'pyarrow'",
                "pip install 'ray[tune]'",
            ) from None
        try:
            system, path = FileSystem.from_uri(str(self.address))
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{self.address.place}: {error}") from None
        return system, path.rstrip("/")

    @property
    def system(self) -> Any:
        """Pyarrow's file system."""
        return self._connected[0]

    @property
    def path(self) -> str:
        """Of the folder, on that file system."""
        return self._connected[1]

    def check(self) -> None:
        """Look whether the storage is there, in time for somebody who waits.

        Raises:
            UsageError: There is no such bucket, or it lets nobody in.
            StorageAway: The storage does not answer.
        """
        said: list[Exception | bool] = []

        def look() -> None:
            try:
                if self.system.type_name not in FOLDERS:
                    said.append(bool(self.system.get_file_info(self._bucket).type))
                self.system.get_file_info(self.path)
                said.append(True)
            except (OSError, RarecallError) as error:
                said.append(error)

        asking = threading.Thread(target=look, name="storage", daemon=True)  # it may be long: left alone then
        asking.start()
        asking.join(ANSWERS_S)
        if not said or asking.is_alive():
            raise StorageAway(
                f"{self.address.place} has not answered within {ANSWERS_S:g} s",
                "is it reachable from here, and are there credentials? pyarrow looks for them where the "
                "storage's own programs do",
            )
        for one in said:
            if isinstance(one, RarecallError):
                raise one
            if isinstance(one, OSError):
                raise self._final(one) or self._stayed_away(one)
            if not one:
                raise self._no_bucket()

    def read(self, name: str) -> bytes | None:
        """What a file holds; None if there is none."""

        def call() -> bytes | None:
            try:
                with self.system.open_input_stream(self._of(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._patiently(call)

    def fetch(self, name: str, file: Path) -> str | None:
        """Write what a file holds into one of this machine, which is cut if that fails.

        Returns:
            The SHA-256 of what has come, in hex digits; None if there is no such file.

        Raises:
            OSError: This machine's file cannot be written.
        """

        def call() -> str | None:
            digest = hashlib.sha256()
            try:
                stream = self.system.open_input_stream(self._of(name))
            except FileNotFoundError:
                return None
            with stream, _written(file) as write:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    write(block)
            return digest.hexdigest()

        try:
            return self._patiently(call)
        except _Here as here:
            raise here.error from None

    def listed(self, folder: str = "", *, below: bool = True) -> dict[str, Listed]:
        """Name, relative to `folder` -> the files in it, or also `below` it."""
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415

        root = self._of(folder)

        def call() -> dict[str, Listed]:
            selector = FileSelector(root, allow_not_found=True, recursive=below)
            found = self.system.get_file_info(selector)
            return {
                one.path[len(root) + 1 :]: Listed(one.size, one.mtime_ns or 0)
                for one in found
                if one.type == FileType.File
            }

        return self._patiently(call)

    def files(self, folder: str = "", *, below: bool = True) -> dict[str, int]:
        """Likewise, with their sizes in bytes alone."""
        return {name: one.size for name, one in self.listed(folder, below=below).items()}

    def folders(self) -> list[str]:
        """Names of the folders at the top."""
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415

        selector = FileSelector(self.path, allow_not_found=True)
        found = self._patiently(lambda: self.system.get_file_info(selector))
        return [one.base_name for one in found if one.type == FileType.Directory]

    def _of(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _patiently(self, call: Callable[[], Got]) -> Got:
        until, pause = time.monotonic() + self.patience_s, 0.5
        while True:
            try:
                got = call()
            except OSError as error:
                final = self._final(error)
                if final is not None or self._left.is_set() or time.monotonic() + pause > until:
                    raise final or self._stayed_away(error) from error
                if not self._away:
                    self._away = True
                    logging.getLogger(__name__).warning(
                        "%s is away, trying for %.0f s: %s", self.address.place, self.patience_s, _line(error)
                    )
                self._left.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                self._away = False
                return got

    def _final(self, error: OSError) -> UsageError | None:
        """What a person is told of an error that waiting does not mend."""
        said = str(error)
        if "NO_SUCH_BUCKET" in said or f"Bucket '{self._bucket}' not found" in said:
            return self._no_bucket()
        if isinstance(error, PermissionError) or any(word in said for word in _REFUSED):
            return UsageError(
                f"{self.address.place} lets this machine not in: {_line(error)}",
                "credentials are looked for where the storage's own programs do, e.g. in AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY or ~/.aws",
            )
        return None

    def _no_bucket(self) -> UsageError:
        return UsageError(f"there is no bucket '{self._bucket}' for {self.address.place}", self.mend)

    @property
    def _bucket(self) -> str:
        return self.address.place.partition("://")[2].partition("/")[0]

    def _stayed_away(self, error: OSError) -> StorageAway:
        return StorageAway(f"{self.address.place} cannot be used: {_line(error)}", self.go_on)


def _line(error: OSError) -> str:
    """What an error says, without the numbers of a request."""
    return str(error).strip().splitlines()[0].partition(" (Request ID")[0]


@contextmanager
def _written(file: Path) -> Iterator[Callable[[bytes], None]]:
    """What writes into a file, to the system at once; an error of its disk is raised as `_Here`."""
    try:
        out = file.open("wb", buffering=0)
    except OSError as error:
        raise _Here(error) from error

    def write(block: bytes) -> None:
        left = memoryview(block)
        try:
            while left:
                left = left[out.write(left) :]
        except OSError as error:
            raise _Here(error) from error

    with out:
        yield write
