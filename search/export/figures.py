"""Pictures of a study for a paper or a slide: from its record and files, to a folder that a person names."""

from pathlib import Path

from search.judging.choosing import recommended
from search.judging.comparison import Conclusion
from search.judging.front import front
from search.record.experiments import COMPARISON
from search.record.folder import StudyFolder
from search.record.outcomes import StudyTrial
from search.record.storage.address import named
from search.record.stored import unpacked
from search.record.study import Study
from search.show.pictures.comparison import comparison_picture, draw_comparison
from search.show.pictures.confusion import confusion_picture, draw_confusion
from search.show.pictures.curves import curves_picture
from search.show.pictures.drawn_curves import draw_curves
from search.show.pictures.drawn_front import draw_front
from search.show.pictures.front import front_picture
from spaces.errors import UsageError
from trainables.contract.predictions import PREDICTIONS_FILE, ClassificationPredictions, load_predictions
from trainables.contract.tasks import TASKS


def draw_study(folder: StudyFolder, study: Study, where: Path, kind: str) -> list[Path]:
    """Draw what there is: the front, its learning curves, a comparison, a classifier's confusion matrices.

    Args:
        folder: The study's.
        study: Its record.
        where: Folder to write to; files of the same names are replaced.
        kind: `png` or `svg`.

    Returns:
        The files, in that order.

    Raises:
        UsageError: Nothing is measured yet, or the folder cannot be written.
        RunError: Predictions are damaged.
    """
    trials, baseline, config = study.trials(), study.baseline(), study.config
    found = front(trials, config.objectives, baseline)
    best = recommended(trials, config, baseline)
    shown = front_picture(found, best, baseline, config)
    if not shown.points and shown.baseline is None:
        raise UsageError(f"nothing is measured yet in {named(folder.path)}", "search it first")
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {where}: {error.strerror or error}") from error
    written = [where / f"front.{kind}"]
    draw_front(shown, written[0])
    curves = curves_picture(found, best, baseline, config, folder.files.curve)
    if curves.panels:
        written.append(where / f"curves.{kind}")
        draw_curves(curves, written[-1])
    if COMPARISON in study.experiments():
        for text in study.experiment(COMPARISON).conclusions[-1:]:
            comparison = unpacked(Conclusion, text).read().with_whole_images(config.shown_metrics)
            written.append(where / f"compare.{kind}")
            draw_comparison(comparison_picture(comparison), written[-1])
    stored = _decisions(folder, study, None if best is None else best.trial)
    if stored:
        written.append(where / f"confusion.{kind}")
        draw_confusion(confusion_picture(config.name, study.minority, stored), written[-1])
    return written


def _decisions(
    folder: StudyFolder, study: Study, best: StudyTrial | None
) -> list[tuple[str, ClassificationPredictions]]:
    """Predictions on val of a classifier: of the first seed of the baseline, and of the recommended trial."""
    if not TASKS[study.config.task].one_class_per_image:
        return []
    trials = [(f"baseline, seed {trial.seed}", trial) for trial in study.baseline_trials()[:1]]
    trials += [] if best is None else [(f"trial {best.number}", best)]
    found = []
    for title, trial in trials:
        files = None if trial.report is None else folder.files.result(trial.report.key)
        if files is not None and (files / PREDICTIONS_FILE).is_file():
            stored = load_predictions(files / PREDICTIONS_FILE, "classification")
            assert isinstance(stored, ClassificationPredictions)
            found.append((title, stored))
    return found
