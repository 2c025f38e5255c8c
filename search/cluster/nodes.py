"""Asking every node of the cluster that this process is connected to: a small task on each, in time."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.cluster.health import facts
from search.cluster.health.checks import REACH, differences
from search.record.files import RunFiles
from spaces.errors import UsageError

VERSIONS_S = 30.0  # for all nodes, before the first trial
SHARED_S = 60.0  # likewise
STORAGE = (
    "name with --runs a folder that every node mounts at the same path, or a storage that all reach, as "
    "s3://bucket/runs"
)
DATA = (
    "have it where every node mounts it at the same path, or run on nodes that see it; small data `rarecall "
    "launch --on jobs` brings along"
)
LOOPBACK = ("127.", "localhost:", "[::1]:")
RAY_CLIENT = 10001  # `ray start`'s default
_PORTS = {
    "raylet": "NodeManagerPort",
    "object manager": "ObjectManagerPort",
    "runtime env agent": "RuntimeEnvAgentPort",
    "dashboard agent": "DashboardAgentListenPort",
    "metrics": "MetricsExportPort",
}


@dataclass(frozen=True)
class Node:
    """One that is alive.

    Attributes:
        id: Ray's.
        name: For people: its host, and the address by which others reach it.
        gpus: That Ray gives out there.
        ports: Service -> port.
        temporary: The folder where Ray keeps its sessions there.
    """

    id: str
    name: str
    gpus: float
    ports: dict[str, int]
    temporary: str


@dataclass(frozen=True)
class Answer:
    """What came of asking a node.

    Attributes:
        value: Its answer, or None.
        failure: Why there is none; empty if there is one.
        at: When it was here, in seconds since 1970.
    """

    value: Any
    failure: str
    at: float


def alive() -> list[Node]:
    """The nodes of the cluster, this machine's first."""
    own = ray.get_runtime_context().get_node_id()
    known = sorted((one for one in ray.nodes() if one["Alive"]), key=lambda one: one["NodeID"] != own)
    return [_node(one) for one in known]


def _node(known: dict[str, Any]) -> Node:
    address = known["NodeManagerAddress"]
    ports = {service: known.get(key, -1) for service, key in _PORTS.items()}
    if "node:__internal_head__" in known["Resources"]:
        ports["GCS"] = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
        ports["Ray Client"] = RAY_CLIENT
        dashboard = (ray._private.worker.get_dashboard_url() or "").rpartition(":")[2]
        ports |= {"dashboard": int(dashboard)} if dashboard.isdigit() else {}
    return Node(
        id=known["NodeID"],
        name=f"{known['NodeManagerHostname']} ({address})",
        gpus=known["Resources"].get("GPU", 0.0),
        ports={service: port for service, port in ports.items() if port > 0},
        temporary=known["ObjectStoreSocketName"].partition("/session_")[0],
    )


def ask(
    nodes: Sequence[Node],
    function: Callable[..., Any],
    arguments: Callable[[Node], tuple[Any, ...]] = lambda node: (),
    *,
    patience_s: float,
) -> list[Answer]:
    """Call a function of `health.facts` on each node.

    Args:
        nodes: Asked all at once.
        function: That travels whole: nothing of ours needs to be there.
        arguments: Of a node.
        patience_s: Seconds for all of them.

    Returns:
        An answer for each node.
    """
    with _travels_whole():
        remote = ray.remote(num_cpus=0, max_retries=0)(function)
        refs = [
            remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
            ).remote(*arguments(node))
            for node in nodes
        ]
    found: dict[Any, Answer] = {}
    until, waiting = time.monotonic() + patience_s, list(refs)
    while waiting and (left := until - time.monotonic()) > 0:
        ready, waiting = ray.wait(waiting, timeout=left)
        for ref in ready:
            found[ref] = _got(ref)
    for ref in waiting:
        ray.cancel(ref, force=True)
    silent = Answer(None, f"no answer within {patience_s:g} s", time.time())
    return [found.get(ref, silent) for ref in refs]


def _got(ref: Any) -> Answer:
    at = time.time()
    try:
        return Answer(ray.get(ref), "", at)
    except RayError as error:
        return Answer(None, next(iter(str(error).strip().splitlines()[-1:]), type(error).__name__), at)


def other_versions() -> list[str]:
    """Where a node has another version than this driver, and which nodes have not said, a sentence each."""
    nodes, own = alive(), facts.versions()
    found = []
    for node, answer in zip(nodes, ask(nodes, facts.versions, patience_s=VERSIONS_S), strict=True):
        said = [answer.failure] if answer.value is None else differences(own, answer.value)
        found += [f"{node.name}: {one}" for one in said]
    return found


def open_to_all() -> list[str]:
    """A sentence if a cluster that other machines may reach lets whoever does so run code there."""
    address = str(ray.get_runtime_context().gcs_address)
    if is_token_auth_enabled() or address.startswith(LOOPBACK):
        return []
    return [
        f"the cluster asks for no token: whoever reaches {address} can run code there; "
        f"`rarecall doctor --address {address}` says how to mend it"
    ]


def check_shared(files: RunFiles, reads: Sequence[str] = ()) -> None:
    """Every node sees the study's folder, or reaches its storage, and sees what its runs read.

    Args:
        files: Of the study.
        reads: Paths.

    Raises:
        UsageError: Some do not.
    """
    with files.marked() as (path, address, mark):
        nodes, own = alive(), [path] if path else []
        asked = ([*own, *reads], address, mark)
        answers = ask(nodes, facts.lacks, lambda node: asked, patience_s=SHARED_S)
    lacking: dict[str, list[str]] = {}
    for node, answer in zip(nodes, answers, strict=True):
        if answer.value:  # of one that has not answered `other_versions` has spoken
            lacking.setdefault(answer.value, []).append(node.name)
    for what, names in lacking.items():
        said = f"{' and '.join(names)} {'does' if len(names) == 1 else 'do'} not see {what}"
        if what in reads:
            raise UsageError(f"{said}, which runs read", DATA)
        raise UsageError(said, STORAGE if path else REACH)


@contextmanager
def _travels_whole() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(facts)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(facts)


def skew_s(sent: float, theirs: float, got: float) -> float:
    """How far a clock is off at least, in seconds; 0 if it may be right.

    Args:
        sent: When it was asked for the time.
        theirs: What it said.
        got: When the answer was here.

    Example:
        >>> skew_s(10.0, 10.1, 10.2), skew_s(10.0, 13.0, 10.5), skew_s(10.0, 8.0, 10.5)
        (0.0, 2.5, -2.0)
    """
    return max(theirs - got, 0.0) + min(theirs - sent, 0.0)


def guard_token() -> None:
    """Ray leaves the token that it makes for a local cluster readable for all: it is for its owner alone."""
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file() and token.stat().st_uid == os.getuid() and token.stat().st_mode & 0o077:
        token.chmod(0o600)


def refused_hint(error: Exception) -> str:
    """What to do where a connection failed; that a token was wanting Ray tells only its log."""
    token = "the head's ~/.ray/auth_token (copied here, or named by RAY_AUTH_TOKEN_PATH)"
    if isinstance(error, AuthenticationError):
        return f"take {token}"
    if "Failed to connect to Ray cluster" not in str(error):
        return "`ray status` shows a running one"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"somebody listens there, but does not take this token: it wants {token}"
    return f"somebody listens there; if that Ray wants a token, set RAY_AUTH_MODE=token and have {token}"
