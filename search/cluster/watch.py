"""Work on a Ray that may die: it is carried out by a thread of its own, while this one watches. Knows no Ray.

Without its raylet or its GCS a Ray neither works nor says so: who waits for it waits for ever.
"""

import contextvars
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.cluster.stopping import Stop
from search.work.protocol import ClusterLost

POLL_S = 0.1
CHECK_EVERY_S = 1.0
ANSWERS_WITHIN_S = 1.0
LEAVE_S = 4.0  # that the thread gets to end by itself

Place = tuple[str, int]  # host and port


@dataclass
class Watch:
    """Whether the parts of a Ray are there.

    Attributes:
        places: Where each part listens, by its name.
        patience_s: How long one may not answer.
        pids: Of the processes that this one has started, if the Ray is its own.
    """

    places: Mapping[str, Place]
    patience_s: float
    pids: tuple[int, ...] = ()
    _silent_since: dict[str, float] = field(default_factory=dict)
    _checked: float = 0.0
    _family: dict[int, str] = field(default_factory=dict)  # pid -> when it was started

    def lost(self) -> str | None:
        """A sentence on the part that has not answered for `patience_s`, or None. Looks once in a while."""
        now = time.monotonic()
        if now - self._checked < CHECK_EVERY_S:
            return None
        self._checked = now
        if self.pids:
            self._family |= _with_descendants(self.pids)
        for name, place in self.places.items():
            if _answers(place):
                self._silent_since.pop(name, None)
            elif now - self._silent_since.setdefault(name, now) >= self.patience_s:
                host, port = place
                return f"Ray is gone: its {name} at {host}:{port} does not answer"
        return None

    def lost_by_now(self) -> str | None:
        """The same, looking until it is sure: something went wrong that a dying Ray would explain."""
        while True:
            self._checked = 0.0
            found = self.lost()
            if found is not None or not self._silent_since:
                return found
            time.sleep(CHECK_EVERY_S)

    def end_own(self) -> None:
        """Kill what is left of our own Ray, its workers and what they have started."""
        for pid, born in (self._family | _with_descendants(self.pids)).items() if self.pids else ():
            if _born(pid) == born:
                _kill(pid)


def attended(task: Callable[[], None], leave: Callable[[], None], watch: Watch, stop: Stop) -> None:
    """Carry out `task`; return when it has ended, or soon after `stop` is asked.

    Args:
        task: What may hang. It runs in a thread, which is left alone if it does not end.
        leave: Lets the task end soon, and makes sure that it does nothing more of consequence.
        watch: On the Ray that it needs.
        stop: What is looked at meanwhile.

    Raises:
        ClusterLost: The Ray has died; if it was our own, all of it is gone.
        BaseException: Whatever the task has raised; KeyboardInterrupt ends it without being an error.
    """
    raised: list[BaseException] = []
    ended = threading.Event()

    def carry_out() -> None:
        try:
            task()
        except BaseException as error:  # raised again below, in the thread that waits for it
            raised.append(error)
        finally:
            ended.set()

    as_here = contextvars.copy_context()  # a new thread would not know, say, what is trusted
    threading.Thread(target=as_here.run, args=(carry_out,), name="tune", daemon=True).start()
    lost = None
    while not ended.wait(POLL_S) and not stop.asked and lost is None:
        lost = watch.lost()
    if not ended.is_set():
        leave()
    elif raised and isinstance(raised[0], Exception):
        lost = watch.lost_by_now()
    if lost is not None:
        watch.end_own()
        raise ClusterLost(lost) from (raised[0] if raised else None)
    if stop.asked:
        ended.wait(LEAVE_S)
    elif raised and not isinstance(raised[0], KeyboardInterrupt):
        raise raised[0]


def end_descendants() -> None:
    """Kill all that this process has started, and they in turn: it is about to end without a word to them."""
    own = os.getpid()
    for pid in _with_descendants([own]):
        if pid != own:
            _kill(pid)


def _answers(place: Place) -> bool:
    try:
        socket.create_connection(place, timeout=ANSWERS_WITHIN_S).close()
    except OSError:
        return False
    return True


def _with_descendants(pids: Iterable[int]) -> dict[int, str]:
    """These processes and all that descend from them, where the system shows its processes as files."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(path.name))
    found, left = {}, list(pids)
    while left:
        pid = left.pop()
        found[pid] = _born(pid)
        left += children.get(pid, [])
    return {pid: born for pid, born in found.items() if born}


def _born(pid: int) -> str:
    """When a process was started, in ticks: with its id a name that is not used again. Empty if gone."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def _stat(pid: int) -> list[str]:
    """What Linux says of a process from its state on, see proc(5); nothing if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return
