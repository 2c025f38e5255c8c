"""A front as a table, as sentences, as rows and as plain values. Builds them; only `cli` prints."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, get_args

from rich.table import Table

from search.judging.choosing import Recommended
from search.judging.diagnostics import lines as diagnoses
from search.judging.front import Front, notes, notes_on_baseline
from search.judging.fusion import Fusion
from search.record.outcomes import Baseline, StudyTrial
from search.request.config import StudyConfig
from search.show.common import against, in_words
from search.show.notes import notes_on_trials
from spaces.strategy import Strategy
from trainables.contract.tasks import MERGED, NO_DIRECTION, TASKS, Task
from trainables.contract.trial import Merging, Metrics, valued

GROUP_STYLE = {"best": "bold green", "dominated": "", "infeasible": "dim", "stopped": "dim", "failed": "red"}
NONE_MEASURED = "no trial has been measured"
NONE_BEST = "no trial kept within the guards and reached the baseline's mean"
NO_MARGIN = "no trial keeps all guards by one sd of the baseline's seeds"


def change(trial: StudyTrial, baseline: Baseline, config: StudyConfig) -> str:
    """What a trial lifts and what it costs: `minority_recall 0.612 +0.221, macro_f1 0.830 -0.010`."""
    assert trial.report is not None
    measured = trial.report.metrics
    return ", ".join(f"{name} {_signed(name, measured, baseline)}" for name in config.front_metrics)


def recommendation(best: Recommended, baseline: Baseline, config: StudyConfig) -> str:
    """The trial to take, what it lifts and what it costs; and if so, that its guards have no margin."""
    marked = "" if best.with_margin else f" ({NO_MARGIN})"
    return f"recommended: trial {best.trial.number}, {change(best.trial, baseline, config)}{marked}"


def fusions_table(found: Sequence[Fusion], baseline: Baseline, config: StudyConfig) -> Table:
    """The baseline, and pairs of models; one row each, infeasible ones dim."""
    table = Table(title=f"{config.name}: two models, one for the minority", title_justify="left")
    whole = any(one.merging is not None for one in found)
    for name in ("fusion", "minority by", "rest by", "suppress", *(["merging"] if whole else [])):
        table.add_column(name, justify="right" if name == "fusion" else "left", no_wrap=True)
    metrics = list(config.shown_metrics)
    metrics += [f"{MERGED}{name}" for name in metrics if found and f"{MERGED}{name}" in found[0].metrics]
    for name in metrics:
        table.add_column(name, justify="right")
    values = [_with_sd(baseline.metrics.get(name), baseline.sd.get(name)) for name in metrics]
    table.add_row("", "baseline", "baseline", "", *([""] if whole else []), *values)
    for one in found:
        row = [_signed(name, one.metrics, baseline) for name in metrics]
        suppress = f"{one.suppress:g}" if one.suppress else ""
        ways = [one.merging or ""] if whole else []
        style = "" if one.feasible else GROUP_STYLE["infeasible"]
        table.add_row(str(one.number), one.minority, one.majority, suppress, *ways, *row, style=style)
    return table


def fused_by(merging: Merging | None) -> list[str]:
    """How pairs and the baseline are merged into whole images; nothing without these."""
    if merging is None:
        return []
    return [f"ranked by merged/…, of whole images; the baseline is merged by {merging}, as in a confirmation"]


def on_whole_images_line(best: Recommended | None, baseline: Baseline, merging: Merging) -> str | None:
    """What the recommended trial lifts on whole images, and how their tiles are merged; None without these.

    Args:
        best: The recommended trial, if any is.
        baseline: Over its finished seeds.
        merging: That a confirmation would use.
    """
    ways = {
        way: value
        for way in get_args(Merging)
        if (value := baseline.metrics.get(f"merging/{way}/minority_ap50")) is not None
    }
    if not ways:
        return None
    measured = Metrics() if best is None or best.trial.report is None else best.trial.report.metrics
    lifted = [
        f"{name} {_signed(f'{MERGED}{name}', measured, baseline)}"
        for name in ("minority_recall", "minority_ap50", "map50_95")
        if f"{MERGED}{name}" in measured
    ]
    listed = ", ".join(f"{way} {value:.3f}" for way, value in ways.items())
    said = f"on whole images: {', '.join(lifted)}; " if lifted else "on whole images "
    return f"{said}tiles are merged by {merging} (minority AP50 of the baseline on val: {listed})"


def pareto_table(found: Front, baseline: Baseline | None, config: StudyConfig, *, everything: bool) -> Table:
    """The baseline, the front and, with `everything`, all other trials; one row each."""
    names = list(config.front_metrics)
    table = Table(title=f"{config.name}: {len(found.best)} on the front", title_justify="left")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in [*names, "exposure"]:
        table.add_column(name, justify="right")
    if everything:
        table.add_column("group", no_wrap=True)
    if baseline is not None:
        values = [_with_sd(baseline.metrics.get(name), baseline.sd.get(name)) for name in names]
        exposure = sum(report.exposure for report in baseline.reports) / len(baseline.reports)
        table.add_row("base", *values, f"{exposure:.0%}", *(["baseline"] if everything else []))
    for group, trials in shown_groups(found, everything=everything).items():
        for trial in trials:
            row = _row(trial, names, baseline)
            table.add_row(*row, *([group] if everything else []), style=GROUP_STYLE.get(group, ""))
    return table


def strategies(
    found: Front,
    baseline: Baseline | None,
    config: StudyConfig,
    minority: Sequence[str],
    *,
    everything: bool,
) -> list[str]:
    """What each trial of the table did, a line each, and for a failed one why; then what is wrong with them.

    What is wrong is said once, with the trials that it is wrong with. What is wrong with the baseline comes
    last, and also if no trial is shown.
    """
    trials = [trial for group in shown_groups(found, everything=everything).values() for trial in group]
    lines = []
    for trial in trials:
        failure = trial.failure
        why = "" if failure is None else f" — {failure.kind}: {_last_line(failure.reason)}"
        why += f" — ended by the {trial.ended_by}" if trial.ended_by is not None else ""
        lines.append(f"{trial.number:>5}  {in_words(trial.strategy)}{why}")
    measured = [trial for trial in trials if trial.report is not None]
    own, shared = notes_on_trials(
        [(trial.number, notes(trial, baseline, config, minority)) for trial in measured]
    )
    usual = diagnoses(notes_on_baseline(baseline, config, minority))
    everywhere = f"trial {measured[0].number}" if len(measured) == 1 else "all trials"
    lines += own
    lines += [f"note{'' if line in usual else f' on {everywhere}'}: {line}" for line in shared]
    return lines + [f"note on the baseline: {line}" for line in usual if line not in shared]


def none_recommended(trials: Sequence[StudyTrial], objective: str) -> str:
    """Why no trial is recommended."""
    if all(trial.report is None for trial in trials):
        return NONE_MEASURED
    feasible = [trial for trial in trials if trial.feasible]
    if feasible and all(trial.value(objective) == 0 for trial in feasible):
        return (
            f"every feasible trial has {objective} 0: the models learn nothing of it yet; raise train.steps"
        )
    return NONE_BEST


def caption(found: Front, *, being_searched: bool) -> str:
    """How many trials are in each group, what the table's signs mean, and what all gains have in common.

    Args:
        found: The trials.
        being_searched: Whether a process works on them; else what seems to run was interrupted.
    """
    named = {"running": "running" if being_searched else "interrupted"}
    counted = ", ".join(f"{len(group)} {named.get(name, name)}" for name, group in vars(found).items())
    said = f"{counted}. Signed: against the baseline's mean; ! breaks its guard."
    measured = [trial.seed for group in vars(found).values() for trial in group if trial.report is not None]
    if len(measured) > 1 and len(set(measured)) == 1:
        said += f" The trials share one training seed ({measured[0]}), whose luck is in all of them."
    return said


def shown_groups(found: Front, *, everything: bool) -> dict[str, tuple[StudyTrial, ...]]:
    """The groups that a table shows."""
    return {group: trials for group, trials in vars(found).items() if group == "best" or everything}


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def _row(trial: StudyTrial, names: list[str], baseline: Baseline | None) -> list[str]:
    if trial.report is None:
        return [str(trial.number), *([""] * len(names)), ""]
    values = [
        _signed(name, trial.report.metrics, baseline) + ("!" if trial.violations.get(name, 0) > 0 else "")
        for name in names
    ]
    return [str(trial.number), *values, f"{trial.report.exposure:.0%}"]


def _signed(name: str, measured: Metrics, baseline: Baseline | None) -> str:
    """A metric, and how far it is above the baseline's mean if that means anything."""
    reference = None if baseline is None or name in NO_DIRECTION else baseline.metrics.get(name)
    return against(valued(measured, name), reference)


