"""How much of a node each run gets: what was asked, or what is chosen once the first run's epoch is known.

A node is a mapping of what it has, by Ray's names: `CPU`, `GPU`, …  Pure: knows no Ray.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from search.request.computing.resources import Choice, Resources
from trainables.contract.node import Used

Node = Mapping[str, float]

HEADROOM = 1.25  # of memory, over the first run's peak: other strategies take more, and later epochs
FULL = 0.85  # of a GPU's time: with more, another run beside these gains next to nothing
MOST_ON_A_GPU = 8  # runs; what a context and a queue for each cost is not measured by one run alone
HALF_IDLE = 0.5  # of a CPU: two runs that need less can share it
FINEST = 10_000  # Ray counts in parts of a CPU or GPU no finer than this


@dataclass(frozen=True)
class Auto:
    """What each run gets is to be chosen.

    Attributes:
        known: What was chosen before, by now.
        keep: Told of what is chosen now.
        needs_gpu: Whether the runs cannot do without one.
    """

    known: Callable[[], Choice | None]
    keep: Callable[[Choice], None]
    needs_gpu: bool = False

    @property
    def least(self) -> Resources:
        """What the first run occupies at the least."""
        return Resources(cpu=1, gpu=float(self.needs_gpu))


Asked = Resources | Auto


class Allotment:
    """What each run gets, from now on.

    Attributes:
        resources: What the next one gets.

    Args:
        asked: By the study.
        nodes: That there are, or may come.
    """

    def __init__(self, asked: Asked, nodes: Sequence[Node]) -> None:
        self._auto = asked if isinstance(asked, Auto) else None
        self.measures = False  # whether the next run is the one that is measured
        if isinstance(asked, Resources):
            self.resources = asked
            return
        known = asked.known()
        if known is not None and any(same_kind(known.node, node) for node in nodes):
            self.resources = known.resources
        else:
            self.resources, self.measures = at_first(nodes, needs_gpu=asked.needs_gpu), True

    def used(self, used: Used) -> None:
        """The first run has told what it used: the others get what fits."""
        if self._auto is None or not self.measures:
            return
        resources, why = chosen(used)
        self.resources, self.measures = resources, False
        self._auto.keep(Choice(resources=resources, why=why, node=used.node))


def at_first(nodes: Sequence[Node], *, needs_gpu: bool = False) -> Resources:
    """What a run gets that nothing is known of: a whole GPU with its part of the CPUs; without GPUs a CPU.

    One that needs a GPU waits for a node that has one.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if not with_gpu:
        return Resources(cpu=1, gpu=float(needs_gpu))
    return Resources(cpu=min(max(1, node["CPU"] // node["GPU"]) for node in with_gpu), gpu=1)


def same_kind(one: Node, other: Node) -> bool:
    """Whether two nodes have as many CPUs and GPUs, of the same kind as far as that is known."""
    kinds = [{name for name in node if name.startswith("accelerator_type:")} for node in (one, other)]
    counts = [(node.get("CPU", 0), node.get("GPU", 0)) for node in (one, other)]
    return counts[0] == counts[1] and (kinds[0] == kinds[1] or not all(kinds))


def chosen(used: Used) -> tuple[Resources, str]:
    """What each run should get of a node like that of the run that was measured, and why, in one line."""
    return _of_gpus(used) if used.node.get("GPU", 0) >= 1 else _of_cpus(used)


def _of_gpus(used: Used) -> tuple[Resources, str]:
    """As many runs on a GPU as keep it busy, if its memory and its part of CPUs and of memory allow."""
    gpus, cpus = used.node["GPU"], used.node["CPU"]
    own = max(1.0, cpus // gpus)
    if used.gpu_busy is None or used.gpu_total == 0:
        return Resources(cpu=own, gpu=1), "a run each on a GPU, which does not say how busy it is"
    limits = {
        "the GPU's time": math.ceil(FULL / max(used.gpu_busy, 0.01)),
        "the GPU's memory": int(used.gpu_total // (HEADROOM * used.gpu_memory)),
        "the CPUs": int(own // max(1.0, used.cpus)),
        "the node's memory": int(_memory(used.node) / gpus // (HEADROOM * max(1, used.memory))),
        "what was tried": MOST_ON_A_GPU,
    }
    limit = min(limits, key=lambda name: limits[name])
    runs = max(1, limits[limit])
    resources = Resources(cpu=own // runs, gpu=_part(runs))
    alone = (
        f"alone a run keeps it {used.gpu_busy:.0%} busy, with {used.gpu_memory / 2**30:.1f} of its "
        f"{used.gpu_total / 2**30:.0f} GiB, {used.cpus:.1f} of {own:g} CPUs and {used.memory / 2**30:.1f} GiB"
    )
    return resources, f"{_count(runs)} on a GPU, bounded by {limit}; {alone}"


def _of_cpus(used: Used) -> tuple[Resources, str]:
    """A CPU for each run, or half of one if it waits; more only where memory leaves some of them over.

    Runs beside each other use CPUs better than threads of one run do.
    """
    cpus = used.node["CPU"]
    each = HALF_IDLE if used.cpus <= HALF_IDLE else 1.0
    by_cpus = max(1, int(cpus // each))
    by_memory = max(1, int(_memory(used.node) // (HEADROOM * max(1, used.memory))))
    runs = min(by_cpus, by_memory)
    cpu = each if runs == by_cpus else float(cpus // runs)
    limit = "the CPUs" if runs == by_cpus else "the memory"
    alone = f"alone a run keeps {used.cpus:.1f} CPUs busy, with {used.memory / 2**30:.1f} GiB"
    return Resources(cpu=cpu), f"{_count(runs)} on a node of {cpus:g} CPUs, bounded by {limit}; {alone}"


def _memory(node: Node) -> float:
    """Bytes; without end where that is not known."""
    return node.get("memory", 2.0**60)


def _part(runs: int) -> float:
    """A share of which so many fit, by what Ray counts."""
    return FINEST // runs / FINEST


def _count(runs: int) -> str:
    return f"{runs} run" + "s" * (runs > 1)
