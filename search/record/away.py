"""Checkpoints and results of a study's runs on a storage, which is where workers leave them.

An object storage has no folders, and nothing is moved there: a checkpoint is whole if the file that states
its others is there, with all of them in their sizes. What is read of a result is fetched, into the mirror.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import ValidationError

from search.record.files import ASIDE, RunFiles
from search.record.storage.lease import LEASE
from search.record.storage.remote import Remote
from trainables.contract.kept import WEIGHT_FILES, Progress, Result
from trainables.contract.trial import PROGRESS, REPORT, EpochMetrics, TrialReport

TRIALS = "trials"
_STATING: dict[type[Progress | Result], str] = {Progress: PROGRESS, Result: REPORT}
Stated = TypeVar("Stated", Progress, Result)
Listed = dict[str, dict[str, int]]  # folder of a run -> name -> size of each file in it


class StoredFiles(RunFiles):
    """As `RunFiles`, of a study on a storage.

    Args:
        root: Of the mirror.
        remote: The study on its storage.

    Raises (every call):
        UsageError: There is no such bucket, or it lets nobody in.
        RunError: The storage stayed away.
    """

    def __init__(self, root: Path, remote: Remote) -> None:
        super().__init__(root)
        self._remote = remote

    @property
    def storage(self) -> tuple[str, Any]:
        """As of `RunFiles`."""
        return self._remote.path, self._remote.system

    @contextmanager
    def marked(self) -> Iterator[tuple[str, str, str]]:
        """As of `RunFiles`."""
        yield "", str(self._remote.address), LEASE

    def result(self, key: str, *, hashed: bool = False) -> Path | None:
        """As of `RunFiles`; fetched, if it is not here."""
        found = super().result(key, hashed=hashed)
        if found is None and self._fetch_result(key):
            found = super().result(key, hashed=hashed)
        return found

    def report(self, key: str) -> TrialReport | None:
        """As of `RunFiles`; nothing but the report is fetched."""
        results = self._whole(key, Result)
        found = [results[folder].report for folder in sorted(results, reverse=True)]
        return next((report for report in found if report.key == key), None)

    def curve(self, report: TrialReport) -> tuple[EpochMetrics, ...]:
        """As of `RunFiles`."""
        if not any((path / REPORT).is_file() for path in self._checkpoints(report.key)):
            for folder in self._whole(report.key, Result):  # its weights may be large, and tell nothing of it
                place = self.root / report.key / folder
                place.mkdir(parents=True, exist_ok=True)
                self._remote.get(_of(report.key, folder, REPORT), place / REPORT)
        return super().curve(report)

    def discard(self) -> None:
        """As of `RunFiles`; on the storage, too."""
        super().discard()
        self._remote.remove_folder("")

    def remove_weights(self, key: str) -> int:
        """As of `RunFiles`, on the storage and here; the bytes are those of the storage."""
        super().remove_weights(key)
        there, freed = self._listed(key), 0
        for folder, files in there.items():
            stated = self._stated(key, folder, Result) if REPORT in files else None
            gone = [] if stated is None else [name for name in WEIGHT_FILES if name in files]
            if stated is not None and gone:  # the statement first: without them it has to be whole, too
                content = stated.without_weights().model_dump_json().encode()
                self._remote.write(_of(key, folder, REPORT), content)
            for name in gone:
                self._remote.remove(_of(key, folder, name))
                freed += files[name]
            if folder == ASIDE or PROGRESS in files:
                freed += sum(files.values())
                self._remove(_of(key, folder))
        return freed

    def resumable(self, key: str) -> str | None:
        """As of `RunFiles`."""
        there = self._listed(key)
        stated = self._whole(key, Progress, there)
        furthest = max(stated, key=lambda folder: (len(stated[folder].curve), folder == ASIDE), default=None)
        if furthest is not None and furthest != ASIDE:
            self._copy_aside(key, furthest, there)
        for folder in there:
            if folder != ASIDE or furthest is None:
                self._remove(_of(key, folder))
        return None if furthest is None else str(self._remote.address / _of(key, ASIDE))

    def _copy_aside(self, key: str, furthest: str, there: Listed) -> None:
        """Copy a checkpoint to where the next attempt starts from; it is whole at no moment between."""
        if ASIDE in there:
            self._remove(_of(key, ASIDE))
        for name in sorted(there[furthest], key=lambda name: name == PROGRESS):
            self._remote.copy(_of(key, furthest, name), _of(key, ASIDE, name))

    def at_hand(self, resume: Path | str | None, scratch: Path) -> Path | None:
        """As of `RunFiles`; a copy."""
        if resume is None:
            return None
        folder = str(resume).removeprefix(f"{self._remote.address.place}/").partition("?")[0]
        return self._fetch(folder, scratch / ASIDE)

    def keep(self, key: str, files: Path) -> None:
        """As of `RunFiles`."""
        older = sorted(folder for folder in self._listed(key) if folder != ASIDE)
        number = int(older[-1].rpartition("_")[2]) + 1 if older else 0
        for path in sorted(files.iterdir(), key=lambda path: path.name in _STATING.values()):
            self._remote.put(path, _of(key, f"checkpoint_{number:06d}", path.name))
        for folder in older:
            self._remove(_of(key, folder))

    def replace(self, older: str, newer: str) -> None:
        """As of `RunFiles`; paths are those of the storage's file system."""
        key, folder = PurePosixPath(newer).parts[-2:]
        there = {folder: self._remote.files(_of(key, folder))}
        whole = bool(self._whole(key, Result, there)) or bool(self._whole(key, Progress, there))
        if whole:
            self._remove(_of(key, PurePosixPath(older).name))

    def _fetch_result(self, key: str) -> bool:
        """Fetch the newest whole result of a run; whether there is one."""
        results = self._whole(key, Result)
        if not results:
            return False
        folder = max(results)
        self._fetch(_of(key, folder), self.root / key / folder)
        return True

    def _fetch(self, folder: str, target: Path) -> Path:
        """Fetch all files of a folder; what states them last."""
        target.mkdir(parents=True, exist_ok=True)
        for name in sorted(
            self._remote.files(folder, below=False), key=lambda name: name in _STATING.values()
        ):
            self._remote.get(f"{folder}/{name}", target / name)
        return target

    def _listed(self, key: str) -> Listed:
        """All that was left of a run, whole or not."""
        found: Listed = {}
        for path, size in self._remote.files(f"{TRIALS}/{key}").items():
            folder, _, name = path.partition("/")
            if folder == ASIDE or folder.startswith("checkpoint_"):
                found.setdefault(folder, {})[name] = size
        return found

    def _whole(self, key: str, kind: type[Stated], there: Listed | None = None) -> dict[str, Stated]:
        """Folder of a run -> what it states, of those that hold all of it."""
        found = {}
        for folder, files in (self._listed(key) if there is None else there).items():
            stated = self._stated(key, folder, kind) if _STATING[kind] in files else None
            marks = None if stated is None else stated.files
            if stated is None or marks is None:
                continue
            if all(files.get(name) == mark.size for name, mark in marks.items()):
                found[folder] = stated
        return found

    def _stated(self, key: str, folder: str, kind: type[Stated]) -> Stated | None:
        content = self._remote.read(_of(key, folder, _STATING[kind]))
        try:
            return None if content is None else kind.model_validate_json(content)
        except ValidationError:  # it was cut
            return None

    def _remove(self, folder: str) -> None:
        self._remote.remove_folder(folder, first=_STATING.values())


def _of(*parts: str) -> str:
    """Name of a run's folder or file on the study's storage."""
    return "/".join((TRIALS, *parts))
