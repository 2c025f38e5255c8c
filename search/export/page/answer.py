"""What was asked of a study and the answer, in sentences that need no knowledge of the field."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from search.export.page.glossary import short
from search.judging.choosing import Recommended
from search.judging.confirmation import Confirmation, Result
from search.judging.statistics.values import Bounds
from search.record.study import Baseline, Study
from search.request.config import StudyConfig
from search.request.guards import MaxDrop
from search.show.common import in_words
from search.show.status import StudyStatus


@dataclass(frozen=True)
class Answer:
    """The answer.

    Attributes:
        outcome: Of the best candidate of the last confirmation: `accepted`, `inconclusive`, `rejected` or
            `invalid`; before one `unconfirmed`, `searching`, `unfinished`, `failed`, or `nothing` if no trial
            is worth confirming.
        headline: One sentence.
        sentences: How much, at what price, how sure, on what; a sentence each.
        trial: Number of the trial that it is about; None if it is about none.
    """

    outcome: str
    headline: str
    sentences: tuple[str, ...]
    trial: int | None = None


def question(config: StudyConfig, minority: Sequence[str]) -> str:
    """What was asked."""
    limits = [
        f"{short(guard.metric)} falls by no more than {guard.max_drop:g}"
        if isinstance(guard, MaxDrop)
        else f"{short(guard.metric)} stays at {guard.floor:g} or better"
        for guard in config.guards
    ]
    kept = f", while {', and '.join(limits)}" if limits else ""
    return f"Which training strategy finds more of the rare class ({', '.join(minority)}){kept}?"


def answer(study: Study, status: StudyStatus, confirmation: Confirmation | None) -> Answer:
    """What is known so far: the last confirmation's best verdict, else what the search found."""
    if confirmation is not None and confirmation.looks:
        return _judged(confirmation.looks[-1].leading, confirmation, study.minority)
    done, asked = status.states["complete"], status.config.search.trials
    if status.best is None or status.baseline is None:
        return _without_best(study, status, done, asked)
    found = _unconfirmed(study, status.best, status.baseline, done)
    if status.being != "searched":
        return found
    searching = f"Still searching, {done} of {asked} trials are finished. So far trial {found.trial} leads."
    return replace(found, outcome="searching", headline=searching)


def _without_best(study: Study, status: StudyStatus, done: int, asked: int) -> Answer:
    """What is said where no trial is worth naming: the search goes on, was not finished, or why else."""
    if status.being == "searched":
        return Answer("searching", f"Still searching: {done} of {asked} trials are finished.", ())
    failed = [trial for trial in study.baseline_trials() if trial.failure is not None]
    if status.baseline is None and failed:
        assert failed[0].failure is not None
        why = failed[0].failure
        reason = (f"{why.kind}: {why.reason.strip().splitlines()[-1]}",)
        return Answer("failed", "The baseline could not be trained, so nothing was compared with it.", reason)
    if status.baseline is None or done + status.states["failed"] + status.states["stopped"] < asked:
        done_so_far = f"{status.seeds} seeds of the baseline and {done} of {asked} trials are finished."
        return Answer("unfinished", "The search is not finished.", (done_so_far,))
    said = "No strategy that was tried kept the limits and found more than the baseline."
    counted = f"{done} of {asked} trials gave a result" + (
        f", {status.states['failed']} failed." if status.states["failed"] else "."
    )
    return Answer("nothing", said, (counted,))


def _judged(result: Result, confirmation: Confirmation, minority: Sequence[str]) -> Answer:
    verdict, name = result.verdict, result.candidate.name
    rare = ", ".join(minority)
    alpha = confirmation.plan.settings.alpha
    if not verdict.bounds:
        return Answer("invalid", f"{name} could not be judged.", verdict.reasons, result.candidate.trial)
    gain = verdict.bounds[0]
    metric = gain.requirement.metric
    before, after = result.baseline.get(metric), result.means.get(metric)
    said = {
        "accepted": f"Yes: {name} finds more of the rare class ({rare}), and keeps the limits.",
        "rejected": f"No: {name} does not do what was asked.",
        "inconclusive": f"Not decided: {name} may do what was asked, but the evidence is too thin.",
    }[verdict.outcome]
    sentences = [
        f"{_capital(short(metric))}: {_number(after)}, with the baseline {_number(before)}: a gain of "
        f"{_signed(gain.gain)}, at least {_signed(gain.lower)} but for a small chance of error. Asked for "
        f"was {_signed(gain.requirement.margin)}.",
        *(_price(bounds, result) for bounds in verdict.bounds[1:]),
        f"How sure: over {result.seeds.candidate} trainings against {result.seeds.baseline} of the baseline, "
        "all on fresh seeds and on images that nothing was chosen on. A strategy that does not hold what is "
        f"asked is accepted in at most {alpha:.0%} of such confirmations.",
        f"What it is: {in_words(result.candidate.strategy)}.",
    ]
    if verdict.outcome != "accepted":
        sentences[0:0] = [f"{_capital(reason)}." for reason in verdict.reasons]
    return Answer(verdict.outcome, said, tuple(sentences), result.candidate.trial)


def _unconfirmed(study: Study, best: Recommended, baseline: Baseline, done: int) -> Answer:
    assert best.trial.report is not None
    objective = study.config.objectives[0]
    sentences = [
        f"{_capital(short(metric))}: {_number(best.trial.report.metrics.get(metric))}, with the baseline "
        f"{_number(baseline.metrics.get(metric))}."
        for metric in study.config.shown_metrics
    ]
    sentences += [
        f"How sure: not at all yet. It is the best of {done} single trainings, and the best of many is "
        "partly luck. A confirmation trains it anew and judges it on images that nothing was chosen on.",
        f"What it is: {in_words(best.trial.strategy)}.",
    ]
    said = f"Not confirmed yet: in the search trial {best.trial.number} did best in {short(objective)}."
    return Answer("unconfirmed", said, tuple(sentences), best.trial.number)


def _price(bounds: Bounds, result: Result) -> str:
    """What a requirement beside the gain came to."""
    asked = bounds.requirement
    name, after = _capital(short(asked.metric)), _number(result.means.get(asked.metric))
    if not asked.against_baseline:
        return f"{name}: {after}, {asked.sign * bounds.lower:.3f} or better but for a small chance of error."
    return (
        f"{name}: {after}, with the baseline {_number(result.baseline.get(asked.metric))}: "
        f"{_signed(asked.sign * bounds.gain)}, no worse than {_signed(asked.sign * bounds.lower)} but for a "
        f"small chance of error. Allowed was {_signed(asked.sign * asked.margin)}."
    )


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
