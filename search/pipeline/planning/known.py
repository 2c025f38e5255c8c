"""How long a run takes: by runs of the same kind, of a probe or of an earlier study in the folder of studies.

Of a study its seconds per step carry over to more steps; a probe also tells a run's start and end apart.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from search.pipeline.allotting import least
from search.pipeline.opening import shown
from search.record.folder import StudyFolder
from search.record.stored import packed, unpacked
from search.record.study import Study
from search.request.computing.resources import Resources
from search.request.config import StudyConfig
from spaces.errors import RarecallError, RunError
from spaces.frozen import Frozen
from trainables.contract.trial import TrialReport

PROBES = ".probes"  # in the folder of studies: a file for each kind of run
PROBED_EPOCHS = 3  # the first, one like all others, and the last with what follows it


@dataclass(frozen=True)
class Known:
    """How long a run of a study takes.

    Attributes:
        run_s: Seconds.
        by: Who said so: a probe, or an earlier study, by name.
        created: When that was made; ISO 8601, UTC.
        resources: What each run had.
    """

    run_s: float
    by: str
    created: str
    resources: Resources


class Probe(Frozen):
    """What a probe has measured.

    Attributes:
        created: When; ISO 8601, UTC.
        seconds: Of each epoch, from the moment that a run had a worker until its result was there.
        at_once: How many runs were made at the same time.
        resources: What each had.
    """

    created: str
    seconds: tuple[float, ...]
    at_once: int
    resources: Resources

    def run_s(self, epochs: int) -> float | None:
        """Seconds of a run of so many epochs; None if it was too short to say so."""
        if epochs == len(self.seconds):
            return sum(self.seconds)
        if len(self.seconds) < PROBED_EPOCHS:
            return None
        first, each, last = self.seconds
        return first + (epochs - 2) * each + last if epochs > 1 else first + last - each

    def keep(self, config: StudyConfig, runs: Path) -> None:
        """Write it for studies whose runs are of the same kind, in place of an older one."""
        path = _probe_file(config, runs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(packed(self, indent=2) + "\n")


def occupied(config: StudyConfig, known: Known | None) -> Resources:
    """What a run of the study occupies, as far as it is known."""
    return least(config) if known is None else known.resources


def known(config: StudyConfig, runs: Path) -> Known | None:
    """What the newest probe or study in the folder of studies says of runs of this study's kind.

    Raises:
        RunError: What a probe has left is damaged.
    """
    found = [*_by_probe(config, runs), *_by_studies(config, runs)]
    return max(found, key=lambda one: one.created, default=None)


def _by_probe(config: StudyConfig, runs: Path) -> Iterator[Known]:
    path = _probe_file(config, runs)
    if not path.is_file():
        return
    try:
        probe = unpacked(Probe, path.read_text(errors="replace"), str(path))
    except RunError as error:
        raise RunError(error.message, "remove it, or measure anew: rarecall check STUDY --probe") from None
    run_s = probe.run_s(config.train.epochs)
    if run_s is not None:
        by = f"a probe of {probe.created[:10]}, {probe.at_once} at once"
        yield Known(run_s, by, probe.created, probe.resources)


def _by_studies(config: StudyConfig, runs: Path) -> Iterator[Known]:
    for path in sorted(runs.glob("*/study.yaml")):
        folder = StudyFolder(path.parent)
        try:
            study, created = folder.open("look"), folder.provenance.created
        except RarecallError:  # a newer version's, or damaged: whoever opens it is told; here it says nothing
            continue
        found = step_seconds(reports_of(study)) if _kind(study.config) == _kind(config) else None
        if found is not None:
            yield Known(found * config.train.steps, shown(path.parent), created, study.resources)


def _probe_file(config: StudyConfig, runs: Path) -> Path:
    kind = hashlib.sha256(json.dumps(_kind(config), sort_keys=True).encode()).hexdigest()[:16]
    return runs / PROBES / f"{kind}.json"


def _kind(config: StudyConfig) -> dict[str, object]:
    """What decides how long a step takes, but for the machine."""
    whole = config.model_dump(mode="json", include={"task", "data", "train", "resources"})
    for free in ("steps", "lr", "lr_final", "weight_decay", "patience"):
        whole["train"].pop(free)
    return whole


def reports_of(study: Study) -> list[TrialReport]:
    """Of all that a study has finished."""
    found = [trial.report for trial in [*study.baseline_trials(), *study.trials()]]
    for name in study.experiments():
        found += [
            run.outcome for run in study.experiment(name).runs() if isinstance(run.outcome, TrialReport)
        ]
    return [report for report in found if report is not None]


def step_seconds(reports: Iterable[TrialReport]) -> float | None:
    """The median; None if nothing has finished."""
    found = [report.seconds / report.steps for report in {one.key: one for one in reports}.values()]
    return median(found) if found else None
