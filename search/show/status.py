"""How far a study's confirmations and its comparison are, from its record.

Plans and conclusions are read as plain JSON: `confirmation`, which knows all of them, loads SciPy, and
`rarecall status` is to answer at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.record.experiments import BASELINE, COMPARISON, ExperimentRecord
from search.record.study import Study
from search.work.experiment_queue import counts, seeds_of
from spaces.strategy import Strategy


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate with the outcome of its verdict at the last look that is concluded."""

    name: str
    strategy: Strategy
    outcome: str


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
        judged: In the order of the plan; empty before the first conclusion, and for a comparison.
    """

    name: str
    finished: bool
    look: int
    looks: int
    done: int
    runs: int
    judged: tuple[JudgedCandidate, ...] = ()


def experiment_statuses(study: Study) -> list[ExperimentStatus]:
    """Every experiment that was begun, in the order of the record."""
    records = {name: study.experiment(name) for name in study.experiments()}
    return [
        _comparison(study, record) if name == COMPARISON else _confirmation(study, name, record)
        for name, record in records.items()
        if record.plan is not None
    ]


def _comparison(study: Study, record: ExperimentRecord) -> ExperimentStatus:
    plan = json.loads(record.plan)
    settings = plan["settings"]
    seeds = dict.fromkeys(plan["arms"], settings["seeds"])
    seeds[settings["reference"]] = settings["reference_seeds"]
    done, runs = _progress(study, COMPARISON, record, seeds, settings["split"])
    finished = any(json.loads(text)["plan"] == plan for text in record.conclusions)
    return ExperimentStatus(COMPARISON, finished, 1, 1, done, runs)


def _confirmation(study: Study, name: str, record: ExperimentRecord) -> ExperimentStatus:
    plan, concluded = json.loads(record.plan), [json.loads(text)["results"] for text in record.conclusions]
    settings = plan["settings"]
    looks = 2 if settings["more_seeds"] else 1
    still_open = [_open(results) for results in concluded]
    finished = bool(concluded) and (len(concluded) == looks or not still_open[-1])
    look = len(concluded) if finished else len(concluded) + 1
    seeds = {candidate["name"]: settings["seeds"] for candidate in plan["candidates"]}
    seeds[BASELINE] = settings["baseline_seeds"]
    if look == 2:
        for arm in (BASELINE, *still_open[0]):
            seeds[arm] += settings["more_seeds"]
    done, runs = _progress(study, name, record, seeds, "test")
    judged = [_judged(result) for result in concluded[-1]] if concluded else []
    return ExperimentStatus(name, finished, look, looks, done, runs, tuple(judged))


def _judged(result: dict[str, Any]) -> JudgedCandidate:
    candidate = result["candidate"]
    strategy = Strategy.model_validate(candidate["strategy"])
    return JudgedCandidate(candidate["name"], strategy, result["verdict"]["outcome"])


def _open(results: list[dict[str, Any]]) -> list[str]:
    judged = [_judged(result) for result in results]
    return [one.name for one in judged if one.outcome == "inconclusive"]


def _progress(
    study: Study, experiment: str, record: ExperimentRecord, seeds: Mapping[str, int], split: str
) -> tuple[int, int]:
    """How many of the wanted runs have a result, and how many are wanted."""
    wanted = set(seeds_of(study.config.search.seed, experiment, seeds))
    ended = {
        (run.arm, run.seed)
        for run in record.runs()
        if run.split == split and run.outcome is not None and counts(run.outcome)
    }
    return len(wanted & ended), len(wanted)
