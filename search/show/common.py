"""What several views have in common: words, the terminal, rows as CSV. Builds them; only `cli` prints."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TextIO

from rich.console import Console
from rich.progress import Progress

from spaces.strategy import COUNTS, Strategy

WIDE = 200


def in_words(strategy: Strategy) -> str:
    """The knobs that differ from doing nothing: `retention 0.40, sampler_power 0.52`."""
    changed = strategy.changed()
    written = (f"{knob} {value:{'g' if knob in COUNTS else '.2f'}}" for knob, value in changed.items())
    return ", ".join(written) or "plain"


def own_and_shared(told: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[str]]:
    """What is said of each alone, and what is said of all of them, which needs to be printed only once."""
    shared = [line for line in told[0] if all(line in lines for lines in told)] if told else []
    return [[line for line in lines if line not in shared] for lines in told], shared


def against(value: float | None, reference: float | None) -> str:
    """`0.612 +0.221`: a value and how far it is above a reference."""
    if value is None:
        return "-"
    return f"{value:.3f}" if reference is None else f"{value:.3f} {value - reference:+.3f}"


def write_csv(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Rows with a header that has every row's columns, in the order in which they come up."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(rows)


class ReaderLeft(BrokenPipeError):
    """Nobody reads any more what is printed; the rest has been let go."""


class Piped(Console):
    """A console whose reader may leave before the end, as `| head` does; Rich would exit with code 1 then.

    Args:
        leaving: What is raised when that is noticed.
        options: Of a console.
    """

    def __init__(self, leaving: type[BaseException] = ReaderLeft, **options: Any) -> None:
        super().__init__(**options)
        self._leaving = leaving

    def on_broken_pipe(self) -> None:
        """What was to be printed could not be."""
        self.quiet = True
        print_nowhere(self.file)
        raise self._leaving


def print_nowhere(file: IO[str]) -> None:
    """Let go what is still in the buffers of `file`: Python would complain while it shuts down."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def wide_console() -> Console:
    """The terminal; a file or a pipe has no edge, so there lines are long."""
    return Piped(width=None if sys.stdout.isatty() else WIDE)


def progress_console(*, stderr: bool) -> Console:
    """For the screen of work, which ends as by Ctrl-C if nobody reads it any more."""
    return Piped(KeyboardInterrupt, stderr=stderr)


@contextmanager
def bar(console: Console | None, words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar to tell how much of how much is done; it vanishes at the end. None on what is no terminal."""
    shown = console is not None and console.is_terminal
    with Progress(console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(words, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
