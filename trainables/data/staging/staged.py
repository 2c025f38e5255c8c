"""Data on a storage, brought into this node's cache once: by whoever needs them first, for all that run here.

What is asked for by address is read from `staged/` of the cache folder, which `data.mapped` keeps. The folder
is named after what the storage lists below the address: names, sizes and times of change. So other content is
another folder, and what was interrupted is gone on with.
"""

import hashlib
import posixpath
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from spaces.errors import RunError, UsageError
from spaces.yaml_file import read_yaml
from trainables.contract.node import cache_folder
from trainables.contract.space import is_out_of_space
from trainables.data.files import ALL, SPLITS, STUDY
from trainables.data.mapped import LOCK, made_once, shared
from trainables.data.probing import locked
from trainables.data.staging.fetched import FILES, DataChanged, Listing, changed, fill, is_whole
from trainables.storage.address import Address, is_address, parsed
from trainables.storage.reading import Storage

VERSION = 1  # of how files are stored
NAMING = frozenset({".csv", ".json", ".yaml", ".yml"})  # suffixes of files that name others beside them


@dataclass(frozen=True)
class Place:
    """What an address means.

    Attributes:
        folder: Of which all files are staged.
        name: Of a data file in it; empty if the folder itself is the data.
        alone: Whether only the data file is staged.
    """

    folder: Address
    name: str
    alone: bool = False

    @property
    def shown(self) -> str:
        """As a person knows it."""
        return f"{self.folder.place}/{self.name}".rstrip("/")


@dataclass(frozen=True)
class _Here:
    """What this process uses."""

    content: str
    place: Place

    @property
    def files(self) -> Path:
        return _folder(self.content) / FILES


_HERE: dict[str, _Here] = {}  # by address
_SEEN: ContextVar[Mapping[str, str] | None] = ContextVar("seen", default=None)


def place_of(source: str, *, alone: bool = False) -> Place:
    """What an address means: of a data file all that lies in its folder, else all that lies below it.

    Raises:
        UsageError: It is none.
    """
    address = parsed(source)
    if alone or PurePosixPath(address.name).suffix.lower() in NAMING:
        return Place(address.parent, address.name, alone)
    return Place(address, "")


def local(source: str, *, alone: bool = False) -> Path:
    """Where data lie on this node; those on a storage are staged first, unless this process has done so.

    Args:
        source: A path, or an address.
        alone: Of an address: only the file is wanted, and nothing beside it.

    Raises:
        UsageError: As `stage`.
        RunError: Likewise.
    """
    if not is_address(source):
        return Path(source)
    if source not in _HERE:
        stage(source, alone=alone)
    here = _HERE[source]
    return here.files / here.place.name


def stage(source: str, *, alone: bool = False) -> None:
    """Have data of a storage on this node, as they are there now.

    Args:
        source: An address.
        alone: As of `local`.

    Raises:
        UsageError: There are none, or not as they must be, or there is no room for them.
        DataChanged: Meanwhile, or of a worker since its driver has seen them.
        RunError: The storage stayed away, or the cache cannot be written.
    """
    place, wanted = place_of(source, alone=alone), (_SEEN.get() or {}).get(source)
    if wanted is not None and shared(_folder(wanted)) and is_whole(_folder(wanted)):
        _HERE[source] = _Here(wanted, place)
        return
    storage = Storage(place.folder)
    if wanted is None:
        storage.check()  # somebody waits to be told of a mistake
    listing = _listing(storage, place)
    content = _content(place, listing)
    if wanted not in (None, content):
        raise DataChanged(f"data: {place.shown} has changed since the search looked at it")
    folder = _folder(content)
    made_once(folder, lambda partial: _begin(partial, storage, place, listing), goes_on=True)
    if not is_whole(folder):
        with locked(folder.with_suffix(LOCK)):
            fill(folder, storage, listing)
    _HERE[source] = _Here(content, place)


def seen() -> dict[str, str]:
    """Address -> what names the content that this process uses, for its workers to use the same."""
    return {source: here.content for source, here in _HERE.items()}


@contextmanager
def as_seen(content: Mapping[str, str]) -> Iterator[None]:
    """Within the context, only data of such content are used, and are not looked for where they are here."""
    before = _SEEN.set(content)
    try:
        yield
    finally:
        _SEEN.reset(before)


