"""A confirmation as a table, sentences and JSON. Builds them; only `cli` prints."""

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from search.judging.confirmation import Confirmation, PlannedCandidate, Result, SplitUse
from search.judging.diagnostics import lines as notes_lines
from search.judging.statistics.values import Advice, Bounds
from search.show.common import in_words, own_and_shared
from trainables.contract.tasks import MERGED

STYLE = {"accepted": "bold green", "rejected": "red", "inconclusive": "yellow", "invalid": "red"}
DEPLOYED = {
    "deployed/minority_recall": "minority recall",
    "deployed/minority_precision": "precision",
    "deployed/false_alarms": "false alarms per image",
}
HEADS = 3  # columns of the candidate, before those of its requirements
COLUMNS = ("requirement", "baseline", "candidate", "gain", "asked", "bound", "level", "test alone")


def verdict_table(confirmation: Confirmation) -> Table:
    """Each candidate with its verdict, a row for each requirement."""
    look, planned = confirmation.looks[-1], confirmation.plan.looks.looks
    title = f"{confirmation.experiment}: on the test split, after look {look.number} of {planned}"
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "requirement" else "right")
    for result in look.results:
        verdict = result.verdict
        rows = [_row(bounds, result) for bounds in verdict.bounds] or [[""] * len(COLUMNS)]
        for i, row in enumerate(rows):
            seeds = f"{result.seeds.candidate} v {result.seeds.baseline}"
            first = [result.candidate.name, verdict.outcome, seeds] if i == 0 else [""] * 3
            table.add_row(*first, *row, style=STYLE[verdict.outcome], end_section=row is rows[-1])
    return table


def _row(bounds: Bounds, result: Result) -> list[str]:
    metric = bounds.requirement.metric
    against = bounds.requirement.against_baseline
    sign = bounds.requirement.sign
    least = "≤" if bounds.requirement.lower_is_better else "≥"
    alone = bounds.split_half_width
    return [
        metric if against else f"{metric} (floor)",
        _plain(result.baseline.get(metric)),
        _plain(result.means.get(metric)),
        _signed(sign * bounds.gain) if against else "",
        f"{least} {_signed(sign * bounds.requirement.margin)}",
        f"{least} {_signed(sign * bounds.lower)}",
        f"{bounds.lower_level:.2%}",
        "" if alone is None else f"±{alone:.3f}",
    ]


def sentences(confirmation: Confirmation, path: str) -> list[str]:
    """What a person reads below the table: per candidate what it is, why this verdict, what would decide it.

    Args:
        confirmation: With at least one look.
        path: The study's folder as the person would type it.
    """
    said = []
    results = confirmation.looks[-1].results
    noted = [notes_lines(result.notes) for result in results]
    told, shared = own_and_shared(noted) if len(results) > 1 else (noted, [])
    for result, notes in zip(results, told, strict=True):
        verdict, candidate = result.verdict, result.candidate
        said.append(f"{candidate.name} ({_what(candidate)}): {verdict.outcome}")
        said += [f"    {line}" for line in (*verdict.reasons, *verdict.remarks)]
        if result.advice is not None:
            said.append(f"    {advice_sentence(result.advice, result, path)}")
        said += [f"    {line}" for line in (*_deployed(result), *_cost(result))]
        said += [f"    note: {line}" for line in notes]
        if verdict.bounds:
            met = "met" if verdict.point_rule else "not met"
            said.append(f"    the point rule (means alone; wrong for half of those on the margin): {met}")
    said += [f"note on all candidates: {line}" for line in shared]
    if confirmation.plan.whole_images:
        said.append(
            "merged/…: of whole images, on what was found on their tiles, merged by "
            f"{confirmation.plan.merging}; it is they that decide"
        )
    said.append(
        "asked: what must hold; bound: what holds but for a chance of `level`, all of them together at most "
        f"{confirmation.plan.settings.alpha:g}; test alone: how uncertain the test images alone leave it"
    )
    if confirmation.looks[-1].accepted:
        said.append(f"next: rarecall export {path}")
    return said


def _deployed(result: Result) -> list[str]:
    """What the weights that ship do on the test split, beside the baseline's; nothing of older records."""
    said = []
    for prefix, where in (("", ""), (MERGED, ", on whole images")):
        named = {f"{prefix}{metric}": words for metric, words in DEPLOYED.items()}
        shown = [
            f"{words} {_plain(result.baseline.get(metric))} -> {_plain(result.means[metric])}"
            for metric, words in named.items()
            if metric in result.means
        ]
        said += [f"deployed, as exported{where}: {', '.join(shown)}"] if shown else []
    return said


def _what(candidate: PlannedCandidate) -> str:
    own = in_words(candidate.strategy)
    if candidate.fusion is None:
        return own
    merged = "" if candidate.merging is None else f"; tiles merged by {candidate.merging}"
    return f"the minority by: {own}; the rest by: {in_words(candidate.fusion.majority)}{merged}"


def _cost(result: Result) -> list[str]:
    """What a fusion takes more than one model."""
    if result.candidate.fusion is None or result.seconds is None:
        return []
    own, baseline = result.seconds
    return [
        f"two trainings, and two inferences for each image: {own:.0f} s a run, {baseline:.0f} s the baseline"
    ]


def advice_sentence(advice: Advice, result: Result, path: str) -> str:
    """What would decide an inconclusive candidate."""
    match advice.kind:
        case "seeds":
            candidate = result.candidate
            who = f"--strategy {candidate.name}" if candidate.trial is None else f"--trial {candidate.trial}"
            if candidate.fusion is not None:
                who = f"--{candidate.name}"  # `--fusion 3`
            seeds = f"--seeds {advice.candidate_seeds} --baseline-seeds {advice.baseline_seeds}"
            return (
                f"+{advice.candidate_seeds} seeds would decide it, if its gains are what they seem: "
                f"rarecall confirm {path} --fresh --one-look {who} {seeds}"
            )
        case "labels":
            factor = "" if advice.sources is None else f": about {advice.sources:.1f} times the test sources"
            return f"more seeds cannot help, label more{factor}"
        case "too_many_seeds":
            return "the gain is too small for its noise: even 100 seeds would not decide it"
        case "no_gain":
            return "an estimate does not reach what is asked for: nothing to confirm"


def ledger_sentence(uses: Sequence[SplitUse]) -> str:
    """How often the test split has been looked at."""
    if not uses:
        return "the test split has not been used yet"
    listed = ", ".join(
        f"{use.experiment} ({use.created[:10]}, {use.arms} arms, {use.runs} runs)" for use in uses
    )
    more = "" if len(uses) == 1 else "; the error rate holds for each by itself"
    return f"the test split has been used by {listed}{more}"


def confirmation_json(confirmation: Confirmation, uses: Sequence[SplitUse]) -> dict[str, Any]:
    """All of a confirmation as plain values for `--json`; infinite degrees of freedom are null."""
    look = confirmation.looks[-1]
    plain = json.loads(look.model_dump_json(), parse_constant=lambda _: None)
    for shown, result in zip(plain["results"], look.results, strict=True):
        shown["verdict"]["point_rule"] = result.verdict.point_rule
        shown["candidate"]["strategy"] = result.candidate.strategy.knobs()
    return {
        "experiment": confirmation.experiment,
        "finished": confirmation.finished,
        "look": look.number,
        "looks": confirmation.plan.looks.looks,
        "settings": confirmation.plan.settings.model_dump(mode="json"),
        "accepted": [result.candidate.name for result in look.accepted],
        "candidates": plain["results"],
        "ledger": [vars(use) for use in uses],
    }


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
