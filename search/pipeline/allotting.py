"""What a study's runs are to occupy: as it says, or with `resources: auto` as it is chosen, said and kept."""

from rich.console import Console

from search.pipeline.opening import Opened
from search.request.computing.resources import AUTO, Choice, Resources
from search.request.config import StudyConfig
from search.work.allotting import Asked, Auto
from trainables.contract.tasks import TASKS


def asked_of(found: Opened, console: Console) -> Asked:
    """What a study asks for each of its runs; what is chosen is kept in its record.

    Args:
        found: The study.
        console: Where it is said what is chosen.
    """
    if found.config.resources != AUTO:
        return found.config.resources

    def keep(choice: Choice) -> None:
        found.study.keep_choice(choice)
        console.print(f"note: {choice.line()}", highlight=False, soft_wrap=True, markup=False)

    return Auto(lambda: found.study.choice, keep, needs_gpu=_needs_gpu(found.config))


def least(config: StudyConfig) -> Resources:
    """What a run of a study occupies at the least."""
    if config.resources == AUTO:
        return Resources(cpu=1, gpu=float(_needs_gpu(config)))
    return config.resources


def _needs_gpu(config: StudyConfig) -> bool:
    return TASKS[config.task].amp_needs_gpu and config.train.amp != "off"
