"""`rarecall status`: where a study stands, and what to type next. From its record alone, so at any time."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.judging.front import best_feasible
from search.record.experiments import COMPARISON
from search.record.folder import StudyFolder
from search.record.study import StudyTrial
from search.show.front import change, describe
from search.show.status import ExperimentStatus, experiment_statuses

DONE = 0
STATES = ("complete", "running", "stopped", "failed")


def status(args: argparse.Namespace) -> int:
    """Show where a study stands."""
    folder = StudyFolder(args.study)
    study, being = folder.open(), folder.being()
    trials, baseline = study.trials(), study.baseline()
    states = _trial_states(trials, being)
    experiments = experiment_statuses(study)
    stages = _stages(experiments, being)
    best = best_feasible(trials, study.config.objectives[0])
    seeds = 0 if baseline is None else len(baseline.seeds)
    searchable = len(trials) < study.config.search.trials or states["interrupted"] > 0
    searched = bool(trials or study.baseline_trials())
    steps = [] if being else _steps(args.study, searched, searchable, best, experiments, stages)
    if args.json:
        shown = {
            "study": study.config.name,
            "trials": study.config.search.trials,
            **states,
            "baseline_seeds": seeds,
            "best": None if best is None else best.number,
            "being": being,
            "experiments": [_as_json(one, stages[one.name]) for one in experiments],
            "next": [step.command for step in steps],
        }
        print(json.dumps(shown, indent=2))
        return DONE
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    print(
        f"{study.config.name}: baseline {seeds}/{study.config.baseline.seeds} seeds; trials: {told or 'none'}"
    )
    print(f"budget: {len(trials)} of {study.config.search.trials} asked")
    if best is not None and baseline is not None:
        lifted = change(best, baseline, study.config)
        print(f"best feasible: trial {best.number} ({describe(best.strategy)}): {lifted}")
    for one in experiments:
        for line in _lines(one, stages[one.name]):
            print(line)
    if being:
        print(f"it is being {being} now")
    for step in steps:
        print(f"{step.what}: {step.command}")
    return DONE


def _trial_states(trials: Sequence[StudyTrial], being: str | None) -> dict[str, int]:
    """How many trials are in each state; a record cannot know that its writer has died."""
    counted = {state: sum(trial.state == state for trial in trials) for state in STATES}
    left = counted.pop("running")
    searched = being == "searched"
    return counted | {"running": left if searched else 0, "interrupted": 0 if searched else left}


def _stages(experiments: Sequence[ExperimentStatus], being: str | None) -> dict[str, str]:
    """Experiment -> `finished`, `running`, `interrupted`, or `left`: only the last confirmation can go on."""
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


def _lines(one: ExperimentStatus, stage: str) -> list[str]:
    """An experiment in a line, and a line for each verdict."""
    look = f" {'after' if one.finished else 'in'} look {one.look} of {one.looks}"
    runs = f"{one.done} runs" if one.finished else f"{one.done} of {one.runs} runs"
    lines = [f"{one.name}: {stage}{'' if one.name == COMPARISON else look}, {runs}"]
    for judged in one.judged:
        so_far = " so far" if judged.outcome == "inconclusive" and not one.finished else ""
        lines.append(f"    {judged.name} ({describe(judged.strategy)}): {judged.outcome}{so_far}")
    return lines


def _as_json(one: ExperimentStatus, stage: str) -> dict[str, object]:
    return {
        "name": one.name,
        "stage": stage,
        "look": one.look,
        "looks": one.looks,
        "done": one.done,
        "runs": one.runs,
        "verdicts": {judged.name: judged.outcome for judged in one.judged},
    }


@dataclass(frozen=True)
class _Step:
    """A command, and what it is good for."""

    what: str
    command: str


def _steps(
    path: Path,
    searched: bool,
    searchable: bool,
    best: StudyTrial | None,
    experiments: Sequence[ExperimentStatus],
    stages: dict[str, str],
) -> list[_Step]:
    """What to type next, of a study that nobody works on: all that can go on, else the next thing to do."""
    resume = ["search"] if searched and searchable else []
    resume += [
        "compare" if name == COMPARISON else "confirm"
        for name, stage in stages.items()
        if stage == "interrupted"
    ]
    if resume:
        return [_Step("go on with", f"rarecall {command} {path} --resume") for command in resume]
    confirmations = [one for one in experiments if one.name != COMPARISON]
    if confirmations:
        if any(judged.outcome == "accepted" for judged in confirmations[-1].judged):
            return [_Step("next", f"rarecall export {path}")]
        return [_Step("why, and what would decide it", f"rarecall confirm {path}")]
    if searchable:
        return [_Step("next", f"rarecall search {path} --resume")]
    if best is not None:
        return [_Step("next", f"rarecall confirm {path}")]
    return [_Step("no trial kept within the guards; by how much", f"rarecall pareto {path} --all")]
