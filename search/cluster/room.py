"""What nodes have, how many runs fit there, and how far an elastic cluster can grow.

Tune's own rule lets one trial wait for a worker where the searcher is not Ray's: cold nodes would start one
after another. What `ray up` leaves on the head says which nodes may come; on Kubernetes whoever has launched
the job says how many runs they hold. So Tune asks for all nodes at once.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # what a local Ray counts with

from search.request.computing.resources import Resources
from search.work.allotting import FINEST, Node

MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"  # how many trials Tune asks for that have no worker yet
ASKED = os.environ.get(MAX_PENDING, "auto")  # by a person, who goes before what is known here; auto is 1
AT_ONCE = "RARECALL_RUNS_AT_ONCE"  # by who launches on Kubernetes: what the cluster holds once it has grown
MOST_AT_ONCE = 200  # as many as Ray itself lets wait, where it asks for all at once
GROWS = Path.home() / "ray_bootstrap_config.yaml"  # where `ray up` puts it, on the head

Grown = Mapping[str, Any]  # what an autoscaler was started with


def local_resources(*, cpus: int | None = None) -> dict[str, float]:
    """What a local Ray would give out, `CPU` and `GPU`; starts nothing.

    Args:
        cpus: Of a local Ray; None counts the machine's.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)  # in a container it would say how it counts
    have = ResourceAndLabelSpec(num_cpus=cpus).resolve(is_head=True, node_ip_address="127.0.0.1")
    return {"CPU": have.num_cpus, "GPU": have.num_gpus}


def impossible_here(resources: Resources, *, cpus: int | None = None) -> list[str]:
    """What a local Ray on this machine could never give to a run, a sentence each; starts nothing.

    Args:
        resources: What one run will occupy.
        cpus: As of `local_resources`.
    """
    have = local_resources(cpus=cpus)
    asked = {"cpu": (resources.cpu, have["CPU"]), "gpu": (resources.gpu, have["GPU"])}
    return [
        f"resources.{kind}: a trial asks for {needed:g}, this machine has {there:g}"
        for kind, (needed, there) in asked.items()
        if needed > there
    ]


def fitting(resources: Resources, node: Mapping[str, float]) -> dict[str, int]:
    """How many runs a node's CPUs hold, and its GPUs, if a run has a share of one.

    Args:
        resources: What one run will occupy.
        node: What it has, by Ray's names.

    Example:
        >>> fitting(Resources(cpu=0.1, gpu=0.2), {"CPU": 1, "GPU": 2})
        {'CPU': 10, 'GPU': 10}
    """
    cpus, gpus = node.get("CPU", 0), int(node.get("GPU", 0))
    found = {"CPU": _times(cpus, resources.cpu)}
    if resources.gpu:  # a run's share is one of a single GPU
        found["GPU"] = gpus * _times(1, resources.gpu)
    return found


def _times(has: float, needed: float) -> int:
    """How often one fits into the other, as Ray counts: in floats 1 // 0.2 is 4."""
    return round(has * FINEST) // max(1, round(needed * FINEST))


def room_for(resources: Resources, nodes: Sequence[Mapping[str, float]], where: str) -> tuple[int, str]:
    """How many runs some nodes hold at a time, and in words what decides that.

    Args:
        resources: What one run will occupy.
        nodes: What each has, by Ray's names.
        where: They are, in words.
    """
    room = [fitting(resources, node) for node in nodes]
    kinds = ["CPU", "GPU"] if resources.gpu else ["CPU"]
    have = {kind: sum(int(node.get(kind, 0)) for node in nodes) for kind in kinds}
    listed = [f"{have[kind]} {kind}s hold {sum(held[kind] for held in room)}" for kind in kinds]
    return sum(min(held.values()) for held in room), f"on {where}, {' and '.join(listed)}"


def may_grow_to() -> Grown | None:
    """What `ray up` has left on the head for the autoscaler; None elsewhere."""
    return dict(yaml.safe_load(GROWS.read_text())) if GROWS.exists() else None


def nodes_to_come(grown: Grown | None) -> list[Node]:
    """One of each type of node that may be started."""
    return [
        dict(node.get("resources", {})) for node in (grown or {}).get("available_node_types", {}).values()
    ]


def runs_at_once(grown: Grown | None, resources: Resources) -> int | None:
    """How many runs an elastic cluster can hold once it has all its nodes; None where nobody has said so.

    Of machines of one's own, Ray's `local` provider, no resources are stated.

    Args:
        grown: As of `may_grow_to`.
        resources: What one run will occupy.
    """
    if grown is None:
        return int(os.environ[AT_ONCE]) if AT_ONCE in os.environ else None
    most, runs = int(grown.get("max_workers", 2)), 0  # Ray's own default
    for name, node in grown["available_node_types"].items():
        is_head = name == grown["head_node_type"]
        workers = min(int(node.get("max_workers", 0 if is_head else most)), most)
        has = node.get("resources", {})
        if workers and not has:
            return None
        runs += (workers + is_head) * min(fitting(resources, has).values())
    return min(max(1, runs), MOST_AT_ONCE)


def ask_ahead(at_once: int | None) -> None:
    """Let Tune have as many runs without a worker as fit at once, so that all nodes start together."""
    known = ASKED == "auto" and at_once is not None
    os.environ[MAX_PENDING] = str(at_once) if known else ASKED  # read by each controller
