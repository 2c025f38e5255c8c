"""Ctrl-C while runs are made, and what a scheduler does instead: answered at once, then a clean end. No Ray.

The answer comes from a thread, whatever the main thread is in: Python hands a signal to its handler only once
native code has come back, which one that hangs never does.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CLEAN_END_S = 15.0  # a scheduler kills 30 s after it has asked
POLL_S = 0.5  # between two looks for a request
FURTHER_S = 0.3  # a terminal that closes, and `timeout`, send two signals for one wish
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What a person, or a scheduler, wants of the work that is under way.

    Args:
        answer: Called with the first signal, from a thread of its own.
        at_once: Ends this process; called likewise with a second signal, or if the clean end takes longer
            than `CLEAN_END_S`. None for a process that is not ours to end: there a second one raises
            KeyboardInterrupt, wherever the main thread is.
    """

    def __init__(
        self, answer: Callable[[], None] = lambda: None, at_once: Callable[[], None] | None = None
    ) -> None:
        self._answer, self._at_once = answer, at_once
        self._asked_at: float | None = None  # as the main thread knows
        self._answered_at: float | None = None  # as the thread does that answers
        self._raising, self._raised = False, False
        self._request: Path | None = None

    @property
    def asked(self) -> bool:
        """Whether work is to end."""
        # The thread knows even where another's handler has taken the place of ours, as Ray's does at times.
        return self._asked_at is not None or self._answered_at is not None

    @contextmanager
    def heard(self, *, raising: bool = False, request: Path | None = None) -> Iterator[None]:
        """Within the context signals are answered; whoever works in it looks at `asked`.

        They are SIGINT unless it is ignored, and SIGTERM and SIGHUP where they are taken as Ctrl-C outside of
        the context, too.

        Args:
            raising: The first one raises KeyboardInterrupt, as without the context. Else nothing is
                interrupted in the midst of something: what Python's logging does around a fork swallows an
                interrupt and leaves its lock held for ever, and Ray forks.
            request: A file that says the same once it is there, for those whose signals do not get here, as
                Slurm's to a batch script. It is removed as it is answered, and interrupts nothing.
        """
        # Only there Python lets signals be handled.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._raising, self._request = raising, request
        near, far = socket.socketpair()
        far.setblocking(False)
        listener = threading.Thread(target=self._listen, args=(near,), name="signals", daemon=True)
        usual = {number: signal.getsignal(number) for number in _taken()}
        earlier = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        listener.start()
        try:
            for number in usual:
                signal.signal(number, self._handle)
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(earlier)
            far.close()
            listener.join()
            near.close()

    def _handle(self, number: int, frame: object) -> None:
        """In the main thread, as soon as Python has control there."""
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif self._at_once is None and now - self._asked_at >= FURTHER_S:
            raise KeyboardInterrupt
        if self._raising and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _listen(self, near: socket.socket) -> None:
        """Answer the signals that Python writes to the other end, until that is closed."""
        while True:
            try:
                near.settimeout(self._left())
                numbers = near.recv(64)
            except TimeoutError:
                if self._answered_at is None and not self._requested():
                    continue
                numbers = bytes(SIGNALS[:1])
            if not numbers:
                return
            if not any(number in SIGNALS for number in numbers):
                continue
            if self._answered_at is None:
                self._answered_at = time.monotonic()
                self._answer()
            elif self._at_once is not None and time.monotonic() - self._answered_at >= FURTHER_S:
                self._at_once()
                return

    def _left(self) -> float | None:
        """Seconds until a request is looked for, or that a clean end may still take."""
        if self._answered_at is None and self._request is not None:
            return POLL_S
        if self._answered_at is None or self._at_once is None:
            return None
        return max(0.01, self._answered_at + CLEAN_END_S - time.monotonic())

    def _requested(self) -> bool:
        """Whether there is the file that asks; it is removed, so that it asks once."""
        if self._request is None or not os.path.exists(self._request):  # also false while storage is away
            return False
        self._request.unlink(missing_ok=True)
        return True


def take_as_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt; one that is ignored, as under nohup, stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _taken() -> list[signal.Signals]:
    """The signals that mean Ctrl-C in this process."""
    return [
        number
        for number in SIGNALS
        if (handler := signal.getsignal(number)) == signal.default_int_handler
        or (number == signal.SIGINT and callable(handler))
    ]
