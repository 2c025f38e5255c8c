"""Where a study stands, and what to type next: a value, and its views. From the record alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from search.judging.choosing import Recommended, choose_finalists, recommended
from search.judging.comparison import ComparePlan, Conclusion
from search.judging.confirmation import Result, load
from search.record.experiments import COMPARISON, ExperimentRecord, is_result, seeds_of
from search.record.outcomes import Baseline, StudyTrial
from search.record.stored import unpacked
from search.record.study import Study
from search.request.computing.budget import HOUR_S, Account, amount, used_line
from search.request.computing.resources import Choice
from search.request.config import StudyConfig
from search.show.common import in_words
from search.show.front import none_recommended, recommendation
from search.work.spending import account
from trainables.contract.trial import TrialReport

STATES = ("complete", "running", "stopped", "failed")


@dataclass(frozen=True)
class ExperimentStatus:
    """A confirmation or the comparison, as it stands in the record.

    Attributes:
        name: `confirm/1`, `confirm/2`, … or `compare`.
        finished: Whether all of it is concluded.
        look: The one that is under way, or the last if it is finished; from 1. A comparison has one.
        looks: How many are planned.
        done: Runs that have a result, of `runs`.
        runs: That are wanted up to this look.
        judged: At the last look that is concluded, in the order of the plan; empty for a comparison.
    """

    name: str
    finished: bool
    look: int
    looks: int
    done: int
    runs: int
    judged: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command, and what it is good for."""

    what: str
    command: str


@dataclass(frozen=True)
class Rest:
    """What is still to be run, or would be, and what that should take.

    Attributes:
        what: It is, in words.
        runs: How many.
        hours: Of training, as long as a run took so far; None before any has finished.
    """

    what: str
    runs: int
    hours: float | None


@dataclass(frozen=True)
class Cost:
    """What a study has taken, and what it should take yet; failed and stopped runs do not say what they took.

    Attributes:
        runs: That have a report: of the baseline, the trials and all experiments, each once.
        hours: Of training in them, whatever ran at the same time.
        gpu_hours: Those of them that were on a GPU, times the share of it that a run has.
        gpus: Their names.
        rest: What is left, in the order in which it would be run.
    """

    runs: int
    hours: float
    gpu_hours: float
    gpus: tuple[str, ...]
    rest: tuple[Rest, ...]


@dataclass(frozen=True)
class StudyStatus:
    """A study, as it stands.

    Attributes:
        config: Its request.
        states: Of its trials: state -> how many.
        baseline: Over the seeds finished so far.
        best: The recommended trial, if any is.
        being: What the process that works on it is doing, e.g. `searched`; None if there is none.
        experiments: In the order of the record.
        stages: Experiment -> `finished`, `running`, `interrupted`, or `left`.
        steps: What to type next; nothing while somebody works on it.
        search_goes_on: Whether its search has runs to make yet, and a budget for them.
        cost: So far, and of the rest.
        account: The budget, and what of it is used.
        choice: What `resources: auto` has become.
    """

    config: StudyConfig
    states: dict[str, int]
    baseline: Baseline | None
    best: Recommended | None
    being: str | None
    experiments: tuple[ExperimentStatus, ...]
    stages: dict[str, str]
    steps: tuple[Step, ...]
    search_goes_on: bool
    cost: Cost
    account: Account
    choice: Choice | None = None

    @property
    def trials(self) -> int:
        """Trials asked so far."""
        return sum(self.states.values())

    @property
    def seeds(self) -> int:
        """Baseline seeds finished so far."""
        return 0 if self.baseline is None else len(self.baseline.seeds)


def study_status(study: Study, being: str | None, path: Path | str) -> StudyStatus:
    """Where a study stands.

    Args:
        study: Its record.
        being: As of `StudyFolder.being`.
        path: Its folder as the person would type it.
    """
    trials, baseline, experiments = study.trials(), study.baseline(), experiment_statuses(study)
    states, stages = _trial_states(trials, being), _stages(experiments, being)
    best, found = recommended(trials, study.config, baseline), account(study)
    more = len(trials) < study.config.search.trials or states["running"] + states["interrupted"] > 0
    goes_on = more and found.reached is None
    why_none = none_recommended(trials, study.config.objectives[0])
    none = Step(f"{why_none}; by how much", f"rarecall pareto {path} --all")
    if more:
        none = Step(f"{why_none}; with a larger `budget`", f"rarecall search {path} --resume")
    searched = bool(trials or study.baseline_trials())
    return StudyStatus(
        config=study.config,
        states=states,
        baseline=baseline,
        best=best,
        being=being,
        experiments=tuple(experiments),
        stages=stages,
        steps=() if being else _steps(path, searched, goes_on, best, none, experiments, stages),
        search_goes_on=goes_on,
        cost=_cost(study, trials, baseline, experiments, stages),
        account=found,
        choice=study.choice,
    )


