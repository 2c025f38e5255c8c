"""What a study file says of how it is launched on a cluster: `launch`. Values alone; starts nothing."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from search.request.computing.resources import AUTO, Auto, Resources
from spaces.frozen import Frozen

NAME = r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$"  # what Kubernetes allows of a label's key


def _one_line(text: str) -> str:
    """A line of a script stays one."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"one line of text expected, got {text!r}")
    return text


Line = Annotated[str, AfterValidator(_one_line)]


class Toleration(Frozen):
    """A taint of Kubernetes nodes that the pods put up with; as Kubernetes writes it."""

    key: Line | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Line | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class LaunchExtra(Frozen):
    """What the people who run a cluster want of a job.

    Attributes:
        partition: Slurm's `--partition`.
        account: Slurm's `--account`.
        qos: Slurm's `--qos`.
        sbatch: Further options of `sbatch`, e.g. `--constraint=a100`.
        setup: Lines of shell before rarecall starts, e.g. `module load cuda`.
        image: Container image with rarecall in it.
        pull_secret: Name of the Kubernetes secret that pulls the image.
        namespace: Of Kubernetes.
        secret: Kubernetes secret whose entries are the pods' environment, e.g. credentials for a storage.
        service_account: Kubernetes service account of the pods, whose identity a storage may know.
        claim: Kubernetes volume claim that every node mounts, at `shared`.
        node_selector: Labels of the Kubernetes nodes on which runs are made.
        tolerations: Taints of these nodes that runs put up with.
        queue: Kueue's queue, if it decides when a job begins.
    """

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    sbatch: tuple[Line, ...] = ()
    setup: tuple[Line, ...] = ()
    image: Line | None = None
    pull_secret: Line | None = None
    namespace: Line | None = None
    secret: Line | None = None
    service_account: Line | None = None
    claim: Line | None = None
    node_selector: dict[Annotated[str, Field(pattern=NAME)], Line] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    queue: Line | None = None


class LaunchConfig(Frozen):
    """How much of a cluster `rarecall launch` asks for.

    Attributes:
        nodes: That make runs: as many with Slurm, at most so many with Kubernetes.
        cpus: Of each; None for all of a Slurm node, and as many as a run has on Kubernetes.
        gpus: Of each; None for as many whole ones as a run has.
        memory: Of each, e.g. `64Gi`; None for what the cluster gives.
        time: Slurm's time limit, e.g. `24:00:00`; None for the partition's. A search goes on in a new job.
        warn_s: Seconds before the end of that time at which the search is asked to stop.
        shared: Folder that all nodes see by the same path.
        wheel: Of rarecall, relative to the study file: what the nodes of a running Ray use instead of their
            own, if they have one. What it depends on they need to have.
        extra: What the people who run the cluster want.
    """

    nodes: int = Field(1, ge=1)
    cpus: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0)
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?[MGT]i$")] | None = None
    time: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d{2}){0,2}$")] | None = None
    warn_s: int = Field(180, ge=30, le=3600)
    shared: Annotated[str, Field(pattern=r"^/.+")] | None = None
    wheel: Line | None = None
    extra: LaunchExtra = LaunchExtra()

    def cpus_and_gpus(self, run: Resources | Auto) -> tuple[int, int]:
        """Of a node that has what one run has, unless something else is said; with `auto` it has to be."""
        least = Resources() if run == AUTO else run
        cpus = math.ceil(least.cpu) if self.cpus is None else self.cpus
        return cpus, math.ceil(least.gpu) if self.gpus is None else self.gpus
