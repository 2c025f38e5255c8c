"""Telling trackers of a study, beside the work and after it; what they do wrong is a warning, no more.

Telling takes a thread of its own: a server may be slow, or not there. It is given values, never the record.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from search.export.trackers.runs import TrackedStudy, tracked, tracked_search
from search.export.trackers.tell import tell
from search.export.trackers.told import Told
from search.record.folder import StudyFolder
from search.request.config import TrackerName
from search.work.search_queue import Snapshot
from spaces.errors import RarecallError

if TYPE_CHECKING:
    from search.pipeline.opening import Opened

EVERY_S = 10.0  # between the starts of two tellings, at least
SHARE = 0.05  # of the time that telling may take
LAST_S, CUT_SHORT_S = 120.0, 5.0  # that the end of the work waits for the last telling; if it was interrupted


def track(folder: StudyFolder, tracker: TrackerName, uri: str | None) -> Told:
    """Tell a tracker of a study that nobody works on.

    Raises:
        UsageError: There is no such study, another process works on it, or the package is not installed.
        RunError: The tracker cannot be reached, or refuses.
    """
    folder.open()  # says if there is no study, before a lock is made in its folder
    with folder.claimed("tracked"):
        study = tracked(folder.open(), folder)
        return tell(tracker, study, folder.at_hand.absolute(), uri)


@contextmanager
def telling(found: "Opened", console: Console) -> Iterator[Callable[[Snapshot], None]]:
    """Yields what to call with each snapshot of a search; at the end of the context all is told that is left.

    Args:
        found: The study; its `tracking` names the trackers.
        console: For warnings.
    """
    if not found.config.tracking:
        yield lambda snapshot: None
        return
    folder = found.folder
    before = tracked(found.study, folder)  # with verdicts and the page of a study that goes on
    searched = tracked_search(folder, found.study.trials(), found.study.baseline()).by_id
    teller, seen, within_s = _Teller(found, console), -1, LAST_S

    def so_far(snapshot: Snapshot) -> TrackedStudy:
        """What was there before, and what has ended since."""
        now = tracked_search(folder, snapshot.ended, snapshot.baseline).by_id
        since = {name: run for name, run in now.items() if run != searched.get(name)}
        return replace(before, runs=tuple((before.by_id | since).values()))

    def show(snapshot: Snapshot) -> None:
        nonlocal seen, within_s
        within_s = LAST_S if snapshot.done >= snapshot.trials else CUT_SHORT_S
        ended = len(snapshot.ended) + (0 if snapshot.baseline is None else len(snapshot.baseline.seeds))
        if ended != seen:
            seen = ended
            teller.say(partial(so_far, snapshot))

    try:
        yield show
    finally:
        teller.end(within_s)


def tell_all(found: "Opened", console: Console) -> None:
    """Tell the study's trackers of all that is in its record; warns, and raises nothing of theirs."""
    if found.config.tracking:
        _Teller(found, console).end(LAST_S)


class _Teller:
    """A thread that tells the newest there is to tell, not too often."""

    def __init__(self, found: "Opened", console: Console) -> None:
        self._found, self._console = found, console
        self._newest: Callable[[], TrackedStudy] | None = None
        self._news, self._ending = threading.Event(), threading.Event()
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        self._thread.start()

    def say(self, newest: Callable[[], TrackedStudy]) -> None:
        self._newest = newest
        self._news.set()

    def end(self, within_s: float) -> None:
        """Tell all that is in the record, and wait for that so long."""
        folder = self._found.folder
        if folder.study_yaml.exists():  # the study is gone if its search could not start
            try:
                last = tracked(self._found.study, folder)
                self.say(lambda: last)
            except RarecallError as error:  # what ended the work may have ended the record, too
                self._warn("tracking", error)
        self._ending.set()
        self._news.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._print(f"warning: tracking has not ended within {within_s:g} s; {self._later}")

    @property
    def _later(self) -> str:
        return f"`rarecall track {self._found.where} --to …` makes up for it"

    def _work(self) -> None:
        ending = False
        while not ending:
            self._news.wait()
            self._news.clear()
            ending = self._ending.is_set()
            newest, self._newest = self._newest, None
            started = time.monotonic()
            if newest is not None:
                self._tell(newest())
            took = time.monotonic() - started
            self._ending.wait(0 if ending else max(EVERY_S, took / SHARE))

    def _tell(self, study: TrackedStudy) -> None:
        for tracker in self._found.config.tracking:
            try:
                tell(tracker, study, self._found.folder.at_hand.absolute())
            except RarecallError as error:
                self._warn(tracker, error)

    def _warn(self, tracker: str, error: RarecallError) -> None:
        """Once for each: a server that is gone is so at each try."""
        if tracker not in self._warned:
            self._warned.add(tracker)
            hint = f" ({error.hint})" if error.hint else ""
            self._print(f"warning: {error.message}{hint}; the work goes on, and {self._later}")

    def _print(self, line: str) -> None:
        self._console.print(Text(line, style="yellow"), soft_wrap=True)