def _cost(
    study: Study,
    trials: Sequence[StudyTrial],
    baseline: Baseline | None,
    experiments: Sequence[ExperimentStatus],
    stages: Mapping[str, str],
) -> Cost:
    config = study.config
    outcomes = [trial.report for trial in [*study.baseline_trials(), *trials]]
    outcomes += [
        run.outcome if isinstance(run.outcome, TrialReport) else None
        for one in experiments
        for run in study.experiment(one.name).runs()
    ]
    reports = {report.key: report for report in outcomes if report is not None}.values()  # a duplicate cost 0
    on_gpu = [report for report in reports if report.device != "cpu"]
    usual = median(report.seconds for report in reports) / HOUR_S if reports else None

    def rest(what: str, runs: int) -> Rest:
        return Rest(what, runs, None if usual is None else runs * usual)

    seeds = 0 if baseline is None else len(baseline.seeds)
    ended = sum(trial.state in {"complete", "stopped", "failed"} for trial in trials)
    searching = max(0, config.baseline.seeds - seeds) + max(0, config.search.trials - ended)
    left = [rest("of the search", searching)]
    left += [
        rest(f"of {one.name}", one.runs - one.done)
        for one in experiments
        if stages[one.name] in {"running", "interrupted"}
    ]
    if not searching and baseline is not None and all(one.name == COMPARISON for one in experiments):
        plan = config.confirm
        candidates = len(choose_finalists(trials, baseline, config, plan.finalists)) + len(plan.strategies)
        runs = candidates * plan.seeds + plan.baseline_seeds
        left.append(rest("of a confirmation, at its first look", runs if candidates else 0))
    return Cost(
        runs=len(reports),
        hours=sum(report.seconds for report in reports) / HOUR_S,
        gpu_hours=min(1.0, study.resources.gpu or 1.0) * sum(report.seconds for report in on_gpu) / HOUR_S,
        gpus=tuple(sorted({report.device for report in on_gpu})),
        rest=tuple(one for one in left if one.runs),
    )


def experiment_statuses(study: Study) -> list[ExperimentStatus]:
    """Every experiment that was begun, in the order of the record."""
    records = {name: study.experiment(name) for name in study.experiments()}
    return [
        _comparison(study, record) if name == COMPARISON else _confirmation(study, name, record)
        for name, record in records.items()
        if record.plan is not None
    ]


def _comparison(study: Study, record: ExperimentRecord) -> ExperimentStatus:
    plan = unpacked(ComparePlan, record.plan)
    done, runs = _progress(study, COMPARISON, record, plan.seeds(), plan.settings.split)
    finished = any(unpacked(Conclusion, text).plan == plan for text in record.conclusions)
    return ExperimentStatus(COMPARISON, finished, 1, 1, done, runs)


def _confirmation(study: Study, name: str, record: ExperimentRecord) -> ExperimentStatus:
    confirmation = load(record, name)
    plan, concluded = confirmation.plan, confirmation.looks
    look = len(concluded) if confirmation.finished else len(concluded) + 1
    seeds = plan.seeds_per_arm(1, [one.name for one in plan.candidates])
    if look == 2:
        seeds |= plan.seeds_per_arm(2, concluded[0].open_names)
    done, runs = _progress(study, name, record, seeds, "test")
    judged = concluded[-1].results if concluded else ()
    return ExperimentStatus(name, confirmation.finished, look, plan.looks.looks, done, runs, judged)


def _progress(
    study: Study, experiment: str, record: ExperimentRecord, seeds: Mapping[str, int], split: str
) -> tuple[int, int]:
    """How many of the wanted runs have a result, and how many are wanted."""
    wanted = set(seeds_of(study.config.search.seed, experiment, seeds))
    ended = {
        (run.arm, run.seed)
        for run in record.runs()
        if run.split == split and run.outcome is not None and is_result(run.outcome)
    }
    return len(wanted & ended), len(wanted)


def _trial_states(trials: Sequence[StudyTrial], being: str | None) -> dict[str, int]:
    """How many trials are in each state; a record cannot know that its writer has died."""
    counted = {state: sum(trial.state == state for trial in trials) for state in STATES}
    left, searched = counted.pop("running"), being == "searched"
    return counted | {"running": left if searched else 0, "interrupted": 0 if searched else left}


