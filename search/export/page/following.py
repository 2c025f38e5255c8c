"""Keeps what is shown of a storage new while somebody looks, from threads: it may be slow, or away."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from search.export.page.view import Asked, view
from search.record.folder import StudyFolder
from search.record.storage.address import mirror_of, mirrored, mirrored_runs, named
from search.record.storage.mirror import brought
from search.record.storage.remote import Remote
from spaces.errors import RarecallError, RunError
from trainables.storage.reading import ANSWERS_S

EVERY_S = 10.0  # between two looks at a storage


@dataclass
class Following:
    """Brings something again and again, for as long as it is asked for.

    Attributes:
        bring: Does so.
        as_of: When what is here was brought last, in seconds since 1970; None if it never was.
        times: How often it was brought.
    """

    bring: Callable[[], None]
    as_of: float | None = None
    times: int = 0
    _why: str = ""
    _due: float = 0.0
    _bringing: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> str:
        """Have it brought again, if that is due; waits for nothing.

        Returns:
            What is to be said of how old it is; nothing while the storage answers.
        """
        if time.monotonic() >= self._due and self._bringing.acquire(blocking=False):
            threading.Thread(target=self._bring, daemon=True).start()
        return self._why

    def _bring(self) -> None:
        try:
            self.bring()
        except (RarecallError, OSError) as error:  # the latter: a study that was removed is gone here, too
            shown = "Nothing is known yet."
            if self.as_of is not None:
                shown = f"Shown is what was known at {time.strftime('%H:%M:%S', time.localtime(self.as_of))}."
            self._why = f"{error.message if isinstance(error, RarecallError) else error}. {shown}"
        else:
            self._why, self.as_of = "", time.time()
            self.times += 1
        finally:
            self._due = time.monotonic() + EVERY_S
            self._bringing.release()


def following_study(path: Path) -> Following | None:
    """What follows a study on a storage; None of a plain folder.

    Args:
        path: Its mirror.
    """
    if mirrored(path) is None:
        return None

    def bring() -> None:
        StudyFolder(path).bring()
        if StudyFolder(path, offline=True).study_yaml.is_file():
            view(StudyFolder(path), Asked(named(path)))  # which has the curves brought that it shows

    known = brought(path)
    return Following(bring, None if known is None else known.at)


def following_studies(runs: Path) -> Following | None:
    """Likewise of all studies in a folder of a storage."""
    address = mirrored_runs(runs)
    return None if address is None else Following(lambda: _bring_studies(runs), _newest(runs))


def brought_here(place: Path) -> Path:
    """What can be shown of what a person names: a study's folder, or one of studies.

    Args:
        place: A folder; of a storage, what mirrors it as a study's, if it may be one.

    Returns:
        Of a storage the mirror of a study or of studies, as new as can be had; all else as it is.

    Raises:
        UsageError: There is no such bucket, or it lets nobody in.
        RunError: The storage does not answer, and nothing is known of it here.
    """
    address, studies = mirrored(place), mirrored_runs(place)
    if address is None and studies is None:
        return place
    study = StudyFolder(place, offline=True).study_yaml
    try:
        if address is not None:
            StudyFolder(place).bring()
        if address is None or not study.is_file():
            place = place if address is None else mirror_of(address)
            _bring_studies(place)
    except RunError:  # the page says so
        place = mirror_of(address) if address is not None and not study.is_file() else place
        if not (study.is_file() or any(place.glob("*/study.yaml"))):
            raise
    return place


def _bring_studies(runs: Path) -> None:
    """Have here all studies of a storage's folder, and no others; raises as `StudyFolder.bring`."""
    address = mirrored_runs(runs)
    assert address is not None, "it is a mirror"
    remote = Remote(address, ANSWERS_S)
    remote.check()
    here = [path.name for path in runs.iterdir() if path.is_dir()]
    for name in sorted({*remote.folders(), *here}):
        if name.startswith("."):  # what probes have measured, which is on no storage
            continue
        StudyFolder(runs / name).bring()


def _newest(runs: Path) -> float | None:
    times = [known.at for path in runs.iterdir() if path.is_dir() and (known := brought(path)) is not None]
    return min(times, default=None)
