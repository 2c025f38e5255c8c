"""What one trial occupies on a worker: as it was asked, or as it was chosen by what the first run used."""

from typing import Literal

from pydantic import Field

from spaces.frozen import Frozen

Auto = Literal["auto"]
AUTO: Auto = "auto"


class Resources(Frozen):
    """What one trial occupies on a worker.

    Attributes:
        cpu: CPUs, which are its threads.
        gpu: 0, a share of a GPU, or 1. `reading.load_config` refuses more; studies were stored with more.
    """

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)


class Choice(Frozen):
    """What `resources: auto` has become.

    Attributes:
        resources: Of each run after the one that was measured.
        why: In one line.
        node: What the measured run's node has, by Ray's names: `CPU`, `GPU`, …
    """

    resources: Resources
    why: str
    node: dict[str, float]

    def line(self) -> str:
        """What a person reads."""
        gpu = f", gpu: {self.resources.gpu:g}" if self.resources.gpu else ""
        return f"resources: auto chose {{cpu: {self.resources.cpu:g}{gpu}}}: {self.why}"


def may_use_gpu(asked: Resources | Auto) -> bool:
    """Whether a run could get a GPU, or a share of one."""
    return asked == AUTO or asked.gpu > 0


def may_share_gpu(asked: Resources | Auto) -> bool:
    """Whether a run could get a share of a GPU."""
    return asked == AUTO or 0 < asked.gpu < 1
