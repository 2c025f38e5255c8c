"""Examining a cluster, or this machine: its nodes asked, a file left by each on the storage, all judged."""

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.health import facts
from search.cluster.health.checks import (
    check_clocks,
    check_disks,
    check_gpus,
    check_local_ports,
    check_memory,
    check_ports,
    check_storage,
    check_storage_clock,
    check_token_files,
    check_versions,
)
from search.cluster.health.node import Check, Examined, Facts
from search.cluster.launch import connected
from search.cluster.nodes import Answer, Node, alive, ask, skew_s
from search.cluster.room import local_resources
from search.record.storage.remote import Remote
from spaces.errors import RarecallError
from trainables.storage.address import Address
from trainables.storage.reading import ANSWERS_S

PATIENCE_S = 150.0  # for all nodes: one with GPUs imports torch
CLOCK_S = 10.0
SEEN_S = 3.0  # a file that another node has written may take a moment to be seen


def examine(address: str | None, runs: Path | Address, *, patience_s: float = PATIENCE_S) -> list[Check]:
    """Every check of a cluster, or of this machine as a local Ray would use it.

    Args:
        address: Of a running cluster; None for this machine, where none is started.
        runs: Folder of all studies, by an absolute path, or on a storage; it is left as it was.
        patience_s: Seconds for all nodes together.

    Raises:
        RunError: The cluster cannot be reached.
    """
    with _marked(runs) if isinstance(runs, Path) else _marked_there(runs) as (place, found):
        if address is None:
            return [*found, *_this_machine(place)]
        with connected(address):
            return [*found, *_cluster(place, patience_s)]


@dataclass(frozen=True)
class _Place:
    """Where studies are kept.

    Attributes:
        runs: The folder, or its address.
        mark: Name of a new file in it.
        seen: Whether the driver sees what a node has left there by a name.
    """

    runs: str
    mark: str
    seen: Callable[[str], bool]


@contextmanager
def _marked(runs: Path) -> Iterator[tuple[_Place, list[Check]]]:
    """A new file in the folder, which is made for as long; and why there is none."""
    mark, failed = f".doctor-{secrets.token_hex(4)}", list[Check]()
    made = [folder for folder in (runs, *runs.parents) if not folder.exists()]
    try:
        runs.mkdir(parents=True, exist_ok=True)
        (runs / mark).touch()
    except OSError as error:
        said = f"the driver cannot write {runs}: {error.strerror}"
        failed.append(Check("storage", "problem", said, "name a folder of yours with --runs"))
    try:
        yield _Place(str(runs), mark, lambda name: _seen(runs / name)), failed
    finally:
        for file in runs.glob(f"{mark}*"):
            file.unlink()
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def _marked_there(runs: Address) -> Iterator[tuple[_Place, list[Check]]]:
    """Likewise on a storage; with how its clock differs from this machine's."""
    mark, remote, found = f".doctor-{secrets.token_hex(4)}", Remote(runs, ANSWERS_S), list[Check]()
    try:
        remote.check()
        sent = time.time()
        remote.write(mark, mark.encode())
        got = time.time()
        theirs = remote.listed(below=False)[mark].changed_ns / 1e9
        found.append(check_storage_clock(runs.place, skew_s(sent, theirs, got)))
    except RarecallError as error:
        found.append(Check("storage", "problem", f"the driver: {error.message}", error.hint))
        yield _Place(str(runs), mark, lambda name: False), found
        return
    try:
        yield _Place(str(runs), mark, lambda name: remote.read(name) == name.encode()), found
    finally:
        for name in remote.files(below=False):
            if name.startswith(mark):
                remote.remove(name)


def _this_machine(place: _Place) -> list[Check]:
    has = local_resources()
    found = Facts.model_validate(facts.examine(place.runs, place.mark, (), tempfile.gettempdir(), has["GPU"]))
    seen = bool(found.storage.left) and place.seen(found.storage.left)
    node = Examined(found.host, found, has["GPU"], seen=seen)
    room = f"{found.host}: a local Ray would have {has['CPU']:g} CPUs and {has['GPU']:g} GPUs"
    mode = os.environ.get("RAY_AUTH_MODE", "token")  # as of a Ray that starts for a command
    return [Check("nodes", "ok", room), *_on_nodes(place, [node]), check_local_ports(mode)]


def _cluster(place: _Place, patience_s: float) -> list[Check]:
    nodes = alive()

    def asked(node: Node) -> tuple[Any, ...]:
        return (place.runs, place.mark, tuple(node.ports.values()), node.temporary, node.gpus)

    answers = ask(nodes, facts.examine, asked, patience_s=patience_s)
    answered = [(node, answer) for node, answer in zip(nodes, answers, strict=True) if not answer.failure]
    sent = time.time()
    clocks = ask([node for node, _ in answered], facts.clock, patience_s=CLOCK_S)
    examined = [
        _examined(place, node, answer, sent, clock)
        for (node, answer), clock in zip(answered, clocks, strict=True)
    ]
    silent = [
        Check("nodes", "problem", f"{node.name}: {answer.failure}", "is it alive and reachable? `ray status`")
        for node, answer in zip(nodes, answers, strict=True)
        if answer.failure
    ]
    names = ", ".join(one.name for one in examined)
    if not examined:
        return silent
    clocks_and_ports = [*check_clocks(examined), *check_ports(examined)]
    return [
        *silent,
        Check("nodes", "ok", f"answered: {names}"),
        *_on_nodes(place, examined),
        *clocks_and_ports,
    ]


def _examined(place: _Place, node: Node, answer: Answer, sent: float, clock: Answer) -> Examined:
    found = Facts.model_validate(answer.value)
    return Examined(
        name=node.name,
        facts=found,
        gpus=node.gpus,
        ports=node.ports,
        skew_s=0.0 if clock.failure else skew_s(sent, clock.value, clock.at),
        seen=bool(found.storage.left) and place.seen(found.storage.left),
    )


def _seen(file: Path) -> bool:
    until = time.monotonic() + SEEN_S
    while not file.is_file():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return file.read_text() == file.name


def _on_nodes(place: _Place, nodes: Sequence[Examined]) -> list[Check]:
    return [
        *check_versions(facts.versions(), nodes),
        *check_gpus(nodes),
        *check_disks(nodes),
        *check_memory(nodes),
        *check_storage(place.runs.partition("?")[0], nodes),
        *check_token_files(nodes),
    ]
