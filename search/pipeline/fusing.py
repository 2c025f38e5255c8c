"""Fusing: every finished model of a search beside every other, on what they predicted on val; no training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from search.judging.choosing import choose_merging
from search.judging.fusion import Fusion, Model, Rules, fusions, ranked, together
from search.pipeline.opening import read_study
from search.record.folder import StudyFolder
from search.record.outcomes import Baseline, StudyTrial
from search.record.storage.address import named
from search.record.study import Study
from search.show.common import bar
from spaces.errors import RunError, UsageError
from trainables.contract.predictions import (
    MERGED_FILE,
    PREDICTIONS_FILE,
    DetectionPredictions,
    load_predictions,
)
from trainables.contract.trial import Merging, Metrics
from trainables.data.sources import boxes_of
from trainables.detector.measuring.wholes import whole_images
from trainables.evaluation.whole_images import Layout, merged, merged_metrics

FILE = "fusions.json"  # in the study's folder: what was found last, in its order
FINALISTS = 5  # pairs of which every way of merging is tried
_OTHERS = {way: tuple(other for other in get_args(Merging) if other != way) for way in get_args(Merging)}
_STORED: TypeAdapter[list[Fusion]] = TypeAdapter(list[Fusion])


@dataclass(frozen=True)
class Fused:
    """What was found.

    Attributes:
        study: That was searched.
        found: Pairs, best first.
        baseline: Over its seeds.
        merging: How the baseline's tiles are merged, and first all pairs'; None without whole images.
    """

    study: Study
    found: list[Fusion]
    baseline: Baseline
    merging: Merging | None


def fuse(folder: StudyFolder, console: Console) -> Fused:
    """Rank all pairs of a study's finished models, and keep the ranking in the study's folder.

    Where there are whole images they decide, as in a confirmation. All pairs are merged by the way that is
    best for the baseline, the best of them by every other way, too, unless the study names one. The baseline
    keeps its own best way, so none gains by one that is bad for it.

    Args:
        folder: The study's.
        console: For the bars.

    Raises:
        UsageError: It is no detector's study, has no finished models, or its data are gone or changed.
        RunError: A finished run's predictions are damaged, or the ranking cannot be written.
    """
    study = folder.open("look")
    if study.config.task != "detection":
        raise UsageError(f"fuse: for detection, the study's task is {study.config.task}")
    baseline = study.baseline()
    runs = _runs(study)
    if baseline is None or len(runs) < 2:
        raise UsageError(
            f"{named(folder.path)} has {len(runs)} finished models: nothing to fuse", "search it first"
        )
    wholes = _whole_images(folder, runs[0][1], console)
    models = [_model(folder, name, trial, wholes) for name, trial in runs]
    way, others = None, ()
    if wholes is not None:
        way = choose_merging(study)
        others = _OTHERS[way] if study.config.merging == "auto" else ()
        baseline = Baseline.of([_merged_anew(folder, one, wholes, way) for one in study.baseline_trials()])
        assert baseline is not None
    rules = Rules.of(study.config, baseline.metrics, whole_images=way is not None)
    _check_known(rules, together(models[0], models[1], 0.0, way))
    found = all_pairs(models, rules, way, others, console)
    _store(folder.path / FILE, found)
    folder.keep(FILE)
    return Fused(study, found, baseline, way)


def _check_known(rules: Rules, metrics: Metrics) -> None:
    """Refuse what is not known of a pair.

    Raises:
        UsageError: An objective or a guard hangs on what ships, or on one confidence for both models.
    """
    for name in (*rules.objectives, *(guard.metric for guard in rules.guards)):
        if name not in metrics:
            raise UsageError(f"fuse: '{name}' is not known of a pair of models, and this study decides by it")


def all_pairs(
    models: Sequence[Model], rules: Rules, way: Merging | None, others: Sequence[Merging], console: Console
) -> list[Fusion]:
    """All pairs merged by a way, and the best of them by others, best first.

    Args:
        models: Measured on the same images.
        rules: Of the study.
        way: How tiles are merged; None without whole images.
        others: What is tried with the best pairs, too.
        console: For the bars.
    """
    pairs = [(one, other) for one in models for other in models if one is not other]
    found: list[Fusion] = []
    with bar(console, "fusing pairs") as watch:
        for done, (one, other) in enumerate(pairs, start=1):
            found += fusions(one, other, rules, way)
            watch(done, len(pairs))
    if others:
        merged_anew = list(product(_best_pairs(ranked(found, rules.objectives), models), others))
        with bar(console, "merging the best in other ways") as watch:
            for done, ((one, other), another) in enumerate(merged_anew, start=1):
                found += fusions(one, other, rules, another)
                watch(done, len(merged_anew))
    return ranked(found, rules.objectives)


def _best_pairs(found: Sequence[Fusion], models: Sequence[Model]) -> list[tuple[Model, Model]]:
    """The first pairs of a ranking, each once."""
    named = {model.name: model for model in models}
    pairs = list(dict.fromkeys((one.majority, one.minority) for one in found))[:FINALISTS]
    return [(named[one], named[other]) for one, other in pairs]


def _store(file: Path, found: Sequence[Fusion]) -> None:
    unfinished = file.with_suffix(".tmp")
    try:
        unfinished.write_bytes(_STORED.dump_json(list(found)))
        os.replace(unfinished, file)
    except OSError as error:
        raise RunError(f"{file}: {error.strerror or error}") from error


def stored_fusion(folder: Path, number: int) -> Fusion:
    """A pair that `fuse` has ranked.

    Raises:
        UsageError: There is none of that number, or nothing was fused.
    """
    try:
        found = _STORED.validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"--fusion: nothing was fused in {folder}", f"rarecall fuse {folder}") from None
    except ValidationError as error:
        raise UsageError(f"{folder / FILE}: damaged", f"rarecall fuse {folder}") from error
    chosen = next((one for one in found if one.number == number), None)
    if chosen is None:
        raise UsageError(f"--fusion {number}: there are {len(found)}, from 0", f"rarecall fuse {folder}")
    return chosen


@dataclass(frozen=True)
class _Wholes:
    """The whole images of val.

    Attributes:
        layout: Where their tiles lie.
        stored: How the runs of the search have merged them.
    """

    layout: Layout
    stored: Merging

    def by(self, way: Merging, tiles: DetectionPredictions, files: Path) -> DetectionPredictions:
        """What was found on tiles, merged; as it was stored if it was merged that way."""
        return _detections(files / MERGED_FILE) if way == self.stored else merged(tiles, self.layout, way)


def _whole_images(folder: StudyFolder, trial: StudyTrial, console: Console) -> _Wholes | None:
    """Of a study's val split; None without whole images.

    Args:
        folder: The study's.
        trial: A finished one.
        console: For the bar, while the data are looked at.
    """
    if not (_files(folder, trial) / MERGED_FILE).is_file():
        return None
    data = read_study(folder, console).data
    tiles = boxes_of(data.place, data.pixel_max)
    return _Wholes(whole_images(tiles, tiles.splits["val"]), data.merging)


def _runs(study: Study) -> list[tuple[str, StudyTrial]]:
    """The first seed of the baseline and every finished trial that is one model, by name."""
    runs = [("baseline", trial) for trial in study.baseline_trials() if trial.report is not None][:1]
    runs += [(f"trial {trial.number}", trial) for trial in study.trials() if trial.report is not None]
    return [(name, trial) for name, trial in runs if trial.strategy.division.dual_share == 0]


def _model(folder: StudyFolder, name: str, trial: StudyTrial, wholes: _Wholes | None) -> Model:
    assert trial.report is not None
    files = _files(folder, trial)
    tiles = _detections(files / PREDICTIONS_FILE)
    merge = None if wholes is None else partial(wholes.by, tiles=tiles, files=files)
    return Model(name, trial.strategy, trial.report.seconds, tiles, merge)


def _merged_anew(folder: StudyFolder, trial: StudyTrial, wholes: _Wholes, way: Merging) -> StudyTrial:
    """A finished trial with the metrics that its whole images have by a way of merging."""
    if trial.report is None:
        return trial
    files, metrics = _files(folder, trial), trial.report.metrics
    threshold = metrics["threshold"]
    assert threshold is not None, "val has objects"
    found = merged_metrics(wholes.by(way, _detections(files / PREDICTIONS_FILE), files), threshold)
    return replace(trial, report=trial.report.model_copy(update={"metrics": metrics | found}))


def _files(folder: StudyFolder, trial: StudyTrial) -> Path:
    """Of a finished trial."""
    assert trial.report is not None
    files = folder.files.result(trial.report.key)
    if files is None:
        gone = folder.files.root / trial.report.key
        raise RunError(f"the predictions of a finished run are gone from {gone}, or damaged")
    return files


def _detections(file: Path) -> DetectionPredictions:
    stored = load_predictions(file, "detection")
    assert isinstance(stored, DetectionPredictions)
    return replace(stored, shipped=None)
