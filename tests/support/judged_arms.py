"""Measured arms around a gain, and a confirmation's first look at them, for tests."""

from typing import Any

import numpy as np
from gains import SPREAD
from in_process import config
from reports import report_with

from search.judging.confirmation import Confirmation, ConfirmPlan, Look, PlannedCandidate
from search.judging.judge import judge
from search.judging.measured import Arm
from search.judging.statistics.bounds import Floats
from search.record.experiments import BASELINE_ARM
from search.request.config import ConfirmConfig
from search.show.common import wide_console
from search.show.confirmation import sentences, verdict_table
from spaces.strategy import NAMED

CONFIG = config()
NAMES = ("weighted", "focal", "class_weighted")


def plan(*names: str, **settings: Any) -> ConfirmPlan:
    candidates = tuple(PlannedCandidate(name=name, strategy=NAMED[name]) for name in names or NAMES)
    return ConfirmPlan(settings=ConfirmConfig(**settings), candidates=candidates)


def arm(
    name: str, recall: float, *, seeds: int = 5, map50_95: float = 0.5, spread: Floats = SPREAD, **more: Any
) -> Arm:
    """Seeds around a minority recall, with a ranking that always rises beside it."""
    around = np.resize(np.concatenate([spread, 0.5 * spread[::-1]]), seeds)
    return Arm(
        name,
        NAMED.get(name, NAMED["plain"]),
        tuple(
            report_with(
                {
                    "minority_recall": recall + step,
                    "map50_95": map50_95 + 0.2 * step,
                    "minority_ap50": recall + step,
                }
            )
            for step in around
        ),
        **more,
    )


def looked(*arms: Arm, baseline: Arm | None = None, of: ConfirmPlan | None = None) -> dict[str, Any]:
    """The first look's results by name."""
    known = {one.name: one for one in (baseline or arm(BASELINE_ARM, 0.4, seeds=10), *arms)}
    planned = of or plan(*(one.name for one in arms))
    return by_name(judge(CONFIG, (), planned, 1, known, None))


def by_name(look: Look) -> dict[str, Any]:
    return {result.candidate.name: result for result in look.results}


def outcomes(results: dict[str, Any]) -> dict[str, str]:
    return {name: result.verdict.outcome for name, result in results.items()}


def frozen_look() -> Look:
    """The guarded metric never moves, so its bound has infinite degrees of freedom."""
    known = {
        BASELINE_ARM: arm(BASELINE_ARM, 0.4, seeds=10),
        "weighted": arm("weighted", 0.7),
    }
    known = {
        name: Arm(
            name,
            one.strategy,
            tuple(of.model_copy(update={"metrics": of.metrics | {"map50_95": 0.5}}) for of in one.reports),
        )
        for name, one in known.items()
    }
    return judge(CONFIG, (), plan("weighted"), 1, known, None)


def said(confirmation: Confirmation) -> str:
    """The table and the sentences, as on a wide screen."""
    console = wide_console()
    with console.capture() as captured:
        console.print(verdict_table(confirmation))
    return captured.get() + "\n".join(sentences(confirmation, "runs/toy"))
