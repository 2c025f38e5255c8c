"""How long runs say nothing, against what others took: worth a word on the screen, or hung. Bookkeeping only.

A run speaks after each epoch. Two waits are of another kind: up to its first word on a worker, which loads,
and up to its last, which measures. Each is held against waits of its own kind.
"""

import statistics
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

from search.work.protocol import Clock

SILENT_EPOCHS = 10  # a run that says nothing for so many median epochs is named
SILENT_S = 30.0  # and for so long at least: a first epoch includes loading
HUNG_WAITS = 10  # one that says nothing for so many median waits of its kind hangs
HUNG_S = 120.0  # and for so long at least: a disk on the network may be away for a minute
HUNG_AT_FIRST_S = 1800.0  # likewise before its first word: it may be the one that stores the tiles for all
ENOUGH = 3  # waits of a kind, before any run is held against them
LATEST = 200  # waits that are kept

Kind = Literal["first", "next", "last"]


@dataclass(frozen=True)
class _Wait:
    """What a run is being waited for."""

    since: float
    kind: Kind


class Silence:
    """Since when each run that has a worker says nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waits: dict[str, _Wait] = {}  # by the run's key
        self._took: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=LATEST))

    def started(self, key: str) -> None:
        """A run has a worker; also after a lost one."""
        self._waits[key] = _Wait(self._clock(), "first")

    def heard(self, key: str, epoch: int, epochs: int) -> None:
        """A run has said that it has finished `epoch` of its `epochs`, counted from 1."""
        now = self._clock()
        before = self._waits.get(key, _Wait(now, "first"))
        self._took[before.kind].append(now - before.since)
        self._waits[key] = _Wait(now, "last" if epoch == epochs - 1 else "next")

    def ended(self, key: str) -> None:
        """A run has left its worker."""
        self._waits.pop(key, None)

    def seconds(self, key: str) -> float:
        """How long a run that has a worker has said nothing."""
        return self._clock() - self._waits[key].since

    @property
    def named_after_s(self) -> float | None:
        """Seconds after which something may be wrong; None before anything was heard."""
        took = [seconds for kind in self._took.values() for seconds in kind]
        return max(SILENT_S, SILENT_EPOCHS * statistics.median(took)) if took else None

    def hung(self) -> set[str]:
        """Keys of the runs that will never say anything again, as far as others tell."""
        allowed = {kind: self._allowed_s(kind) for kind in {wait.kind for wait in self._waits.values()}}
        return {
            key
            for key, wait in self._waits.items()
            if (limit := allowed[wait.kind]) is not None and self.seconds(key) > limit
        }

    def _allowed_s(self, kind: Kind) -> float | None:
        took = self._took[kind]
        if len(took) < ENOUGH:
            return None
        least = HUNG_AT_FIRST_S if kind == "first" else HUNG_S
        return max(least, HUNG_WAITS * statistics.median(took))
