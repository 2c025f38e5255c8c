"""Confirming: a plan fixed in the record, its runs on fresh seeds and the test split, verdicts by look."""

from pathlib import Path

from rich.console import Console

from search.export.bundle import choose
from search.judging.choosing import choose_finalists
from search.judging.confirmation import (
    Asked,
    Confirmation,
    ConfirmPlan,
    PlannedCandidate,
    judge,
    latest,
    requirements,
    store,
)
from search.judging.measured import Measurer
from search.pipeline.opening import (
    check_same_data,
    class_sets,
    data_of,
    nothing_to_resume,
    run_experiment,
    shown,
    tell_notes,
)
from search.record.experiments import CONFIRMATIONS
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.arms import named_strategy
from search.work.protocol import Cluster
from spaces.errors import UsageError
from trainables.contract.trial import DataSpec
from trainables.data.summary import DataSummary


def confirm(
    path: Path, asked: Asked, *, cluster: Cluster, resume: bool, fresh: bool, console: Console
) -> Confirmation:
    """Confirm a study's finalists on fresh seeds and the test split, look by look as planned.

    Args:
        path: The study's folder.
        asked: Beyond what the study file says; plays no part when an interrupted confirmation goes on.
        cluster: Where the runs are made.
        resume: Go on with the last confirmation, if it was interrupted.
        fresh: Begin another one, with seeds of its own, whatever became of the last.
        console: For the live screen.

    Returns:
        The confirmation, finished; without `fresh` the last one if it has finished already.

    Raises:
        UsageError: There is nothing to confirm, no test split, the data is not the study's, or with `resume`
            nothing was begun.
        RunError: The cluster is out of reach, or a seed crashed every time.
        Interrupted: By Ctrl-C; nothing finished is lost.
    """
    folder = StudyFolder(path)
    config = folder.config()
    data, summary = data_of(config, folder.study_yaml.name)
    tell_notes(summary, console)
    check_same_data(folder, config, summary)
    _check_test_split(data, summary)
    with folder.claimed("confirmed"):
        study = folder.open()
        begun = latest(study)
        if begun is None and resume:
            raise nothing_to_resume(
                f"no confirmation was begun in {shown(folder.path)}",
                f"rarecall confirm {shown(folder.path)}",
            )
        if begun is None or fresh:
            begun = _planned(study, folder, asked, data, summary)
        elif begun.finished:
            return begun
        elif not resume:
            raise UsageError(
                f"{begun.experiment} in {shown(folder.path)} is not finished",
                f"go on with it: rarecall confirm {shown(folder.path)} --resume",
            )
        try:
            return _look_by_look(study, folder, data, begun, cluster, console)
        finally:
            study.flush()


def _check_test_split(data: DataSpec, summary: DataSummary) -> None:
    """A confirmation needs images that nothing was chosen on.

    Raises:
        UsageError: There are none, or none of a minority class.
    """
    test = summary.splits.get("test")
    if test is None or test.images == 0:
        raise UsageError(
            "data: there is no test split to confirm on, and val can spare none",
            "add `test:` to the data set",
        )
    absent = [name for name in data.minority if test.objects[name] == 0]
    if absent:
        raise UsageError(f"data: the test split has no object of class '{absent[0]}'")


def _planned(
    study: Study, folder: StudyFolder, asked: Asked, data: DataSpec, summary: DataSummary
) -> Confirmation:
    """A new confirmation, not in the record yet.

    Raises:
        UsageError: No trial is worth confirming, or one that was asked for is not there.
    """
    settings = asked.settings(study.config)
    trials = [choose(study, number) for number in dict.fromkeys(asked.trials)]
    baseline = study.baseline()
    if settings.finalists and baseline is not None:
        trials += choose_finalists(study.trials(), baseline, study.config, settings.finalists)
    classes, minority = class_sets(data, summary)
    candidates = [
        PlannedCandidate(name=f"trial {trial.number}", strategy=trial.strategy, trial=trial.number)
        for trial in trials
    ]
    candidates += [
        PlannedCandidate(name=name, strategy=named_strategy(name, classes, minority))
        for name in settings.strategies
    ]
    if settings.finalists and baseline is None:
        raise UsageError(
            f"nothing to confirm: {shown(folder.path)} has not been searched",
            f"rarecall search {shown(folder.path)} --resume; `--strategy NAME` confirms one all the same",
        )
    if not candidates:
        raise UsageError(
            "nothing to confirm: no feasible trial holds its guards by one sd of the baseline's seeds",
            f"rarecall pareto {shown(folder.path)} --all; `--trial N` confirms one all the same",
        )
    number = 1 + sum(name.startswith(CONFIRMATIONS) for name in study.experiments())
    return Confirmation(
        f"{CONFIRMATIONS}{number}", ConfirmPlan(settings=settings, candidates=tuple(candidates)), ()
    )


def _look_by_look(
    study: Study,
    folder: StudyFolder,
    data: DataSpec,
    begun: Confirmation,
    cluster: Cluster,
    console: Console,
) -> Confirmation:
    """Run and conclude every look that is left; the plan is fixed in the record before the first run."""
    config, plan, experiment = study.config, begun.plan, begun.experiment
    measurer = Measurer(folder, config.task, [one.metric for one in requirements(config)])
    with cluster.connected(config.resources) as launch:
        record = study.experiment(experiment)
        if record.plan is None:
            record.set_plan(plan.model_dump_json())
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
                launch,
                go_on=f"rarecall confirm {shown(folder.path)} --resume",
                console=console,
            )
            look = judge(config, data.minority, plan, number, arms, before)
            store(record, look)
            begun = Confirmation(experiment, plan, (*begun.looks, look))
    return begun
