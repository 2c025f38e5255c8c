"""Comparing: named strategies side by side, each with several seeds; exploratory, in a study's record."""

import csv
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from search.judging.comparison import Comparison, compare
from search.judging.measured import Measurer
from search.pipeline.opening import (
    class_sets,
    data_of,
    nothing_to_resume,
    requested,
    run_experiment,
    shown,
    take_over,
    tell_notes,
)
from search.record.experiments import COMPARISON
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.arms import DEFAULT_ARMS, matched_pairs, named_strategy
from search.request.config import CompareConfig, StudyConfig
from search.show.comparison import as_rows
from search.show.plots import comparison_picture, draw_comparison
from search.work.experiment_queue import Wanted, seeds_of
from search.work.protocol import Cluster
from spaces.errors import UsageError
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.tasks import metric_names
from trainables.contract.trial import DataSpec
from trainables.data.summary import DataSummary

STORED: TypeAdapter[Comparison] = TypeAdapter(Comparison)


class ComparePlan(Frozen):
    """What a comparison runs: its settings, and every arm with the strategy that it stands for here."""

    settings: CompareConfig
    arms: dict[str, Strategy]

    def wanted(self, config: StudyConfig, data: DataSpec) -> list[Wanted]:
        """The runs, seed by seed over the arms; an arm that was compared before keeps its seeds."""
        settings = self.settings
        counts = dict.fromkeys(self.arms, settings.seeds) | {settings.reference: settings.reference_seeds}
        return [
            Wanted(arm, config.spec(self.arms[arm], data, seed=seed, split=settings.split))
            for arm, seed in seeds_of(config.search.seed, COMPARISON, counts)
        ]


class Conclusion(Frozen):
    """A finished comparison, as it is kept in the record."""

    plan: ComparePlan
    comparison: str  # JSON


def compare_strategies(
    request: Path, runs: Path, *, cluster: Cluster, resume: bool, console: Console
) -> tuple[StudyFolder, Comparison]:
    """Train every arm of a study file's `compare:` with its seeds, and set them side by side.

    The study is made if it does not exist. Runs that the record has are not made again, so an arm can be
    added later. The result also goes to `compare.csv` and `compare.svg` in the study's folder.

    Args:
        request: A study file or a study's folder.
        runs: Folder of all studies.
        cluster: Where the runs are made.
        resume: Go on with a comparison that was interrupted.
        console: For the live screen.

    Raises:
        UsageError: The study file, the data or the folders are not as they must be, or with `resume` nothing
            was begun.
        RunError: The cluster is out of reach, or a seed crashed every time.
        Interrupted: By Ctrl-C; nothing finished is lost.
    """
    config, folder = requested(request, runs)
    data, summary = data_of(config, request.name)
    tell_notes(summary, console)
    plan = _plan(config, data, summary)
    if folder.study_yaml.exists():
        take_over(folder, config, summary, request)
    elif resume:
        raise nothing_to_resume(f"there is no study in {shown(folder.path)}", f"rarecall compare {request}")
    else:
        folder.create(config, summary.fingerprint, data.minority).flush()
    with folder.claimed("compared"):
        study = folder.open()
        try:
            comparison = _compared(
                study, folder, data, summary, plan, cluster, resume=resume, console=console
            )
        finally:
            study.flush()
            if study.empty:
                folder.discard()  # it could not start, and will be asked for differently
        _write(folder, comparison, shown_metrics(config))  # also of a stored one: the files may be another's
    return folder, comparison


def _plan(config: StudyConfig, data: DataSpec, summary: DataSummary) -> ComparePlan:
    """Every arm with its strategy on these data.

    Raises:
        UsageError: The split is empty, or the data allow no such strategy.
    """
    settings = config.compare
    if settings.split not in summary.splits:
        raise UsageError(f"compare.split: the data has no {settings.split} split")
    names = dict.fromkeys([settings.reference, *(settings.strategies or DEFAULT_ARMS[config.task])])
    if len(names) < 2:
        raise UsageError(f"compare.strategies: nothing beside the reference '{settings.reference}'")
    classes, minority = class_sets(data, summary)
    return ComparePlan(
        settings=settings, arms={name: named_strategy(name, classes, minority) for name in names}
    )


def _compared(
    study: Study,
    folder: StudyFolder,
    data: DataSpec,
    summary: DataSummary,
    plan: ComparePlan,
    cluster: Cluster,
    *,
    resume: bool,
    console: Console,
) -> Comparison:
    """The comparison, from the record if it has finished there."""
    config, record = study.config, study.experiment(COMPARISON)
    done = [Conclusion.model_validate_json(text) for text in record.conclusions]
    known = next((one for one in done if one.plan == plan), None)
    if known is not None:
        return STORED.validate_json(known.comparison)
    begun = None if record.plan is None else ComparePlan.model_validate_json(record.plan)
    if resume and begun != plan:
        raise nothing_to_resume(
            f"no comparison of these strategies was begun in {shown(folder.path)}",
            f"rarecall compare {shown(folder.path)}",
        )
    if begun == plan and not resume:
        raise UsageError(
            f"{COMPARISON} in {shown(folder.path)} is not finished",
            f"go on with it: rarecall compare {shown(folder.path)} --resume",
        )
    metrics = metric_names(config.task, summary.class_names)
    with cluster.connected(config.resources) as launch:
        record.set_plan(plan.model_dump_json())
        arms = run_experiment(
            f"{config.name}, {COMPARISON}",
            record,
            folder,
            plan.wanted(config, data),
            Measurer(folder, config.task, metrics),
            launch,
            go_on=f"rarecall compare {shown(folder.path)} --resume",
            console=console,
        )
    comparison = compare(
        [arms[name] for name in plan.arms],
        plan.settings.reference,
        metrics,
        deciding=config.objectives[0],
        split=plan.settings.split,
        pairs=matched_pairs(list(plan.arms)),
    )
    record.conclude(Conclusion(plan=plan, comparison=STORED.dump_json(comparison).decode()).model_dump_json())
    return comparison


def _write(folder: StudyFolder, comparison: Comparison, metrics: Sequence[str]) -> None:
    rows = as_rows(comparison)
    with (folder.path / "compare.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    draw_comparison(comparison_picture(comparison.of(metrics)), folder.path / "compare.svg")


def shown_metrics(config: StudyConfig) -> tuple[str, ...]:
    """What a table and a picture show: the objectives and what is guarded."""
    return tuple(dict.fromkeys([*config.objectives, *(guard.metric for guard in config.guards)]))
