"""Tables and sentences for a terminal. Builds them; only `cli` and `progress` print."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from search.judging.diagnostics import lines as diagnoses
from search.judging.front import Front, notes
from search.record.study import Baseline, StudyTrial
from search.request.config import StudyConfig
from spaces.strategy import Strategy

WIDE = 200
GROUP_STYLE = {"best": "bold green", "dominated": "", "infeasible": "dim", "stopped": "dim", "failed": "red"}


def describe(strategy: Strategy) -> str:
    """The knobs that differ from doing nothing: `retention 0.40, sampler_power 0.52`."""
    changed = strategy.changed()
    return ", ".join(f"{knob} {value:.2f}" for knob, value in changed.items()) or "plain"


def change(trial: StudyTrial, baseline: Baseline, config: StudyConfig) -> str:
    """What a trial lifts and what it costs: `minority_recall 0.612 +0.221, macro_f1 0.830 -0.010`."""
    assert trial.report is not None
    guarded = [guard.metric for guard in config.guards]
    names = list(dict.fromkeys([*config.objectives, *guarded]))
    return ", ".join(
        f"{name} {_against(trial.report.metrics[name], baseline.metrics[name])}" for name in names
    )


def pareto_table(found: Front, baseline: Baseline | None, config: StudyConfig, *, everything: bool) -> Table:
    """The baseline, the front and, with `everything`, all other trials; one row each."""
    names = list(dict.fromkeys([*config.objectives, *(guard.metric for guard in config.guards)]))
    table = Table(title=f"{config.name}: {len(found.best)} on the front", title_justify="left")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in [*names, "exposure"]:
        table.add_column(name, justify="right", no_wrap=True, overflow="fold")
    if everything:
        table.add_column("group", no_wrap=True)
    if baseline is not None:
        values = [_with_sd(baseline.metrics[name], baseline.sd[name]) for name in names]
        exposure = sum(report.exposure for report in baseline.reports) / len(baseline.reports)
        table.add_row("base", *values, f"{exposure:.0%}", *(["baseline"] if everything else []))
    for group, trials in shown_groups(found, everything=everything).items():
        for trial in trials:
            row = _row(trial, names, baseline)
            table.add_row(*row, *([group] if everything else []), style=GROUP_STYLE.get(group, ""))
    return table


def strategies(
    found: Front, baseline: Baseline | None, minority: Sequence[str], *, everything: bool
) -> list[str]:
    """What each trial of the table did, a line each; for a failed one why; and what is wrong with it."""
    trials = [trial for group in shown_groups(found, everything=everything).values() for trial in group]
    told, shared = own_and_shared([diagnoses(notes(trial, baseline, minority)) for trial in trials])
    lines = []
    for trial, own in zip(trials, told, strict=True):
        failure = trial.failure
        why = "" if failure is None else f" — {failure.kind}: {_last_line(failure.reason)}"
        lines.append(f"{trial.number:>5}  {describe(trial.strategy)}{why}")
        lines += [f"       note: {line}" for line in own]
    return lines + [f"note: {line}" for line in shared]


def own_and_shared(told: Sequence[Sequence[str]]) -> tuple[list[list[str]], list[str]]:
    """What is said of each alone, and what is said of all of them, which needs to be printed only once."""
    shared = [line for line in told[0] if all(line in lines for lines in told)] if told else []
    return [[line for line in lines if line not in shared] for lines in told], shared


def shown_groups(found: Front, *, everything: bool) -> dict[str, tuple[StudyTrial, ...]]:
    """The groups that a table shows."""
    return {group: trials for group, trials in vars(found).items() if group == "best" or everything}


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def _row(trial: StudyTrial, names: list[str], baseline: Baseline | None) -> list[str]:
    if trial.report is None:
        return [str(trial.number), *([""] * len(names)), ""]
    measured = trial.report.metrics
    reference = {} if baseline is None else baseline.metrics
    values = [
        _against(measured[name], reference.get(name)) + ("!" if trial.violations.get(name, 0) > 0 else "")
        for name in names
    ]
    return [str(trial.number), *values, f"{trial.report.exposure:.0%}"]


def _against(value: float | None, reference: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if reference is None else f"{value:.3f} {value - reference:+.3f}"


def _with_sd(value: float | None, sd: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"


def wide_console() -> Console:
    """The terminal; a file or a pipe has no edge, so there lines are long."""
    return Console(width=None if sys.stdout.isatty() else WIDE)
