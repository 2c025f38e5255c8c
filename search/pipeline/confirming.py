"""Confirming: a plan fixed in the record, its runs on fresh seeds and the test split, verdicts by look."""

from rich.console import Console

from search.export.trackers.told import check_installed
from search.judging.choosing import choose, choose_finalists, choose_merging
from search.judging.confirmation import (
    Asked,
    Confirmation,
    ConfirmPlan,
    PlannedCandidate,
    latest,
    refuse_another_plan,
    refuse_too_few_seeds,
    requirements,
    store,
)
from search.judging.diagnostics import lines, ships_poorly
from search.judging.judge import judge
from search.judging.measured import Measurer
from search.pipeline.allotting import asked_of
from search.pipeline.experimenting import run_experiment
from search.pipeline.fusing import stored_fusion
from search.pipeline.opening import Opened, make_ready, nothing_to_resume, opened, read_study
from search.pipeline.planning.covering import refuse_beyond_budget
from search.pipeline.tracking import tell_all
from search.record.experiments import CONFIRMATIONS, Wanted
from search.record.folder import StudyFolder
from search.record.stored import packed
from search.record.study import Study
from search.work.protocol import Cluster
from spaces.errors import UsageError
from trainables.contract.trial import DataSpec
from trainables.data.summary import DataSummary


def confirm(
    folder: StudyFolder, asked: Asked, *, cluster: Cluster, resume: bool, fresh: bool, console: Console
) -> tuple[Opened, Confirmation]:
    """Confirm a study's finalists on fresh seeds and the test split, look by look as planned.

    Args:
        folder: The study's.
        asked: Beyond what the study file says; plays no part when an interrupted confirmation goes on.
        cluster: Where the runs are made.
        resume: Go on with the last confirmation, if it was interrupted.
        fresh: Begin another one, with seeds of its own, whatever became of the last.
        console: For the live screen.

    Returns:
        The study, and the confirmation, finished; without `fresh` the last one if it has finished already.

    Raises:
        UsageError: There is nothing to confirm, no test split, the data is not the study's, or with `resume`
            nothing was begun.
        RunError: The cluster is out of reach, or a seed crashed every time.
        Interrupted: By Ctrl-C; nothing finished is lost.
    """
    if fresh and resume:
        raise UsageError("--fresh and --resume: one of them")
    request = read_study(folder, console)
    check_installed(request.config.tracking)
    _check_test_split(request.data, request.summary)
    with opened(request, "confirmed") as found:
        begun = latest(found.study)
        if not (fresh or resume):
            refuse_another_plan(begun, asked, found.where)
        if begun is None and resume:
            raise nothing_to_resume(
                f"no confirmation was begun in {found.where}", f"rarecall confirm {found.where}"
            )
        if begun is None or fresh:
            begun = _planned(found, asked)
            _say_what_ships(found.study, begun.plan, console)
        elif begun.finished:
            return found, begun
        elif not resume:
            raise UsageError(
                f"{begun.experiment} in {found.where} is not finished",
                f"go on with it: rarecall confirm {found.where} --resume",
            )
        finished = _look_by_look(found, begun, cluster, console)
        tell_all(found, console)
        return found, finished


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


def _planned(found: Opened, asked: Asked) -> Confirmation:
    """A new confirmation, not in the record yet.

    Raises:
        UsageError: No trial is worth confirming, one that was asked for is not there, or there are too few
            seeds for so many.
    """
    study = found.study
    settings = asked.settings(study.config)
    trials = [choose(study, number) for number in dict.fromkeys(asked.trials)]
    baseline = study.baseline()
    if settings.finalists and baseline is not None:
        trials += choose_finalists(study.trials(), baseline, study.config, settings.finalists)
    candidates = [
        PlannedCandidate(name=f"trial {trial.number}", strategy=trial.strategy, trial=trial.number)
        for trial in trials
    ]
    candidates += [PlannedCandidate(name=name, strategy=found.strategy(name)) for name in settings.strategies]
    for number in asked.fusions:
        pair = stored_fusion(found.folder.path, number)
        candidates.append(
            PlannedCandidate(
                name=f"fusion {number}",
                strategy=pair.strategies[1],
                fusion=pair.spec,
                merging=pair.merging,
            )
        )
    if settings.finalists and baseline is None:
        raise UsageError(
            f"nothing to confirm: {found.where} has not been searched",
            f"rarecall search {found.where} --resume; `--strategy NAME` confirms one all the same",
        )
    if not candidates:
        raise UsageError(
            "nothing to confirm: no feasible trial holds its guards by one sd of the baseline's seeds and "
            "is not below its mean",
            f"rarecall pareto {found.where} --all; `--trial N` confirms one all the same",
        )
    plan = ConfirmPlan(
        settings=settings,
        candidates=tuple(candidates),
        whole_images=bool(found.summary.whole_images),
        merging=choose_merging(study),
    )
    refuse_too_few_seeds(plan)
    number = 1 + sum(name.startswith(CONFIRMATIONS) for name in study.experiments())
    return Confirmation(f"{CONFIRMATIONS}{number}", plan, ())


def _say_what_ships(study: Study, plan: ConfirmPlan, console: Console) -> None:
    """Say it again of a candidate whose exported weights fell far behind: a confirmation is expensive."""
    planned = {candidate.trial for candidate in plan.candidates}
    for trial in study.trials():
        note = ships_poorly(trial.report) if trial.number in planned and trial.report is not None else None
        if note is not None:
            said = f"note on trial {trial.number}: {lines([note])[0]}"
            console.print(said, highlight=False, soft_wrap=True)


def _look_by_look(found: Opened, begun: Confirmation, cluster: Cluster, console: Console) -> Confirmation:
    """Run and conclude every look that is left; the plan is fixed in the record before the first run."""
    config, plan, experiment, files = found.config, begun.plan, begun.experiment, found.folder.files
    asked = requirements(config, whole_images=plan.whole_images)
    measurer = Measurer(files, config.task, [one.metric for one in asked])

    def wanted() -> list[Wanted]:
        """The runs up to the next look, if the budget covers it."""
        names = begun.looks[-1].open_names if begun.looks else [one.name for one in plan.candidates]
        runs = plan.wanted(experiment, config, found.data, len(begun.looks) + 1, names)
        refuse_beyond_budget(found, experiment, runs, found.go_on)
        return runs

    wanted()  # before the plan is fixed, and a cluster is asked for
    make_ready(found, cluster, tuple(found.summary.splits), console)
    with cluster.connected(asked_of(found, console), found.reads) as launch:
        record = found.study.begin(experiment)
        if record.plan is None:
            record.set_plan(packed(plan))
        while not begun.finished:
            number = len(begun.looks) + 1
            before = begun.looks[-1] if begun.looks else None
            arms = run_experiment(
                f"{config.name}, {experiment}, look {number}",
                record,
                files,
                wanted(),
                measurer,
                launch,
                clock=cluster.clock,
                limits=config.search,
                go_on=found.go_on,
                console=console,
            )
            look = judge(config, found.data.minority, plan, number, arms, before)
            store(record, look)
            begun = Confirmation(experiment, plan, (*begun.looks, look))
    return begun
