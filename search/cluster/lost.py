"""What Ray says of a worker that is gone, in one line; and whether another worker would fare better. Pure."""

import re

from trainables.contract.node import NodeLacks

LONGEST = 300  # characters of a reason
# A line of a traceback that names an exception; Ray puts whole tracebacks into its messages.
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception)): .+", re.MULTILINE)
_ADVICE = "Some common causes include"  # from there on Ray guesses
_AWAY = "ActorUnavailableError"  # in Ray, which is not needed here
_NODE = "The actor died because its node has died"
_IMPORT = re.compile(r"^(ModuleNotFoundError|ImportError|AttributeError: Can't get attribute)\b")


def reason_of(error: BaseException) -> str:
    r"""Class and message of what went wrong on a worker, as Ray's exception tells it, without a traceback.

    Example:
        >>> reason_of(RuntimeError("Traceback (most recent call last):\nOSError: gone\n"))
        'OSError: gone'
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):  # what the worker's code raised
        return _line(f"{type(cause).__name__}: {_first(str(cause))}")
    said = str(error)
    raised = list(_RAISED.finditer(said))
    if raised:
        return _line(raised[-1].group())
    own = [line for line in said.splitlines() if line and not line[0].isspace()]
    return _line(f"{type(error).__name__}: {own[-1] if own else 'no reason given'}")


def is_everywhere(reason: str) -> bool:
    """Whether no worker can run anything: what it needs cannot be imported there."""
    return _IMPORT.match(reason) is not None


def lacking_on_node(reason: str) -> str | None:
    """What a node lacks that runs read, in a sentence, if that has ended a run."""
    kind, _, said = reason.partition(": ")
    return said if kind == NodeLacks.__name__ else None


def is_node_lost(error: BaseException) -> bool:
    """Whether the run had no part in it: its node is gone, or cannot be reached.

    Not of a node whose end Ray had been told of beforehand: such a loss Ray counts for nothing by itself.
    """
    gone = type(error).__name__ == _AWAY or _NODE in str(error)
    return gone and not getattr(error, "preempted", False)


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


def _line(text: str) -> str:
    text = text.partition(_ADVICE)[0].strip()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
