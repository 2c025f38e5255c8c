"""A comparison as a table, as rows and as plain values, and what must be said beside any view of it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from search.judging.comparison import ArmResult, Comparison, Estimate, Measured, at_margins, is_better
from search.judging.statistics.values import Requirement
from trainables.contract.tasks import LOWER_IS_BETTER, MERGED

MARK = "*"  # on an arm that differs from the reference after Holm


def as_table(comparison: Comparison, asked: Sequence[Requirement] = ()) -> Table:
    """A row per arm; a cell holds the mean, and below it the gain, coloured if its interval is clear of 0.

    Args:
        comparison: With the metrics to show.
        asked: What a confirmation would ask of a candidate; their metrics must be among those.
    """
    table = Table(title=f"compared with {comparison.reference}", title_justify="left", show_lines=True)
    table.add_column("arm\nseeds, exposure", no_wrap=True, overflow="fold")
    for metric in comparison.metrics:
        table.add_column(f"{metric}\n{'lower' if metric in LOWER_IS_BETTER else 'higher'} is better")
    for arm in comparison.arms:
        cells = [_cell(metric, measured, arm, comparison) for metric, measured in arm.measured.items()]
        reached = (
            "" if not asked or arm.name == comparison.reference else f"\nmargins: {at_margins(arm, asked)}"
        )
        table.add_row(f"{arm.name}\n{details(arm)}{reached}", *cells)
    first = f"Mean ± sd over seeds; below it the difference from {comparison.reference}, 95% interval."
    table.caption = Text("\n".join([first, *caption(comparison), *_margins(asked)]))
    table.caption_justify = "left"
    return table


def _margins(asked: Sequence[Requirement]) -> list[str]:
    """What `margins` in the table means."""
    if not asked:
        return []
    wanted = []
    for one in asked:
        value, side = one.sign * one.margin, "≤" if one.lower_is_better else "≥"
        wanted.append(f"{one.metric} {side} {f'{value:+g}' if one.against_baseline else f'{value:g}'}")
    said = f"margins: whether all intervals keep to {', '.join(wanted)}"
    return [f"{said}; deciding takes `rarecall confirm`."]


def details(arm: ArmResult) -> str:
    """What an arm's numbers rest on: `5 seeds, 10% exposure`."""
    exposure = [] if arm.exposure is None else [f"{arm.exposure:.0%} exposure"]
    failed = [f"{sum(arm.failed.values())} failed"] if arm.failed else []
    return ", ".join([f"{arm.seeds} seed{'' if arm.seeds == 1 else 's'}", *failed, *exposure])


def _cell(metric: str, measured: Measured, arm: ArmResult, comparison: Comparison) -> Text:
    spread = "" if measured.sd is None else f" ± {measured.sd:.3f}"
    mean = "-" if measured.mean.value is None else f"{measured.mean.value:.3f}{spread}"
    if measured.gain is None:
        return Text(mean)
    marked = f" {MARK}" if arm.differs and metric == comparison.deciding else ""
    return Text(f"{mean}\n").append(f"{signed(measured.gain)}{marked}", style=_style(metric, measured.gain))


def _style(metric: str, gain: Estimate) -> str:
    if gain.value is None or gain.interval is None or gain.interval[0] <= 0 <= gain.interval[1]:
        return ""
    return "green" if is_better(metric, gain.value) else "red"


def signed(gain: Estimate) -> str:
    """`+0.221 [+0.121,+0.321]`, or `-` if no gain is claimed."""
    if gain.value is None or gain.interval is None:
        return "-"
    low, high = gain.interval
    return f"{gain.value:+.3f} [{low:+.3f},{high:+.3f}]"


def caption(comparison: Comparison) -> list[str]:
    """A line each: how to read it, the pairs of equal exposure, and of which arms no gain is claimed."""
    others = [arm for arm in comparison.arms if arm.name != comparison.reference]
    reference = next(arm for arm in comparison.arms if arm.name == comparison.reference)
    fewest, most = min(arm.seeds for arm in others), max(arm.seeds for arm in others)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    return [
        f"Exploratory, on the {comparison.split} split: {len(others)} arms with {seeds} seeds each against "
        f"{reference.name} with {reference.seeds}.",
        f"Intervals are 95% each, not simultaneous. {_errors_counted(comparison)}",
        f"{MARK} differs from {reference.name} in {comparison.deciding} after Holm over {len(others)} arms "
        f"at {comparison.alpha:.0%}.",
        *(
            [f"{MERGED}…: on whole images, on what was found on their tiles, merged."]
            if any(metric.startswith(MERGED) for metric in comparison.metrics)
            else []
        ),
        *_pairs(comparison),
        *_problems(comparison),
    ]


