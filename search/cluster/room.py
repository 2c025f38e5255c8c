"""What nodes have, and how many runs fit there."""

import logging
from collections.abc import Mapping, Sequence

from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # what a local Ray counts with

from search.request.computing.resources import Resources
from search.work.allotting import FINEST


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
