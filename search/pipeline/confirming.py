"""Confirming: a plan fixed in the record, its runs on fresh seeds and the test split, verdicts by look."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from search.arms import named_strategy
from search.cluster.launch import connected
from search.config import ConfirmConfig, StudyConfig
from search.config_errors import line
from search.confirmation import (
    PREFIX,
    Confirmation,
    ConfirmPlan,
    PlannedCandidate,
    judge,
    latest,
    requirements,
    store,
)
from search.export import choose
from search.finalists import choose_finalists
from search.folder import StudyFolder
from search.measured import Measurer
from search.pipeline.shared import class_sets, data_of, run_experiment, shown
from search.study import Study
from spaces.errors import UsageError
from trainables.dataset import DataSummary
from trainables.trial import DataSpec


@dataclass(frozen=True)
class Asked:
    """What a person wants confirmed, beyond what the study file says.

    Attributes:
        trials: Numbers of trials; with these or `strategies`, nothing else is confirmed.
        strategies: Named strategies.
        seeds: Overrides `confirm.seeds`, if not None.
        baseline_seeds: Overrides `confirm.baseline_seeds`, if not None.
        one_look: No second look.
    """

    trials: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    seeds: int | None = None
    baseline_seeds: int | None = None
    one_look: bool = False

    def settings(self, config: ConfirmConfig) -> ConfirmConfig:
        """The study's settings with the overrides.

        Raises:
            UsageError: A value is not possible, or a strategy is not known.
        """
        changed: dict[str, Any] = {
            "seeds": self.seeds,
            "baseline_seeds": self.baseline_seeds,
            "more_seeds": 0 if self.one_look else None,
        }
        if self.trials or self.strategies:
            changed |= {"finalists": 0, "strategies": self.strategies}
        given = {key: value for key, value in changed.items() if value is not None}
        try:
            return ConfirmConfig.model_validate(config.model_dump() | given)
        except ValidationError as error:
            problems = [line(item, ConfirmConfig) for item in error.errors()]
            raise UsageError("\n".join(f"confirm.{problem}" for problem in problems)) from None


def confirm(
    path: Path, asked: Asked, *, address: str | None, resume: bool, fresh: bool, console: Console
) -> Confirmation:
    """Confirm a study's finalists on fresh seeds and the test split, look by look as planned.

    Args:
        path: The study's folder.
        asked: Beyond what the study file says; plays no part when an interrupted confirmation goes on.
        address: A running Ray cluster, or None for a local one.
        resume: Go on with the confirmation that was interrupted.
        fresh: Begin another one, with seeds of its own, though the last has finished.
        console: For the live screen.

    Returns:
        The confirmation, finished; without `fresh` the last one if it has finished already.

    Raises:
        UsageError: There is nothing to confirm, no test split, or the data is not the study's.
        RunError: The cluster is out of reach, or a seed crashed every time.
        Interrupted: By Ctrl-C; nothing finished is lost.
    """
    folder = StudyFolder(path)
    config = folder.config()
    data, summary = data_of(config, folder.study_yaml.name)
    _check_test_data(folder, config, data, summary)
    with folder.claimed():
        study = folder.open()
        begun = latest(study)
        if begun is not None and not begun.finished:
            if not resume:
                raise UsageError(
                    f"{begun.experiment} in {shown(folder.path)} is not finished",
                    f"go on with it: rarecall confirm {shown(folder.path)} --resume",
                )
        elif begun is None or fresh:
            begun = _planned(study, asked, data, summary)
        else:
            return begun
        try:
            return _look_by_look(study, folder, data, begun, address=address, console=console)
        finally:
            study.flush()


def _check_test_data(folder: StudyFolder, config: StudyConfig, data: DataSpec, summary: DataSummary) -> None:
    """A confirmation needs images that nothing was chosen on, of the data that was searched.

    Raises:
        UsageError: There are none, or none of a minority class, or the data has changed.
    """
    if summary.fingerprint != folder.data_fingerprint():
        raise UsageError(
            f"data: {config.data} has changed since {shown(folder.path)} was made: its fingerprint differs",
            "give the new data a study of its own",
        )
    test = summary.splits.get("test")
    if test is None or test.images == 0:
        raise UsageError("data: there is no test split to confirm on", "add `test:` to the data set")
    absent = [name for name in data.minority if test.objects[name] == 0]
    if absent:
        raise UsageError(f"data: the test split has no object of class '{absent[0]}'")


def _planned(study: Study, asked: Asked, data: DataSpec, summary: DataSummary) -> Confirmation:
    """A new confirmation, in the record from here on.

    Raises:
        UsageError: No trial is worth confirming, or one that was asked for is not there.
    """
    settings = asked.settings(study.config.confirm)
    trials = [choose(study, number) for number in asked.trials]
    baseline = study.baseline()
    if settings.finalists and baseline is not None:
        trials += choose_finalists(study.trials(), baseline, study.config, settings.finalists)
    candidates = [
        PlannedCandidate(name=f"trial {trial.number}", strategy=trial.strategy, trial=trial.number)
        for trial in trials
    ]
    classes, minority = class_sets(data, summary)
    candidates += [
        PlannedCandidate(name=name, strategy=named_strategy(name, classes, minority))
        for name in settings.strategies
    ]
    if not candidates:
        raise UsageError(
            "nothing to confirm: no feasible trial holds its guards by one sd of the baseline's seeds",
            "`rarecall pareto STUDY --all` shows them; `--trial N` confirms one all the same",
        )
    plan = ConfirmPlan(settings=settings, candidates=tuple(candidates))
    experiment = f"{PREFIX}{1 + sum(name.startswith(PREFIX) for name in study.experiments())}"
    study.experiment(experiment).set_plan(plan.model_dump_json())
    return Confirmation(experiment, plan, ())


def _look_by_look(
    study: Study,
    folder: StudyFolder,
    data: DataSpec,
    begun: Confirmation,
    *,
    address: str | None,
    console: Console,
) -> Confirmation:
    """Run and conclude every look that is left."""
    config, plan, experiment = study.config, begun.plan, begun.experiment
    record = study.experiment(experiment)
    measurer = Measurer(folder, config.task, [one.metric for one in requirements(config)])
    with connected(address, config.resources):
        while not begun.finished:
            number = len(begun.looks) + 1
            before = begun.looks[-1] if begun.looks else None
            names = [one.name for one in plan.candidates] if before is None else before.open_names
            arms = run_experiment(
                f"{config.name}, {experiment}, look {number}",
                record,
                folder,
                plan.wanted(experiment, config, data, number, names),
                measurer,
                go_on=f"rarecall confirm {shown(folder.path)} --resume",
                console=console,
            )
            look = judge(config, data.minority, plan, number, arms, before)
            store(record, look)
            begun = Confirmation(experiment, plan, (*begun.looks, look))
    return begun
