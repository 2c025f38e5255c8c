"""What the use cases share: data checked against the study, an experiment run, how to go on after a stop."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search.judging.measured import MeasuredArm, Measurer
from search.record.experiments import ExperimentRecord
from search.record.folder import StudyFolder
from search.request.config import StudyConfig, load_config
from search.request.data_check import check_data
from search.show.screens import experiment_screen
from search.work.experiment_queue import ExperimentWork, Wanted
from search.work.protocol import Launch
from spaces.errors import Interrupted, UsageError
from trainables.contract.trial import DataSpec
from trainables.data.sources import describe
from trainables.data.summary import DataSummary
from trainables.detector.models import check_classifier, check_model


def data_of(config: StudyConfig, source: str) -> tuple[DataSpec, DataSummary]:
    """Check a study against its data and its model; `source` names the study file in errors.

    Raises:
        UsageError: With every problem found.
    """
    try:
        check_model(config.train.model, config.task)
        summary = describe(config.data, config.task)
        data = check_data(config, summary)
        if config.task == "classification":
            check_classifier(config.train, len(summary.class_names), on_gpu=config.resources.gpu > 0)
        return data, summary
    except UsageError as error:
        lines = error.message.splitlines()
        named = [line if line.startswith("hint:") else f"{source}: {line}" for line in lines]
        raise UsageError("\n".join(named), error.hint) from None


def shown(path: Path) -> str:
    """The path as a person would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def nothing_to_resume(why: str, begin: str) -> UsageError:
    """What `--resume` is answered with where nothing was begun; `begin` is the command that begins."""
    return UsageError(f"nothing to resume: {why}", f"without --resume it begins: {begin}")


def tell_notes(summary: DataSummary, console: Console) -> None:
    """What a person should know of the data before anything is trained, e.g. that val lent its test split."""
    for note in summary.notes():
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def class_sets(data: DataSpec, summary: DataSummary) -> tuple[tuple[frozenset[int], ...], frozenset[int]]:
    """Class ids in each training image, and those of the minority."""
    minority = frozenset(summary.class_names.index(name) for name in data.minority)
    return summary.splits["train"].classes_per_image, minority


def run_experiment(
    title: str,
    record: ExperimentRecord,
    folder: StudyFolder,
    wanted: Sequence[Wanted],
    measurer: Measurer,
    launch: Launch,
    *,
    go_on: str,
    console: Console,
) -> dict[str, MeasuredArm]:
    """Run what is wanted, unless the record has it, and measure each arm, by name.

    Args:
        title: For the screen.
        record: Of the experiment.
        folder: Of the study.
        wanted: The runs, each arm's in the order of its seeds.
        measurer: Of the study's runs.
        launch: Of the cluster that they run on.
        go_on: The command that goes on after an interruption.
        console: For the live screen.

    Raises:
        RunError: A seed crashed every time.
        Interrupted: By Ctrl-C.
    """
    with experiment_screen(console) as show:
        work = ExperimentWork(title, record, folder, wanted, show)
        if not work.complete():
            launch(work, folder.path)
    if not work.complete():
        raise Interrupted("interrupted", go_on)
    strategies = {one.arm: one.spec.strategy for one in wanted}
    return {arm: measurer.measure(arm, strategy, work.outcomes(arm)) for arm, strategy in strategies.items()}


def requested(request: Path, runs: Path) -> tuple[StudyConfig, StudyFolder]:
    """The study that a person means by a study file or a study's folder, whether it exists or not.

    Raises:
        UsageError: The file is missing or has errors, or the folder holds no study.
    """
    if request.is_dir() or not request.suffix:
        folder = StudyFolder(request)
        return folder.config(), folder
    config = load_config(request)
    return config, StudyFolder(runs / config.name)


def check_same_data(folder: StudyFolder, config: StudyConfig, summary: DataSummary) -> None:
    """A study's runs compare only on the data that it was made with.

    Raises:
        UsageError: There is no study, or the data has changed.
    """
    stored = folder.config()
    if stored.data == config.data and folder.data_fingerprint() != summary.fingerprint:
        raise UsageError(
            f"data: {config.data} has changed since {shown(folder.path)} was made: its fingerprint differs",
            "give the new data a study of its own",
        )


def take_over(folder: StudyFolder, config: StudyConfig, summary: DataSummary, request: Path) -> None:
    """Let an existing study go on with a new request, if only what may differ does.

    That is a larger `search.trials`, and `compare` and `confirm`, which say nothing of the trials.

    Raises:
        UsageError: There is no study, its data has changed, or something else differs.
    """
    check_same_data(folder, config, summary)
    stored = folder.config()
    search = stored.search.model_copy(update={"trials": config.search.trials})
    allowed = stored.model_copy(
        update={"search": search, "compare": config.compare, "confirm": config.confirm}
    )
    if allowed != config:
        changed = [key for key, value in config if value != getattr(allowed, key)]
        raise UsageError(
            f"{request}: differs from the study in {shown(folder.path)} in: {', '.join(changed)}",
            "give the new request another name; only search.trials, compare and confirm may change",
        )
    trials = max(config.search.trials, stored.search.trials)
    widened = config.model_copy(update={"search": search.model_copy(update={"trials": trials})})
    if widened != stored:
        folder.write_request(widened)