def _stages(experiments: Sequence[ExperimentStatus], being: str | None) -> dict[str, str]:
    """Experiment -> its stage; only the last confirmation can go on, earlier ones are left."""
    last = [one for one in experiments if one.name != COMPARISON][-1:]
    stages = {}
    for one in experiments:
        doing = "compared" if one.name == COMPARISON else "confirmed"
        if one.finished:
            stages[one.name] = "finished"
        elif doing == "confirmed" and one not in last:
            stages[one.name] = "left"
        else:
            stages[one.name] = "running" if being == doing else "interrupted"
    return stages


def _steps(
    path: Path | str,
    searched: bool,
    goes_on: bool,
    best: Recommended | None,
    none: Step,
    experiments: Sequence[ExperimentStatus],
    stages: Mapping[str, str],
) -> tuple[Step, ...]:
    """What to type next, of a study that nobody works on: all that can go on, else the next thing to do."""
    resume = ["search"] if searched and goes_on else []
    resume += [
        "compare" if name == COMPARISON else "confirm"
        for name, stage in stages.items()
        if stage == "interrupted"
    ]
    if resume:
        return tuple(Step("go on with", f"rarecall {command} {path} --resume") for command in resume)
    confirmations = [one for one in experiments if one.name != COMPARISON]
    if confirmations:
        if any(result.verdict.outcome == "accepted" for result in confirmations[-1].judged):
            return (Step("next", f"rarecall export {path}"),)
        return (Step("why, and what would decide it", f"rarecall confirm {path}"),)
    if goes_on:
        return (Step("next", f"rarecall search {path} --resume"),)
    if best is not None:
        return (Step("next", f"rarecall confirm {path}"),)
    return (none,)


def status_lines(status: StudyStatus) -> list[str]:
    """What a person reads."""
    config = status.config
    told = ", ".join(f"{count} {state}" for state, count in status.states.items() if count)
    lines = [
        f"{config.name}: baseline {status.seeds}/{config.baseline.seeds} seeds; trials: {told or 'none'}",
        f"budget: {status.trials} of {config.search.trials} asked",
    ]
    if (used := used_line(status.account)) is not None:
        lines.append(used)
    if status.best is not None and status.baseline is not None:
        lines.append(recommendation(status.best, status.baseline, config))
        lines.append(f"    {in_words(status.best.trial.strategy)}")
    for one in status.experiments:
        lines += _experiment_lines(one, status.stages[one.name])
    lines += _cost_lines(status.cost)
    lines += [] if status.choice is None else [status.choice.line()]
    lines += [f"it is being {status.being} now"] if status.being else []
    return lines + [f"{step.what}: {step.command}" for step in status.steps]


def _cost_lines(cost: Cost) -> list[str]:
    """What was spent, and what the rest should take; nothing before a run has finished."""
    if not cost.runs:
        return []
    on_gpu = f", {amount(cost.gpu_hours)} GPU hours ({', '.join(cost.gpus)})" if cost.gpus else ""
    lines = [f"cost so far: {amount(cost.hours)} run hours, {cost.runs} runs{on_gpu}"]
    for one in cost.rest:
        assert one.hours is not None, "some run has finished"
        lines.append(f"expected rest {one.what}: {amount(one.hours)} run hours, {one.runs} runs")
    return lines


def _experiment_lines(one: ExperimentStatus, stage: str) -> list[str]:
    """An experiment in a line, and a line for each verdict."""
    look = f" {'after' if one.finished else 'in'} look {one.look} of {one.looks}"
    runs = f"{one.done} runs" if one.finished else f"{one.done} of {one.runs} runs"
    lines = [f"{one.name}: {stage}{'' if one.name == COMPARISON else look}, {runs}"]
    for result in one.judged:
        candidate, outcome = result.candidate, result.verdict.outcome
        so_far = " so far" if outcome == "inconclusive" and not one.finished else ""
        lines.append(f"    {candidate.name} ({in_words(candidate.strategy)}): {outcome}{so_far}")
    return lines


def status_json(status: StudyStatus) -> dict[str, Any]:
    """The same as plain values for `--json`."""
    return {
        "study": status.config.name,
        "trials": status.config.search.trials,
        **status.states,
        "baseline_seeds": status.seeds,
        "best": None if status.best is None else status.best.trial.number,
        "being": status.being,
        "search_goes_on": status.search_goes_on,
        "experiments": [_experiment_json(one, status.stages[one.name]) for one in status.experiments],
        "cost": asdict(status.cost),
        "budget": [asdict(limit) | {"left": limit.left} for limit in status.account.limits],
        "resources": None if status.choice is None else status.choice.model_dump(),
        "next": [step.command for step in status.steps],
    }


def _experiment_json(one: ExperimentStatus, stage: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "stage": stage,
        "look": one.look,
        "looks": one.looks,
        "done": one.done,
        "runs": one.runs,
        "verdicts": {result.candidate.name: result.verdict.outcome for result in one.judged},
    }
