"""How far an elastic cluster can grow, so that Ray Tune asks for all its nodes at once.

Tune's own rule lets one trial wait for a worker where the searcher is not Ray's: cold nodes would start one
after another. What `ray up` leaves on the head says which nodes may come; on Kubernetes whoever has launched
the job says how many runs they hold.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.cluster.room import fitting
from search.request.computing.resources import Resources
from search.work.allotting import Node

MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"  # how many trials Tune asks for that have no worker yet
ASKED = os.environ.get(MAX_PENDING, "auto")  # by a person, who goes before what is known here; auto is 1
AT_ONCE = "RARECALL_RUNS_AT_ONCE"  # by who launches on Kubernetes: what the cluster holds once it has grown
MOST_AT_ONCE = 200  # as many as Ray itself lets wait, where it asks for all at once
GROWS = Path.home() / "ray_bootstrap_config.yaml"  # where `ray up` puts it, on the head

Grown = Mapping[str, Any]  # what an autoscaler was started with


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