def _with_sd(value: float | None, sd: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"


def as_json(
    sorted_trials: Front,
    best: Recommended | None,
    baseline: Baseline | None,
    config: StudyConfig,
    minority: Sequence[str],
) -> dict[str, Any]:
    """The front as plain values for `--json`; each trial, and the baseline, with what is wrong with it.

    Args:
        sorted_trials: From `front`.
        best: The recommended trial, if any is.
        baseline: Of the study.
        config: Its request.
        minority: Names of the minority classes; without them nothing is said of how many objects they have.
    """
    groups = {
        name: [
            _trial(trial) | {"notes": list(map(asdict, notes(trial, baseline, config, minority)))}
            for trial in group
        ]
        for name, group in vars(sorted_trials).items()
    }
    measured = None
    if baseline is not None:
        measured = {
            "metrics": baseline.metrics,
            "sd": baseline.sd,
            "seeds": list(baseline.seeds),
            "notes": list(map(asdict, notes_on_baseline(baseline, config, minority))),
        }
    chosen = None if best is None else {"number": best.trial.number, "with_margin": best.with_margin}
    return {"baseline": measured, "recommended": chosen, **groups}


def as_rows(sorted_trials: Front, task: Task) -> list[dict[str, Any]]:
    """One flat row per trial: number, group, the knobs that the task has, metrics, guards."""
    rows = []
    for group, trials in vars(sorted_trials).items():
        for trial in trials:
            row = {"number": trial.number, "group": group, **_knobs(trial.strategy, task)}
            if trial.report is not None:
                row |= trial.report.metrics | {
                    "exposure": trial.report.exposure,
                    "seconds": trial.report.seconds,
                }
            row |= {f"violation/{metric}": value for metric, value in trial.violations.items()}
            rows.append(row)
    return sorted(rows, key=lambda row: row["number"])


def baseline_rows(baseline: Baseline | None, config: StudyConfig) -> list[dict[str, Any]]:
    """The baseline's mean as a row like those of `as_rows`, without a number; none before it is measured."""
    if baseline is None:
        return []
    means = {
        "exposure": fmean(report.exposure for report in baseline.reports),
        "seconds": fmean(report.seconds for report in baseline.reports),
    }
    knobs = _knobs(config.baseline_strategy, config.task)
    return [{"number": None, "group": "baseline", **knobs, **baseline.metrics, **means}]


def _knobs(strategy: Strategy, task: Task) -> dict[str, float]:
    return {knob: value for knob, value in strategy.knobs().items() if knob not in TASKS[task].lacks}


def _trial(trial: StudyTrial) -> dict[str, Any]:
    report = trial.report
    shown = {
        "number": trial.number,
        "strategy": trial.strategy.knobs(),
        "metrics": {} if report is None else report.metrics,
        "guards": trial.violations,
        "exposure": None if report is None else report.exposure,
        "seconds": None if report is None else report.seconds,
        "epochs": 0 if report is None else report.curve[-1].epoch,
    }
    if trial.failure is not None:
        shown["failure"] = {"kind": trial.failure.kind, "reason": trial.failure.reason}
    return shown
