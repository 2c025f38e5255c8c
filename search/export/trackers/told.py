"""What all trackers have in common: their names, where they keep things, how much they were told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from search.request.config import TrackerName
from spaces.errors import RunError, UsageError

PACKAGES: dict[TrackerName, str] = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboardX"}


def check_installed(trackers: Sequence[TrackerName]) -> None:
    """Before anything is trained.

    Raises:
        UsageError: The package of one of them is not installed here.
    """
    for tracker in trackers:
        if find_spec(PACKAGES[tracker]) is None:
            raise UsageError(
                f"tracking: {tracker} is not installed",
                f"pip install -c requirements.lock 'rarecall[{tracker}]', or take it out of `tracking`",
            )


@dataclass(frozen=True)
class Told:
    """What became of telling a tracker.

    Attributes:
        where: It keeps them.
        runs: That it has of the study now.
        new: Of these, told for the first time.
        changed: Of these, told anew since something was added, e.g. a verdict.
    """

    where: str
    runs: int
    new: int
    changed: int

    @property
    def line(self) -> str:
        """In words."""
        return f"{self.runs} runs ({self.new} new, {self.changed} changed) -> {self.where}"


@contextmanager
def talking_to(tracker: TrackerName) -> Iterator[None]:
    """Whatever goes wrong in the context is the tracker's.

    Raises:
        UsageError: Its package is not installed.
        RunError: Anything else: each package has errors of its own, and servers have more.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{tracker} is not installed: {error}", f"pip install -c requirements.lock 'rarecall[{tracker}]'"
        ) from error
    except (RunError, UsageError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"{tracker}: {lines[0]}",
            "see that its address is right and it is there; what was told is kept",
        ) from error
