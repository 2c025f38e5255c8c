"""The folders of this machine that mirror studies on a storage, as with `--runs s3://bucket/runs`.

All that reads and writes a study works on a folder. Of a study on a storage that folder is a mirror in the
cache; what counts is on the storage. Connects to nothing.
"""

import hashlib
import os
import shlex
from pathlib import Path

from spaces.errors import RunError, UsageError
from trainables.contract.node import OTHER_CACHE, cache_folder
from trainables.storage.address import EXAMPLES, Address, is_address, parsed

MIRRORED = ".storage"  # in a folder of mirrors: what it mirrors


def mirror_of(runs: Address) -> Path:
    """The folder that mirrors a storage's studies, each by its name; made if absent.

    Raises:
        RunError: The cache cannot be written.
    """
    digest = hashlib.blake2b(str(runs).encode(), digest_size=8).hexdigest()
    folder = cache_folder() / "studies" / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MIRRORED).exists():
            partial = folder / f"{MIRRORED}.{os.getpid()}"
            partial.write_text(str(runs))
            partial.replace(folder / MIRRORED)
    except OSError as error:
        said = f"the cache folder {folder} cannot be written: {error.strerror or error}"
        raise RunError(said, OTHER_CACHE) from error
    return folder


def study_folder(text: str) -> Path:
    """The folder of a study that a person names by a path, or by the address of one on a storage.

    Raises:
        UsageError: It is an address, and none that can be used.
    """
    if not is_address(text):
        return Path(text)
    address = parsed(text)
    if address.is_root:
        raise UsageError(f"'{text}' is a whole storage, and no study on it", f"{EXAMPLES}, and a name")
    return mirror_of(address.parent) / address.name


def runs_folder(text: str) -> Path:
    """Likewise, of all studies."""
    return mirror_of(parsed(text)) if is_address(text) else Path(text)


def mirrored_runs(runs: Path) -> Address | None:
    """What a folder of studies mirrors; None of one that is itself what counts."""
    try:
        return parsed((runs / MIRRORED).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def mirrored(folder: Path) -> Address | None:
    """Likewise of a study's folder."""
    runs = mirrored_runs(folder.parent)
    return None if runs is None else runs / folder.name


def named(folder: Path) -> str:
    """A study's folder as a person would type it: of a mirror, what it mirrors, quoted for a shell."""
    address = mirrored(folder)
    return str(folder) if address is None else shlex.quote(str(address))
