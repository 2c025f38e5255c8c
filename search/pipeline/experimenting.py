"""What confirming and comparing share: an experiment's runs made, and each of its arms measured."""

from collections.abc import Sequence

from rich.console import Console

from search.judging.measured import Arm, Measurer
from search.record.experiments import ExperimentRecord, Wanted
from search.record.files import RunFiles
from search.request.config import SearchConfig
from search.show.screens import experiment_screen
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Clock, Launch
from spaces.errors import Interrupted


def run_experiment(
    title: str,
    record: ExperimentRecord,
    files: RunFiles,
    wanted: Sequence[Wanted],
    measurer: Measurer,
    launch: Launch,
    *,
    clock: Clock,
    limits: SearchConfig,
    go_on: str,
    console: Console,
) -> dict[str, Arm]:
    """Run what is wanted, unless the record has it, and measure each arm, by name.

    Args:
        title: For the screen.
        record: Of the experiment.
        files: Of the study's runs.
        wanted: The runs, each arm's in the order of its seeds.
        measurer: Of the study's runs.
        launch: Of the cluster that they run on.
        clock: Of that cluster.
        limits: Of a run.
        go_on: The command that goes on after an interruption.
        console: For the live screen.

    Raises:
        RunError: A seed crashed every time, or the cluster is gone.
        Interrupted: By Ctrl-C.
    """
    with experiment_screen(console) as show:
        work = ExperimentQueue(title, record, files, wanted, show, clock, limits)
        if not work.complete():
            with work.meter.counting():
                launch(work, files)
    if not work.complete():
        raise Interrupted("interrupted", go_on)
    strategies = {one.arm: one.spec.strategy for one in wanted}
    return {
        arm: measurer.measure(arm, strategy, work.outcomes_of(arm)) for arm, strategy in strategies.items()
    }
