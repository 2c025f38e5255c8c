"""A look at every image file of a data set, before anything is trained: does it decode, how large, how deep.

What was seen is kept in `looks/` of the cache folder, and a file is looked at again only when its size or its
time of change is another: decoding 10,000 tiles takes half a minute. How an image is decoded is the task's.
"""

import fcntl
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spaces.errors import RunError, UsageError
from trainables.contract.node import OTHER_CACHE, cache_folder, decoding_threads
from trainables.data.files import SUFFIXES, first_of_file

VERSION = 1  # of what is kept of a look
MOST_UNREADABLE = 0.01  # share of the images that may be left out
BLOCK = 4096  # bytes at a file's begin, middle and end that tell most files apart
RANGES = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**15 - 1)  # of what cameras store in 16 bits
DARK = 2**15  # 16-bit images without such a value use less than half of their range
# Pictures in formats that are not read; in a folder of images they are counted.
UNREAD = frozenset({".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".pgm", ".ppm", ".svs"})


@dataclass(frozen=True)
class Look:
    """What one file is.

    Attributes:
        height: In pixels as the image is shown, after its EXIF rotation; 0 if it cannot be read or its
            decoder did not say.
        width: Likewise.
        grey: Whether it has no colour; None if it cannot be read.
        deepest: Largest value of an image with 16 bits; None of all others.
        problem: Why it cannot be read; empty if it can.
        digest: Of its size in bytes and of some of its content.
    """

    height: int = 0
    width: int = 0
    grey: bool | None = None
    deepest: int | None = None
    problem: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Eye:
    """A way to look at image files.

    Attributes:
        see: Looks at one; runs in a thread.
        kind: Names `see` and the version of its decoder: what others saw does not count.
    """

    see: Callable[[Path], Look]
    kind: str


Watch = Callable[[int, int], None]  # told how many images were looked at, and of how many
_WATCH: ContextVar[Watch] = ContextVar("watch", default=lambda done, total: None)
TOLD_EVERY = 100  # images

State = tuple[int, int]  # of a file: size in bytes, time of change in ns


def look_at(files: Sequence[Path], eye: Eye, *, threads: int | None = None) -> dict[Path, Look]:
    """Look at files, those that have changed since the last time; several at once.

    Args:
        files: Absolute paths.
        eye: What looks.
        threads: None for `node.decoding_threads`.

    Raises:
        UsageError: A file cannot be opened.
        RunError: The cache folder cannot be written.
    """
    if not files:
        return {}
    of_set = hashlib.sha256(repr((VERSION, eye.kind, os.path.commonpath(files))).encode()).hexdigest()[:32]
    place = cache_folder() / "looks" / f"{of_set}.json"
    with writing_to(place.parent):
        place.parent.mkdir(exist_ok=True)
    names = [str(file) for file in files]
    states = {name: _state(name) for name in names}
    with locked(place.with_suffix(".lock")):
        kept = _read(place)
        known = {name: kept[name] for name in names if name in kept and kept[name][0] == states[name]}
        new = [name for name in states if name not in known]
        first = [new[i] for i in first_of_file(new)]
        different = sorted(set(first))
        with ThreadPoolExecutor(decoding_threads() if threads is None else threads) as pool:
            seen = {}
            looks = pool.map(lambda name: _seen(Path(name), eye.see), different)
            for done, (name, look) in enumerate(zip(different, looks, strict=True), start=1):
                seen[name] = look
                if done % TOLD_EVERY == 0:
                    told(done, len(different))
        known |= {name: (states[name], seen[of]) for name, of in zip(new, first, strict=True)}
        if new:
            with writing_to(place.parent):
                _write(place, kept | known)
    return {file: known[name][1] for file, name in zip(files, names, strict=True)}


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Let `watch` know how far a long look at many images is."""
    before = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(before)


def told(done: int, total: int) -> None:
    """Tell whoever watches how many images are done, and of how many."""
    _WATCH.get()(done, total)


def _seen(file: Path, see: Callable[[Path], Look]) -> Look:
    return replace(see(file), digest=_digest(file))


def _state(file: Path | str) -> State:
    try:
        found = os.stat(file)
    except OSError as error:
        raise UsageError(f"data: {error}") from error
    return found.st_size, found.st_mtime_ns


def changed_ns(file: Path) -> int:
    """When a file was changed, as this node tells it; a copy on another node may have another time.

    Raises:
        UsageError: It is gone.
    """
    return _state(file)[1]


def _digest(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stored:
        for start in (0, size // 2, max(0, size - BLOCK)):
            stored.seek(start)
            digest.update(stored.read(BLOCK))
    return digest.hexdigest()[:32]


def _whole_digest(file: Path) -> str:
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the one process of this node in here; the system unlocks what a killed process leaves.

    Raises:
        RunError: The cache folder cannot be written, or its file system has no locks.
    """
    with writing_to(path.parent):
        lock = path.open("w")
    with lock:
        with writing_to(path.parent):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Name the cache folder where it cannot be written.

    Raises:
        RunError: It cannot.
    """
    try:
        yield
    except OSError as error:
        said = f"the cache folder {folder} cannot be written: {error.strerror or error}"
        raise RunError(said, OTHER_CACHE) from error


def _read(place: Path) -> dict[str, tuple[State, Look]]:
    """What is kept, by the names of the files; nothing of a file that is damaged: all is looked at again."""
    if not place.is_file():
        return {}
    try:
        stored = json.loads(place.read_text())
        return {name: ((size, changed), Look(**look)) for name, (size, changed, look) in stored.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _write(place: Path, looks: Mapping[str, tuple[State, Look]]) -> None:
    partial = place.with_suffix(".tmp")  # whoever writes has the lock
    partial.write_text(json.dumps({name: [*state, asdict(look)] for name, (state, look) in looks.items()}))
    os.replace(partial, place)


def check_unreadable(problems: Mapping[str, str], n_images: int) -> None:
    """Let a few unreadable images be left out.

    Raises:
        UsageError: They are more than `MOST_UNREADABLE` of all.
    """
    if len(problems) > MOST_UNREADABLE * n_images:
        name, why = next(iter(problems.items()))
        raise UsageError(
            f"data: {len(problems)} of {n_images} images cannot be read, e.g. {name}: {why}",
            f"up to {MOST_UNREADABLE:.0%} are left out; repair or remove them",
        )


def left_out(problems: Mapping[str, str]) -> dict[str, int]:
    """What is said of the unreadable images, with their number."""
    return {f"unreadable images left out, e.g. {next(iter(problems))}": len(problems)} if problems else {}


def unread(files: Iterable[Path]) -> Counter[str]:
    """What is said of the pictures among `files` whose format is not read, with their number."""
    found = Counter(file.suffix.lower() for file in files if file.suffix.lower() in UNREAD)
    read = ", ".join(sorted(SUFFIXES))
    return Counter({f"{suffix} files left out: only {read} are read": n for suffix, n in found.items()})


def depth_notes(looks: Collection[Look], pixel_max: int | None) -> tuple[str, ...]:
    """What a person should know of how 16-bit values become 8-bit ones, in sentences.

    Args:
        looks: At all images.
        pixel_max: As asked for; None if nothing is.
    """
    deep = [look.deepest for look in looks if look.deepest is not None]
    if not deep:
        return () if pixel_max is None else (f"pixel_max {pixel_max} changes nothing: no image has 16 bits",)
    highest, told = max(deep), f"{len(deep)} of {len(looks)} images have 16 bits"
    if pixel_max is None and highest < DARK:
        white = next(limit for limit in RANGES if highest <= limit)
        return (
            f"warning: {told}, and no value in them is above {highest} of 65535: they are seen as (almost) "
            f"black; set `pixel_max: {white}` in the study file, the value that is to be white",
        )
    if pixel_max is not None and highest > pixel_max:
        above = sum(value > pixel_max for value in deep)
        return (f"warning: {told}, {above} with values above pixel_max {pixel_max}, up to {highest}: white",)
    return ()


@dataclass(frozen=True)
class Listed:
    """An image as `repeated` sees it.

    Attributes:
        split: That it is in.
        name: For messages.
        path: Of its file.
        telling: Whether it would flatter in two splits; empty background is often blank, and tells nothing.
    """

    split: str
    name: str
    path: Path
    telling: bool = True


def repeated(images: Iterable[Listed], looks: Mapping[Path, Look]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Files with the same content under several names.

    Returns:
        What is said of them with their number, and sentences on those that are in more than one split.
    """
    alike: dict[str, list[Listed]] = defaultdict(list)
    for image in images:
        alike[looks[image.path].digest].append(image)
    exact: dict[str, list[Listed]] = defaultdict(list)
    for group in alike.values():
        if len(group) == 1:
            continue
        same = first_of_file([image.path for image in group])
        digests = {i: _whole_digest(group[i].path) for i in set(same)}
        for image, i in zip(group, same, strict=True):
            exact[digests[i]].append(image)
    groups = [group for group in exact.values() if len(group) > 1]
    extra = sum(len(group) - 1 for group in groups)
    counted = {f"images repeat another one's content, e.g. {groups[0][1].name}": extra} if groups else {}
    shared = [group for group in groups if _leaks(group)]
    if not shared:
        return counted, ()
    first = shared[0][0]
    other = next(image for image in shared[0] if image.split != first.split)
    where = f"{first.name} in {first.split} and {other.name} in {other.split}"
    return counted, (
        f"warning: identical images in more than one split: {len(shared)}, e.g. {where}; what is measured on "
        "an image that was trained on, or tuned on, flatters",
    )


def _leaks(group: Sequence[Listed]) -> bool:
    return len({image.split for image in group}) > 1 and any(image.telling for image in group)


def content_fingerprint(listed_as: str, looks: Iterable[Look]) -> str:
    """Another one if images have other content, though they are listed alike; in the order of the splits."""
    return hashlib.sha256(repr((listed_as, [look.digest for look in looks])).encode()).hexdigest()


def scaled_fingerprint(fingerprint: str, pixel_max: int | None) -> str:
    """The data's fingerprint, another one if other pixels are made of them."""
    if pixel_max is None:
        return fingerprint
    return hashlib.sha256(repr((fingerprint, pixel_max)).encode()).hexdigest()