def _errors_counted(comparison: Comparison) -> str:
    lacking = [
        metric
        for metric in comparison.metrics
        if not all(
            estimate.split_counted
            for arm in comparison.arms
            for estimate in (arm.measured[metric].mean, arm.measured[metric].gain)
            if estimate is not None and estimate.interval is not None
        )
    ]
    split = f"the {comparison.split} split's own"
    if not lacking:
        return f"They count the seeds' error and {split}."
    if len(lacking) == len(comparison.metrics):
        return f"They count the seeds' error only, not {split}."
    return f"They count the seeds' error and {split}; for {', '.join(lacking)} the seeds' only."


def _pairs(comparison: Comparison) -> list[str]:
    return [
        f"Equal exposure, {pair.first} minus {pair.second}: "
        + ", ".join(f"{metric} {signed(gain)}" for metric, gain in pair.differences.items())
        for pair in comparison.pairs
    ]


def _problems(comparison: Comparison) -> list[str]:
    """A line per arm and reason why no gain is claimed; in all metrics unless some are named."""
    lines = []
    for arm in comparison.arms:
        whose = "of any arm" if arm.name == comparison.reference else "of it"
        reasons = {metric: measured.mean.reason for metric, measured in arm.measured.items()}
        for reason in dict.fromkeys(filter(None, reasons.values())):
            metrics = [metric for metric, other in reasons.items() if other == reason]
            where = "" if len(metrics) == len(reasons) else f" in {', '.join(metrics)}"
            lines.append(f"{arm.name}: {reason}; no gain is claimed {whose}{where}.")
    return lines


def as_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A flat row per arm and metric for `--csv`; None where something cannot be told, and `note` says why."""
    return [
        {
            "arm": arm.name,
            "metric": metric,
            "n": len(measured.values),
            **_values(measured),
            **_p_values(arm, shown=metric == comparison.deciding),
            "exposure": arm.exposure,
            "note": measured.mean.reason if measured.gain is None else measured.gain.reason,
        }
        for arm in comparison.arms
        for metric, measured in arm.measured.items()
    ]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as plain values for `--json`."""
    return {
        "split": comparison.split,
        "reference": comparison.reference,
        "deciding": comparison.deciding,
        "alpha": comparison.alpha,
        "arms": [_arm(arm) for arm in comparison.arms],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "differences": {
                    metric: _difference(metric, gain) for metric, gain in pair.differences.items()
                },
            }
            for pair in comparison.pairs
        ],
        "caption": caption(comparison),
    }


def _values(measured: Measured) -> dict[str, float | None]:
    low, high = measured.mean.interval or (None, None)
    gain = measured.gain or Estimate()
    gain_low, gain_high = gain.interval or (None, None)
    return {
        "mean": measured.mean.value,
        "sd": measured.sd,
        "low": low,
        "high": high,
        "gain": gain.value,
        "gain_low": gain_low,
        "gain_high": gain_high,
    }


def _p_values(arm: ArmResult, *, shown: bool) -> dict[str, float | None]:
    return {"p": arm.p_value if shown else None, "p_holm": arm.p_holm if shown else None}


def _arm(arm: ArmResult) -> dict[str, Any]:
    return {
        "name": arm.name,
        "strategy": arm.strategy.knobs(),
        "seeds": arm.seeds,
        "failed": arm.failed,
        "exposure": arm.exposure,
        "images_seen": arm.images_seen,
        "unique_images": arm.unique_images,
        "seconds": arm.seconds,
        **_p_values(arm, shown=True),
        "differs": arm.differs,
        "metrics": {
            metric: {
                "values": list(measured.values),
                "sd": measured.sd,
                "mean": asdict(measured.mean),
                "gain": None if measured.gain is None else _difference(metric, measured.gain),
            }
            for metric, measured in arm.measured.items()
        },
    }


def _difference(metric: str, gain: Estimate) -> dict[str, Any]:
    better = None if gain.value is None else is_better(metric, gain.value)
    return {**asdict(gain), "better": better}
