"""What was asked of a study and the answer, in sentences that need no knowledge of the field."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search.export.page.glossary import short
from search.judging.choosing import Recommended
from search.judging.confirmation import Confirmation, Look, Result
from search.judging.learning import support_of
from search.judging.statistics.values import Bounds
from search.record.outcomes import Baseline
from search.record.study import Study
from search.request.computing.budget import amount
from search.request.config import StudyConfig
from search.request.guards import MaxDrop
from search.show.common import in_words
from search.show.confirmation import advice_sentence
from search.show.status import StudyStatus
from trainables.contract.tasks import LOWER_IS_BETTER, MERGED
from trainables.contract.trial import Metrics, Split


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
        f"{short(guard.metric)} {_at_most(guard)}"
        if isinstance(guard, MaxDrop)
        else f"{short(guard.metric)} stays at {guard.floor:g} or better"
        for guard in config.guards
    ]
    kept = f", while {', and '.join(limits)}" if limits else ""
    return f"Which training strategy finds more of the rare class ({', '.join(minority)}){kept}?"


def _at_most(guard: MaxDrop) -> str:
    """How far it may get worse: `falls by no more than 0.03`."""
    rises = guard.metric in LOWER_IS_BETTER
    if guard.max_drop == 0:
        return "does not rise" if rises else "does not fall"
    return f"{'rises' if rises else 'falls'} by no more than {guard.max_drop:g}"


def answer(study: Study, status: StudyStatus, confirmation: Confirmation | None, where: Path | str) -> Answer:
    """What is known so far: the last confirmation's best verdict, else what the search found.

    Args:
        study: Its record.
        status: Where it stands.
        confirmation: The last one.
        where: The study's folder as a person would type it.
    """
    if confirmation is not None and confirmation.looks:
        look = confirmation.looks[-1]
        return _with_others(_judged(look.leading, confirmation, study, status, where), look)
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


def _judged(
    result: Result, confirmation: Confirmation, study: Study, status: StudyStatus, where: Path | str
) -> Answer:
    verdict, name = result.verdict, result.candidate.name
    rare = ", ".join(study.minority)
    if not verdict.bounds:
        return Answer("invalid", f"{name} could not be judged.", verdict.reasons, result.candidate.trial)
    said = {
        "accepted": f"Yes: {name} finds more of the rare class ({rare}), and keeps the limits.",
        "rejected": f"No: {name} does not do what was asked.",
        "inconclusive": f"Not decided: {name} may do what was asked, but the evidence is too thin.",
    }[verdict.outcome]
    if result.advice is not None and result.advice.kind == "no_gain":
        said = f"Not decided, and not promising: {name} falls short of what was asked, though not surely."
    gain, *prices = verdict.bounds
    alpha = confirmation.plan.settings.alpha
    sentences = [
        *([] if verdict.outcome == "accepted" else [f"Why: {_in_names(one)}." for one in verdict.reasons]),
        _gain(gain, result),
        *_missed(gain, result),
        *(_price(bounds, result) for bounds in prices),
        f"How sure: {result.seeds.candidate} trainings against {result.seeds.baseline} of the baseline, all "
        "with fresh seeds, so that luck shows. A strategy that does not do what was asked passes such a test "
        f"in at most {alpha:.0%} of all cases; 'at least' and 'at worst' above are as sure as that.",
        _judged_on(result.means, study.minority, "test"),
        f"What it is: {in_words(result.candidate.strategy)} (each is explained under Words).",
        _computing(result, status),
    ]
    if result.advice is not None:
        sentences.append(f"What would decide it: {advice_sentence(result.advice, result, str(where))}.")
    recommended = "" if verdict.outcome == "accepted" else "none is accepted, so none is recommended. "
    sentences.append(
        f"The weights: {recommended}`rarecall export {where}`, typed where the study's folder lies, writes a "
        "trained model into its folder `export`, with a script that uses it."
    )
    return Answer(verdict.outcome, said, tuple(sentences), result.candidate.trial)


def _with_others(told: Answer, look: Look) -> Answer:
    """An answer that also names the others that were accepted."""
    others = [one.candidate.name for one in look.results if one.verdict.outcome == "accepted"]
    others = [name for name in others if name != look.leading.candidate.name]
    if told.outcome != "accepted" or not others:
        return told
    said = f"Also accepted: {', '.join(others)}; the first is the one whose gain is surest."
    return replace(told, sentences=(*told.sentences, said))


def _gain(gain: Bounds, result: Result) -> str:
    """What came of the deciding metric."""
    metric = gain.requirement.metric
    before, after = result.baseline.get(metric), result.means.get(metric)
    return (
        f"{_capital(short(metric))}: {_number(after)}, with the baseline {_number(before)}. "
        f"The gain is {_signed(gain.gain)}, at least {_signed(gain.lower)}; "
        f"asked for was {_signed(gain.requirement.margin)}."
    )


def _missed(gain: Bounds, result: Result) -> list[str]:
    """What is not found, where the deciding metric is a recall."""
    metric = gain.requirement.metric
    before, after = result.baseline.get(metric), result.means.get(metric)
    if not metric.endswith("minority_recall") or before is None or after is None:
        return []
    now, usually = (f"{100 * (1 - recall):.0f}" for recall in (after, before))
    return [f"Still missed: {now} of 100 rare objects; the baseline misses {usually}."]


def _judged_on(metrics: Metrics, minority: Sequence[str], split: Split) -> str:
    """How many objects a recall is of; whole ones where there are whole images."""
    count = support_of(metrics, minority, MERGED) or support_of(metrics, minority)
    many = "rare objects" if count is None else f"{count:.0f} rare objects"
    seen = "nothing was chosen by them" if split == "test" else "the strategies were chosen by them"
    return f"Judged on: {many} of the {split} split's images; {seen}."


def _computing(result: Result, status: StudyStatus) -> str:
    """What it took."""
    once = ""
    if result.seconds is not None:
        once = " One training takes {:.0f} s, one of the baseline {:.0f} s.".format(*result.seconds)
    return (
        f"Computing: {status.cost.runs} trainings took {amount(status.cost.hours)} hours, added up: search, "
        f"confirmation and comparison.{once}"
    )


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
        "partly luck. A confirmation trains it anew and judges it on images that nothing was chosen by.",
        _judged_on(best.trial.report.metrics, study.minority, "val"),
        f"What it is: {in_words(best.trial.strategy)} (each is explained under Words).",
    ]
    said = f"Not confirmed yet: in the search trial {best.trial.number} did best in {short(objective)}."
    return Answer("unconfirmed", said, tuple(sentences), best.trial.number)


def _price(bounds: Bounds, result: Result) -> str:
    """What a requirement beside the gain came to."""
    asked = bounds.requirement
    name, after = _capital(short(asked.metric)), _number(result.means.get(asked.metric))
    if not asked.against_baseline:
        return f"{name}: {after}, at worst {asked.sign * bounds.lower:.3f}."
    return (
        f"{name}: {after}, with the baseline {_number(result.baseline.get(asked.metric))}. The change is "
        f"{_signed(asked.sign * bounds.gain)}, at worst {_signed(asked.sign * bounds.lower)}; allowed was "
        f"{_signed(asked.sign * asked.margin)}."
    )


def _in_names(reason: str) -> str:
    """A reason, which begins with a metric, with its name for people."""
    metric, colon, rest = reason.partition(": ")
    return f"{short(metric)}{colon}{rest}"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
