"""A node as the checks see it: what it said of itself, and what the driver knows of it."""

from dataclasses import dataclass, field
from typing import Literal

from spaces.frozen import Frozen


class Room(Frozen):
    """Bytes on the disk of a folder."""

    path: str
    total: int
    free: int


class Cache(Frozen):
    """The folder for what can be made again; `error` says why it cannot be written."""

    error: str
    room: Room | None


class Gpus(Frozen):
    """What torch sees.

    Attributes:
        seen: How many.
        failed: Number of a GPU -> why it does not compute.
        error: Why torch could not be asked; empty if it could.
    """

    seen: int
    failed: dict[int, str]
    error: str


class Memory(Frozen):
    """Bytes of the machine, or of its container."""

    total: int
    free: int


class Storage(Frozen):
    """The folder of all studies.

    Attributes:
        sees: Whether the driver's file is there.
        left: Name of the file that the node has left; empty if it could not.
        error: Why not, where the folder is there.
    """

    sees: bool
    left: str
    error: str


class Facts(Frozen):
    """What `facts.examine` found on a node, by its keys."""

    host: str
    versions: dict[str, str]
    gpus: Gpus
    disks: dict[str, Room]
    cache: Cache | None
    memory: Memory | None
    storage: Storage
    listening: dict[int, list[str]]
    asks_token: bool
    token_readable: str


@dataclass(frozen=True)
class Examined:
    """A node that has answered.

    Attributes:
        name: For people.
        facts: That it found.
        gpus: That Ray gives out there, or would.
        ports: Service of Ray's -> port.
        skew_s: How far its clock is off at least, against the driver's.
        seen: Whether the driver sees the file that the node has left.
    """

    name: str
    facts: Facts
    gpus: float = 0.0
    ports: dict[str, int] = field(default_factory=dict)
    skew_s: float = 0.0
    seen: bool = True


Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: Of the check.
        verdict: `problem` for what a search will fail of, `warning` for what it may.
        said: What was found, and where.
        mend: What to do; empty if there is nothing to do.
    """

    name: str
    verdict: Verdict
    said: str
    mend: str = ""
