"""Which trials are best, and why the others are not. Pure: values in, values out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.judging.diagnostics import Diagnosis, diagnose
from search.record.study import Baseline, StudyTrial


@dataclass(frozen=True)
class Front:
    """Every trial of a study in exactly one group, each by number except `best`, by falling first objective.

    Attributes:
        best: Feasible, and neither another feasible trial nor the baseline's mean is at least as good in both
            objectives and better in one.
        dominated: Feasible, but one of those is.
        infeasible: Complete, and breaks a guard.
        stopped: Ended early on purpose.
        running: Not told yet.
        failed: Gave no result.
    """

    best: tuple[StudyTrial, ...]
    dominated: tuple[StudyTrial, ...]
    infeasible: tuple[StudyTrial, ...]
    stopped: tuple[StudyTrial, ...]
    running: tuple[StudyTrial, ...]
    failed: tuple[StudyTrial, ...]


def front(trials: Sequence[StudyTrial], objectives: tuple[str, str], baseline: Baseline | None) -> Front:
    """Sort `trials` into a `Front`."""
    feasible = [trial for trial in trials if trial.feasible]
    values = {trial.number: _values(trial.report.metrics, objectives) for trial in feasible if trial.report}
    rivals = list(values.values())
    if baseline is not None:
        rivals.append(_values(baseline.metrics, objectives))
    best = [
        trial for trial in feasible if not any(dominates(rival, values[trial.number]) for rival in rivals)
    ]
    names = {trial.number for trial in best}
    return Front(
        best=tuple(sorted(best, key=lambda trial: values[trial.number], reverse=True)),
        dominated=tuple(trial for trial in feasible if trial.number not in names),
        infeasible=tuple(trial for trial in trials if trial.state == "complete" and not trial.feasible),
        stopped=tuple(trial for trial in trials if trial.state == "stopped"),
        running=tuple(trial for trial in trials if trial.state == "running"),
        failed=tuple(trial for trial in trials if trial.state == "failed"),
    )


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is at least as high everywhere and higher somewhere."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def best_feasible(trials: Sequence[StudyTrial], objective: str) -> StudyTrial | None:
    """The feasible trial with the highest `objective`; of equals the first; None if none is feasible."""
    feasible = [trial for trial in trials if trial.feasible and trial.report is not None]
    return max(feasible, key=lambda trial: _values(_metrics(trial), (objective,)), default=None)


def notes(trial: StudyTrial, baseline: Baseline | None, minority: Sequence[str]) -> tuple[Diagnosis, ...]:
    """What is wrong with a trial; nothing is said of one without a report. Arguments as in `as_json`."""
    if trial.report is None:
        return ()
    usual = () if baseline is None else baseline.reports
    return diagnose(trial.strategy, [trial.report], usual, minority=minority)


def as_json(
    sorted_trials: Front, baseline: Baseline | None, *, minority: Sequence[str] = ()
) -> dict[str, Any]:
    """The front as plain values for `--json`; each trial with what is wrong with it.

    Args:
        sorted_trials: From `front`.
        baseline: Of the study.
        minority: Names of the minority classes; without them nothing is said of how many objects they have.
    """
    groups = {
        name: [
            _trial(trial) | {"notes": [asdict(note) for note in notes(trial, baseline, minority)]}
            for trial in group
        ]
        for name, group in vars(sorted_trials).items()
    }
    measured = None
    if baseline is not None:
        measured = {"metrics": baseline.metrics, "sd": baseline.sd, "seeds": list(baseline.seeds)}
    return {"baseline": measured, **groups}


def as_rows(sorted_trials: Front) -> list[dict[str, Any]]:
    """One flat row per trial for `--csv`: number, group, knobs, metrics, guards."""
    rows = []
    for group, trials in vars(sorted_trials).items():
        for trial in trials:
            row = {"number": trial.number, "group": group, **trial.strategy.knobs()}
            if trial.report is not None:
                row |= trial.report.metrics | {
                    "exposure": trial.report.exposure,
                    "seconds": trial.report.seconds,
                }
            row |= {f"violation/{metric}": value for metric, value in trial.violations.items()}
            rows.append(row)
    return sorted(rows, key=lambda row: row["number"])


def _trial(trial: StudyTrial) -> dict[str, Any]:
    report = trial.report
    shown = {
        "number": trial.number,
        "strategy": trial.strategy.knobs(),
        "metrics": {} if report is None else report.metrics,
        "guards": trial.violations,
        "exposure": None if report is None else report.exposure,
        "seconds": None if report is None else report.seconds,
        "epochs": 0 if report is None else len(report.curve),
    }
    if trial.failure is not None:
        shown["failure"] = {"kind": trial.failure.kind, "reason": trial.failure.reason}
    return shown


def _metrics(trial: StudyTrial) -> dict[str, float | None]:
    assert trial.report is not None
    return trial.report.metrics


def _values(metrics: dict[str, float | None], names: tuple[str, ...]) -> tuple[float, ...]:
    found = tuple(metrics[name] for name in names)
    assert all(value is not None for value in found), "a complete trial has both objectives"
    return found  # type: ignore[return-value]
