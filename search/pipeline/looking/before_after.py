"""The two runs that a report sets side by side: one of the baseline, and one of the candidate."""

from dataclasses import dataclass
from pathlib import Path

from search.judging.choosing import recommended
from search.judging.confirmation import latest
from search.record.experiments import BASELINE_ARM
from search.record.folder import StudyFolder
from search.record.study import Study
from trainables.contract.predictions import MERGED_FILE, PREDICTIONS_FILE, Predictions, load_predictions
from trainables.contract.trial import TrialReport


@dataclass(frozen=True)
class BeforeAfter:
    """A run of the baseline and one of the candidate, measured on the same images.

    Attributes:
        name: Of the candidate, e.g. `trial 3`.
        split: That both were measured on.
        reports: Of the two.
        files: Folders of what they have left.
    """

    name: str
    split: str
    reports: tuple[TrialReport, TrialReport]
    files: tuple[Path, Path]

    @property
    def whole_images(self) -> bool:
        """Whether what was found on tiles is there merged, too."""
        return all((folder / MERGED_FILE).is_file() for folder in self.files)

    def predictions(self) -> tuple[Predictions, Predictions]:
        """Of the two; of whole images where there are such.

        Raises:
            RunError: A file is damaged.
        """
        name = MERGED_FILE if self.whole_images else PREDICTIONS_FILE
        one, other = (load_predictions(folder / name) for folder in self.files)
        return one, other


def before_after(folder: StudyFolder, study: Study) -> BeforeAfter | None:
    """The first seeds of the last confirmation's best candidate and its baseline, else of the search.

    None if there is no candidate, or the files of one are gone.
    """
    found = _confirmed(study) or _searched(study)
    if found is None:
        return None
    name, split, one, other = found
    files = folder.files.result(one.key), folder.files.result(other.key)
    if files[0] is None or files[1] is None:
        return None
    if not all((folder / PREDICTIONS_FILE).is_file() for folder in files if folder is not None):
        return None
    return BeforeAfter(name, split, (one, other), (files[0], files[1]))


def _confirmed(study: Study) -> tuple[str, str, TrialReport, TrialReport] | None:
    confirmation = latest(study)
    if confirmation is None or not confirmation.looks:
        return None
    first: dict[str, TrialReport] = {}
    for run in study.experiment(confirmation.experiment).runs():
        if isinstance(run.outcome, TrialReport):
            first.setdefault(run.arm, run.outcome)
    name = confirmation.looks[-1].leading.candidate.name
    if BASELINE_ARM not in first or name not in first:
        return None
    return name, "test", first[BASELINE_ARM], first[name]


def _searched(study: Study) -> tuple[str, str, TrialReport, TrialReport] | None:
    usual = next((trial.report for trial in study.baseline_trials() if trial.report is not None), None)
    best = recommended(study.trials(), study.config, study.baseline())
    if usual is None or best is None or best.trial.report is None:
        return None
    return f"trial {best.trial.number}", "val", usual, best.trial.report
