"""Which run of a study a person wants to take away: a trial's, the baseline's, or a confirmed candidate's."""

from dataclasses import dataclass, field

from search.judging.choosing import choose
from search.judging.confirmation import Judged, latest, verdicts
from search.record.experiments import ArmRun
from search.record.outcomes import StudyTrial
from search.record.study import Study
from spaces.errors import UsageError
from spaces.strategy import Strategy
from trainables.contract.trial import FusionSpec, Merging, Split, TrialReport, TrialSpec


@dataclass(frozen=True)
class Chosen:
    """A finished run, and what is known of it.

    Attributes:
        name: In words: `trial 13`, `baseline`, `confirmed weighted`.
        strategy: Of a fusion, that of the minority's model.
        seed: Of the training.
        report: Of the run.
        split: That the report was measured on.
        trial: Number of the trial; None of what is none.
        violations: As of `StudyTrial`; a confirmation has bounds instead.
        judged: The last verdict on its strategy; None if it was not confirmed.
        fusion: The other model, of a fusion.
        merging: How its tiles became whole images, if not as the study file says.
    """

    name: str
    strategy: Strategy
    seed: int
    report: TrialReport
    split: Split = "val"
    trial: int | None = None
    violations: dict[str, float] = field(default_factory=dict)
    judged: Judged | None = None
    fusion: FusionSpec | None = None
    merging: Merging | None = None

    def spec(self, study: Study) -> TrialSpec:
        """The run, as a worker was given it."""
        data = study.config.data_spec(study.minority)
        if self.merging is not None:
            data = data.model_copy(update={"merging": self.merging})
        alone = study.config.spec(self.strategy, data, seed=self.seed, split=self.split)
        return alone.model_copy(update={"fusion": self.fusion})

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.replace(" ", "-")


def chosen_trial(study: Study, number: int | None) -> Chosen:
    """A trial of the search; without a number the best one, as `choose` says.

    Raises:
        UsageError: There is no such finished trial.
    """
    trial = choose(study, number)
    name = f"trial {trial.number}"
    return _of(trial, name, trial=trial.number, judged=verdicts(study).get(trial.number))


def chosen_baseline(study: Study) -> Chosen:
    """The baseline's first finished seed.

    Raises:
        UsageError: None has finished.
    """
    done = next((seed for seed in study.baseline_trials() if seed.report is not None), None)
    if done is None:
        raise UsageError("--baseline: no seed of the baseline has finished", "go on with the search")
    return _of(done, "baseline")


def chosen_confirmed(study: Study) -> Chosen:
    """The first run, on the test split, of the surest candidate that the last confirmation accepted.

    The surest is the one whose gain in the first objective has the highest lower bound, as in `choose`. Its
    first seed is taken, and not the best one, which would have been chosen by the test split.

    Raises:
        UsageError: There is no confirmation, or it accepted none.
    """
    last = latest(study)
    accepted = last.looks[-1].accepted if last is not None and last.looks else ()
    if last is None or not accepted:
        why = "nothing has been confirmed" if last is None else f"{last.experiment} has accepted no candidate"
        raise UsageError(
            f"--confirmed: {why}", "`rarecall confirm` judges candidates; --trial N exports any trial"
        )
    result = max(accepted, key=lambda result: result.verdict.bounds[0].lower)
    run, report = _first_run(study.experiment(last.experiment).runs(), result.candidate.name)
    return Chosen(
        f"confirmed {result.candidate.name}",
        result.candidate.strategy,
        run.seed,
        report,
        split=run.split,
        trial=result.candidate.trial,
        judged=Judged(last.experiment, result),
        fusion=result.candidate.fusion,
        merging=result.candidate.merging or last.plan.merging,
    )


def _first_run(runs: list[ArmRun], arm: str) -> tuple[ArmRun, TrialReport]:
    """Of an arm that has been accepted, so there is one."""
    finished = ((run, run.outcome) for run in runs if run.arm == arm)
    return next((run, report) for run, report in finished if isinstance(report, TrialReport))


def _of(run: StudyTrial, name: str, trial: int | None = None, judged: Judged | None = None) -> Chosen:
    assert run.report is not None, "a chosen run has finished"
    return Chosen(
        name,
        run.strategy,
        run.seed,
        run.report,
        trial=trial,
        violations=run.violations,
        judged=judged,
    )
