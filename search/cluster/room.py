"""What nodes have, and how many runs fit there."""

import logging
from collections.abc import Mapping, Sequence

from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # what a local Ray counts with

from search.request.computing.resources import Resources


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


def room_for(resources: Resources, nodes: Sequence[Mapping[str, float]], where: str) -> tuple[int, str]:
    """How many runs some nodes hold at a time, and in words what decides that.

    Args:
        resources: What one run will occupy.
        nodes: What each has, by Ray's names.
        where: They are, in words.
    """
    room = {"CPU": [int(node.get("CPU", 0) // resources.cpu) for node in nodes]}
    if resources.gpu:  # a run's share is one of a single GPU
        room["GPU"] = [int(node.get("GPU", 0)) * int(1 / resources.gpu) for node in nodes]
    have = {kind: sum(int(node.get(kind, 0)) for node in nodes) for kind in room}
    listed = [f"{have[kind]} {kind}s hold {sum(held)}" for kind, held in room.items()]
    return sum(map(min, zip(*room.values(), strict=True))), f"on {where}, {' and '.join(listed)}"