@contextmanager
def by_address(source: str) -> Iterator[None]:
    """Errors name what is staged by its address."""
    try:
        yield
    except (UsageError, RunError) as error:
        here = _HERE.get(source)
        if here is None:
            raise
        files, place = str(here.files), here.place.folder.place
        raise type(error)(error.message.replace(files, place), error.hint.replace(files, place)) from error


def _folder(content: str) -> Path:
    return cache_folder() / "staged" / content


def _content(place: Place, listing: Listing) -> str:
    digest = hashlib.sha256(repr((VERSION, str(place.folder))).encode())
    for name in sorted(listing):
        digest.update(repr((name, listing[name].size, listing[name].changed_ns)).encode())
    return digest.hexdigest()[:32]


def _listing(storage: Storage, place: Place) -> Listing:
    """The files that are staged: of a folder all but what is hidden, and but studies, which change meanwhile.

    Raises:
        UsageError: There are none, or some cannot be files of a folder.
    """
    found = storage.listed(below=not place.alone)
    if not place.alone:
        found = _of_data(found)
    if place.name and place.name not in found:
        raise UsageError(f"data: no such file: {place.shown}")
    if place.alone:
        return {place.name: found[place.name]}
    if not found:
        raise UsageError(
            f"data: no file below {place.shown}", "a file's address ends in .yaml, .json or .csv"
        )
    folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    for name in found:
        path = PurePosixPath(name)
        if name in folders or path.is_absolute() or ".." in path.parts or "\0" in name:
            raise UsageError(f"data: {place.shown}: no file of a folder can be called '{name}' there")
    return found


def _of_data(found: Listing) -> Listing:
    """Without hidden files and studies."""
    named = Counter(name.rpartition("/")[0] for name in found if name.rpartition("/")[2] in STUDY)
    studies = {folder for folder, count in named.items() if count == len(STUDY)}

    def is_data(name: str) -> bool:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") and part != ".." for part in path.parts)
        return not hidden and studies.isdisjoint(map(str, path.parents))

    return {name: listed for name, listed in found.items() if is_data(name)}


def _begin(partial: Path, storage: Storage, place: Place, listing: Listing) -> None:
    """Fill a folder that nobody uses yet."""
    _check_relative(storage, place, listing)
    try:
        fill(partial, storage, listing)
        if _listing(storage, place) != listing:
            raise changed(storage)
    except RunError as error:
        # What is left of an interruption is gone on with; but of this, others need the room, or it is mixed.
        if is_out_of_space(error) or isinstance(error, DataChanged):
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_relative(storage: Storage, place: Place, listing: Listing) -> None:
    """Refuse a data.yaml that names what is not below its folder, before anything else is transferred."""
    if not place.name.endswith((".yaml", ".yml")):
        return
    with TemporaryDirectory(prefix="rarecall-") as folder:
        file = Path(folder, place.name)
        storage.fetch(place.name, file)
        try:
            described = read_yaml(file, errors="replace")
        except UsageError as error:
            raise UsageError(error.message.replace(folder, place.folder.place), error.hint) from None
    if not isinstance(described, dict):
        return
    root = "".join(_texts(described.get("path")))
    for key in ("path", "images", *SPLITS, ALL):
        for named in _texts(described.get(key)):
            outside = _outside("", named, {}) if key == "path" else _outside(root, named, listing)
            if outside or is_address(named):
                raise UsageError(
                    f"data: {place.shown}: {key}: '{named}' is not in {place.folder.place}, and only what "
                    "lies below that is brought to the nodes",
                    "name files relative to the data file, and leave `path` out",
                )


def _outside(root: str, named: str, listing: Listing) -> bool:
    """Whether a name leaves the folder; Roboflow's `../train` may stand for `train`."""
    names = (named, named.removeprefix("../"))
    place, beside = (posixpath.normpath(posixpath.join(root, name)) for name in names)
    if not place.startswith(("/", "..")):
        return False
    return not any(name == beside or name.startswith(f"{beside}/") for name in listing)


def _texts(value: Any) -> list[str]:
    """What a key names: one, several, or one for each split."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]
