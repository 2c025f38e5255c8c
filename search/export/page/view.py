"""What the page shows of a study, as plain values: from the record alone, and what else is handed in.

No page is drawn here and no data are read, so that it is quick enough to be asked again and again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.export.page.answer import answer, question
from search.export.page.curves import band, line, with_curves
from search.export.page.glossary import KNOBS, TERMS, meaning, short
from search.judging.comparison import Comparison, Conclusion
from search.judging.confirmation import Confirmation, Result, latest, ledger, verdicts
from search.judging.diagnostics import lines as diagnoses
from search.judging.front import Front, front, notes, notes_on_baseline
from search.record.experiments import COMPARISON
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.record.outcomes import Baseline, StudyTrial
from search.record.stored import unpacked
from search.record.study import Study
from search.request.config import StudyConfig
from search.request.guards import MaxDrop
from search.show.common import in_words
from search.show.comparison import caption, details
from search.show.confirmation import ledger_sentence, sentences
from search.show.front import caption as front_caption
from search.show.status import study_status
from spaces.strategy import PLAIN, SENTENCES
from trainables.contract.tasks import LOWER_IS_BETTER
from trainables.contract.trial import Metrics, TrialFailure, valued

MOST_CURVES = 50  # beside the front's, the baseline's and those that were confirmed


@dataclass(frozen=True)
class Asked:
    """How a page is wanted.

    Attributes:
        where: The study's folder as a person would type it.
        anonymous: Whether no path and no name of an image may stand on it.
    """

    where: Path | str
    anonymous: bool = False


def view(
    folder: StudyFolder,
    asked: Asked,
    more: Mapping[str, Any] | None = None,
    *,
    study: Study | None = None,
) -> dict[str, Any]:
    """All that stands on the page.

    Args:
        folder: The study's.
        asked: How it is wanted.
        more: What the record does not hold: `data`, `effects`, `classes`, `pictures`; None or absent for what
            is not shown.
        study: Its record, where it is open already.

    Raises:
        UsageError: There is no study.
        RunError: Its record cannot be read.
    """
    study, being = study or folder.open("look"), folder.being()
    config, trials, baseline = study.config, study.trials(), study.baseline()
    found = front(trials, config.objectives, baseline)
    where = Path("STUDY") if asked.anonymous else asked.where
    confirmation = latest(study)
    status = study_status(study, being, where)
    told = answer(study, status, confirmation, where)
    comparison = _comparison(study)
    metrics = _metrics_named(config, comparison, confirmation)
    return {
        "title": config.name,
        "task": config.task,
        "being": being,
        "question": question(config, study.minority),
        "answer": asdict(told),
        "next": [asdict(step) for step in status.steps],
        "objectives": list(config.objectives),
        "terms": TERMS,
        "knob_words": {knob: KNOBS[knob] for knob in _used(config, trials, comparison, confirmation)},
        "named": {name: SENTENCES[name] for name in _named(comparison, confirmation) if name in SENTENCES},
        "words": {metric: [short(metric), meaning(metric)] for metric in metrics},
        "lower": sorted(LOWER_IS_BETTER & set(metrics)),
        "shown": list(config.front_metrics),
        "guards": _guards(config, baseline),
        "baseline": _baseline(study, baseline),
        "trials": _trials(study, found, baseline, told.trial, anonymous=asked.anonymous),
        "counts": front_caption(found, being_searched=being == "searched"),
        "knobs": _knobs(config),
        "off": PLAIN.knobs(),
        "curves": _curves(study, folder.files, found, baseline),
        "comparison": None if comparison is None else _arms(comparison),
        "confirmation": _judged(confirmation, where),
        "ledger": ledger_sentence(ledger(study)),
        "provenance": _provenance(folder, anonymous=asked.anonymous),
        **(more or {}),
    }


def _named(comparison: Comparison | None, confirmation: Confirmation | None) -> list[str]:
    """Arms and candidates that have a name."""
    arms = [] if comparison is None else [arm.name for arm in comparison.arms]
    judged = [] if confirmation is None else [one.name for one in confirmation.plan.candidates]
    return list(dict.fromkeys([*arms, *judged]))


def _used(
    config: StudyConfig,
    trials: Sequence[StudyTrial],
    comparison: Comparison | None,
    confirmation: Confirmation | None,
) -> list[str]:
    """Knobs that something on the page sets."""
    strategies = [trial.strategy for trial in trials]
    strategies += [] if comparison is None else [arm.strategy for arm in comparison.arms]
    strategies += [] if confirmation is None else [one.strategy for one in confirmation.plan.candidates]
    used = set(config.space.dimensions).union(*(strategy.changed() for strategy in strategies))
    return [knob for knob in PLAIN.knobs() if knob in used]


def _metrics_named(
    config: StudyConfig, comparison: Comparison | None, confirmation: Confirmation | None
) -> list[str]:
    named = list(config.front_metrics)
    if comparison is not None:
        named += comparison.metrics
    if confirmation is not None:
        for look in confirmation.looks[-1:]:
            named += [bounds.requirement.metric for one in look.results for bounds in one.verdict.bounds]
    return list(dict.fromkeys(named))


def _guards(config: StudyConfig, baseline: Baseline | None) -> list[dict[str, Any]]:
    """Each guard, and the value that may not be passed; None before the baseline is known."""
    found = []
    for guard in config.guards:
        limit = None if isinstance(guard, MaxDrop) else guard.floor
        text = f"{guard.metric} not worse than {limit:g}" if limit is not None else ""
        if isinstance(guard, MaxDrop):
            text = f"{guard.metric} at most {guard.max_drop:g} worse than the baseline"
            usual = None if baseline is None else valued(baseline.metrics, guard.metric)
            down = 1 if guard.metric in LOWER_IS_BETTER else -1
            limit = None if usual is None else usual + down * guard.max_drop
        found.append({"metric": guard.metric, "text": text, "limit": limit})
    return found


def _baseline(study: Study, baseline: Baseline | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    names = study.config.front_metrics
    return {
        "strategy": in_words(study.config.baseline_strategy),
        "mean": _rounded(baseline.metrics, names),
        "sd": _rounded(baseline.sd, names),
        "seeds": [
            {"seed": seed, "metrics": _rounded(report.metrics, names)}
            for seed, report in zip(baseline.seeds, baseline.reports, strict=True)
        ],
        "exposure": sum(report.exposure for report in baseline.reports) / len(baseline.reports),
        "notes": diagnoses(notes_on_baseline(baseline, study.config, study.minority)),
    }


def _trials(
    study: Study, found: Front, baseline: Baseline | None, chosen: int | None, *, anonymous: bool
) -> list[dict[str, Any]]:
    """Every trial, by number; where there are many, knobs that are off are left out."""
    judged = verdicts(study)
    names = study.config.front_metrics

    def told(trial: StudyTrial, group: str) -> dict[str, Any]:
        report, failure = trial.report, trial.failure
        said = judged.get(trial.number)
        return {
            "number": trial.number,
            "group": group,
            "strategy": in_words(trial.strategy),
            "knobs": {name: round(value, 4) for name, value in trial.strategy.changed().items()},
            "metrics": {} if report is None else _rounded(report.metrics, names),
            "exposure": None if report is None else round(report.exposure, 4),
            "seconds": None if report is None else round(report.seconds),
            "broken": [metric for metric, violation in trial.violations.items() if violation > 0],
            "notes": diagnoses(notes(trial, baseline, study.config, study.minority)),
            "failure": None if failure is None else _why(failure, anonymous=anonymous),
            "verdict": None if said is None else said.result.verdict.outcome,
            "chosen": trial.number == chosen,
        }

    all_of_them = [told(trial, group) for group, trials in vars(found).items() for trial in trials]
    return sorted(all_of_them, key=lambda one: int(one["number"]))


def _why(failure: TrialFailure, *, anonymous: bool) -> str:
    """Why there is no result; the reason itself may name files."""
    reason = failure.reason.strip().splitlines()
    return failure.kind if anonymous or not reason else f"{failure.kind}: {reason[-1]}"


def _rounded(metrics: Metrics, names: Sequence[str]) -> dict[str, float | None]:
    return {name: None if (value := valued(metrics, name)) is None else round(value, 5) for name in names}


def _knobs(config: StudyConfig) -> list[dict[str, Any]]:
    """What was searched: name, and the least and the highest value."""
    known = {knob: dimension.ends() for knob, dimension in config.space.dimensions.items()}
    return [
        {"name": knob, "low": min(ends), "high": max(ends)}
        for knob, ends in known.items()
        if min(ends) < max(ends)
    ]


def _curves(study: Study, files: RunFiles, found: Front, baseline: Baseline | None) -> dict[str, Any]:
    """Of the deciding metric, and of what is guarded first."""
    metrics = list(study.config.shown_metrics[:2])
    judged = verdicts(study)
    others = [*found.dominated, *found.infeasible, *found.stopped]
    important = [*found.best, *(trial for trial in others if trial.number in judged)]
    shown = with_curves(important, others, MOST_CURVES)
    usual = [] if baseline is None else [files.curve(report) for report in baseline.reports]
    curves = {trial.number: files.curve(trial.report) for trial in shown if trial.report is not None}
    return {
        "metrics": metrics,
        "baseline": {metric: band(usual, metric) for metric in metrics} if usual else {},
        "trials": {
            number: {metric: line(curve, metric) for metric in metrics} for number, curve in curves.items()
        },
    }


def _comparison(study: Study) -> Comparison | None:
    """The last finished one, of the metrics that a table shows."""
    if COMPARISON not in study.experiments():
        return None
    stored = study.experiment(COMPARISON).conclusions[-1:]
    if not stored:
        return None
    return unpacked(Conclusion, stored[0]).read().with_whole_images(study.config.shown_metrics)


def _arms(comparison: Comparison) -> dict[str, Any]:
    return {
        "reference": comparison.reference,
        "deciding": comparison.deciding,
        "metrics": list(comparison.metrics),
        "caption": caption(comparison),
        "arms": [
            {
                "name": arm.name,
                "differs": arm.differs,
                "details": details(arm),
                "strategy": in_words(arm.strategy),
                "metrics": {
                    metric: {
                        "mean": measured.mean.value,
                        "interval": measured.mean.interval,
                        "gain": None if measured.gain is None else measured.gain.value,
                        "values": measured.values,
                    }
                    for metric, measured in arm.measured.items()
                },
            }
            for arm in comparison.arms
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "differences": {
                    metric: {"value": estimate.value, "interval": estimate.interval}
                    for metric, estimate in pair.differences.items()
                },
            }
            for pair in comparison.pairs
        ],
    }


def _judged(confirmation: Confirmation | None, where: Path | str) -> dict[str, Any] | None:
    if confirmation is None or not confirmation.looks:
        return None
    look, plan = confirmation.looks[-1], confirmation.plan
    return {
        "name": confirmation.experiment,
        "look": look.number,
        "looks": plan.looks.looks,
        "alpha": plan.settings.alpha,
        "candidates": [_candidate(result) for result in look.results],
        "sentences": sentences(confirmation, str(where)),
    }


def _candidate(result: Result) -> dict[str, Any]:
    return {
        "name": result.candidate.name,
        "strategy": in_words(result.candidate.strategy),
        "outcome": result.verdict.outcome,
        "seeds": asdict(result.seeds),
        "reasons": result.verdict.reasons,
        "rows": [
            {
                "metric": bounds.requirement.metric,
                "baseline": result.baseline.get(bounds.requirement.metric),
                "candidate": result.means.get(bounds.requirement.metric),
                "gain": bounds.requirement.sign * bounds.gain,
                "asked": bounds.requirement.sign * bounds.requirement.margin,
                "bound": bounds.requirement.sign * bounds.lower,
                "upper": bounds.requirement.sign * bounds.upper,
                "against_baseline": bounds.requirement.against_baseline,
                "holds": bounds.lower >= bounds.requirement.margin,
            }
            for bounds in result.verdict.bounds
        ],
    }


def _provenance(folder: StudyFolder, *, anonymous: bool) -> dict[str, Any]:
    """When, with what and from what it was made, and the commands that make it again."""
    known, path = folder.provenance, folder.study_yaml
    request = "" if anonymous else path.read_text()
    return {
        "created": known.created,
        "python": known.python,
        "versions": known.versions,
        "commit": None if anonymous else known.git_sha,
        "data": known.data_fingerprint,
        "request": request,
        "commands": ["rarecall search study.yaml", "rarecall confirm runs/NAME", "rarecall export runs/NAME"],
    }
