"""`rarecall fuse`: pairs of a study's models ranked and kept, and confirmed by number."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from in_process import config
from matched_boxes import drawn, with_matches
from reports import report_with
from rich.console import Console
from tiled_data import GRID, draw_tiled

from search.cli.main import main
from search.judging.choosing import choose_merging
from search.judging.confirmation import Asked, ConfirmPlan, PlannedCandidate
from search.pipeline.fusing import fuse, stored_fusion
from search.record.folder import StudyFolder
from search.record.study import Study
from spaces.errors import UsageError
from spaces.strategy import PLAIN, Strategy
from trainables.contract.predictions import PREDICTIONS_FILE, DetectionPredictions, save_predictions
from trainables.contract.trial import FusionSpec, Merging, TrialReport
from trainables.data.boxes.data_set import load_detection
from trainables.data.boxes.listed import BoxData
from trainables.detector.measuring.wholes import measure_whole_images, whole_images
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.whole_images import merged

DETECTOR = {
    "task": "detection",
    "data": "/tiles/data.yaml",
    "train": {"model": "yolo_tiny.yaml", "steps": 20, "eval_every": 5},
    "minority": ["cluster"],
    "space": {"sampler_power": [0.0, 1.0]},
    "baseline": {"strategy": "plain", "seeds": 1},
}


def finished(study: Study, folder: StudyFolder, strategy: Strategy, seed: int, drawn_by: int) -> str:
    """A run's predictions where a search leaves them; its key."""
    key = study.config.spec(strategy, study.config.data_spec(("cluster",)), seed=seed).key
    result = folder.files.root / key / "checkpoint_000001"
    result.mkdir(parents=True)
    save_predictions(result / "predictions.npz", drawn(drawn_by))
    return key


@pytest.fixture
def searched(tmp_path: Path) -> StudyFolder:
    """A study whose baseline and two trials have predicted."""
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(config(**DETECTOR), "fingerprint", ["cluster"])
    key = finished(study, folder, PLAIN, 0, 1)
    study.tell_baseline(study.add_baseline(0), report_with(detection_metrics(drawn(1)), key=key))
    for number in (2, 3):
        trial = study.ask(0, lambda: 0.0)
        key = finished(study, folder, trial.strategy, trial.seed, number)
        report = report_with(detection_metrics(drawn(number)), key=key, seconds=5.0)
        study.tell(trial.number, report, {"map50_95": -0.1, "minority_ap50": -0.1})
    study.flush()
    return folder


def test_all_pairs_are_ranked_and_kept(searched: StudyFolder) -> None:
    fused = fuse(searched, Console(file=io.StringIO()))
    study, found = fused.study, fused.found
    assert len(found) == 3 * 2 * 2  # of three models, with and without suppression
    assert {one.majority for one in found} == {"baseline", *(f"trial {t.number}" for t in study.trials())}
    assert stored_fusion(searched.path, 4) == found[4]
    with pytest.raises(UsageError, match="there are 12"):
        stored_fusion(searched.path, 12)


def test_the_command_shows_them_and_what_to_type_next(
    searched: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["fuse", str(searched.path), "--json"])
    said = capsys.readouterr()
    shown = json.loads(said.out)
    assert len(shown) == 12  # whatever the table shows
    assert code == (0 if shown[0]["feasible"] else 1)
    assert main(["fuse", str(searched.path)]) == code
    assert f"rarecall confirm {searched.path} --fresh --fusion 0" in capsys.readouterr().out


def on_tiles(data: BoxData, seed: int) -> DetectionPredictions:
    """What a model that sees every labelled piece, some pixels off and not all, finds on val's tiles."""
    tiles = data.splits["val"]
    image = np.repeat(np.arange(len(tiles)), [len(tile.classes) for tile in tiles])
    label = np.concatenate([tile.classes for tile in tiles])
    centred = np.concatenate([tile.boxes for tile in tiles]).astype(np.float64) * GRID.size
    truth = np.hstack([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2])
    rng = np.random.default_rng(seed)
    seen = rng.random(len(truth)) < 0.8
    box = truth[seen] + rng.normal(0, 1.5, (seen.sum(), 4))
    score = rng.beta(4, 2, len(box))
    return with_matches(image[seen], label[seen], score, box, image, label, truth, len(tiles))


def test_whole_images_decide_and_the_best_are_merged_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    path = draw_tiled(tmp_path)
    data = load_detection(path)
    layout = whole_images(data, data.splits["val"])
    folder = StudyFolder(tmp_path / "study")
    asked = config(**DETECTOR | {"data": str(path)})
    study = folder.create(asked, data.fingerprint, ["cluster"])

    def run(strategy: Strategy, seed: int) -> TrialReport:
        key = finished(study, folder, strategy, seed, 1)
        tiles, files = on_tiles(data, seed), folder.files.root / key / "checkpoint_000001"
        save_predictions(files / PREDICTIONS_FILE, tiles)
        metrics = detection_metrics(tiles) | measure_whole_images(tiles, data, "core", 0.5, files)
        return report_with(metrics, key=key)

    study.tell_baseline(study.add_baseline(0), run(PLAIN, 0))
    for _ in range(2):
        trial = study.ask(0, lambda: 0.0)
        study.tell(trial.number, run(trial.strategy, trial.seed), {"map50_95": -0.1, "minority_ap50": -0.1})
    study.flush()

    fused = fuse(folder, Console(file=io.StringIO()))
    own = choose_merging(study)
    assert fused.merging == own
    ways = Counter(one.merging for one in fused.found)
    assert ways == {own: 12} | {way: 10 for way in get_args(Merging) if way != own}
    best = fused.found[0]
    assert [one.metrics["merged/minority_recall"] for one in fused.found if one.feasible] == sorted(
        (one.metrics["merged/minority_recall"] for one in fused.found if one.feasible), reverse=True
    )
    seeds = {"baseline": 0} | {f"trial {one.number}": one.seed for one in study.trials()}
    assert best.merging is not None
    minority = merged(on_tiles(data, seeds[best.minority]), layout, best.merging)
    assert best.metrics["merged/minority_ap50"] == detection_metrics(minority)["minority_ap50"]
    threshold = detection_metrics(on_tiles(data, 0))["threshold"]
    assert threshold is not None
    of_baseline = detection_metrics(merged(on_tiles(data, 0), layout, own), threshold)
    assert fused.baseline.metrics["merged/map50_95"] == of_baseline["map50_95"]
    main(["fuse", str(folder.path)])
    assert f"the baseline is merged by {own}" in capsys.readouterr().out


def test_a_fusion_is_confirmed_by_its_own_way_of_merging() -> None:
    study = config(**DETECTOR)
    candidate = PlannedCandidate(
        name="fusion 3", strategy=PLAIN, fusion=FusionSpec(majority=PLAIN), merging="wbf"
    )
    settings = Asked(fusions=(3,), seeds=2, baseline_seeds=2, one_look=True).settings(study)
    plan = ConfirmPlan(settings=settings, candidates=(candidate,), merging="nms")
    runs = plan.wanted("confirm/1", study, study.data_spec(("cluster",)), 1, ["fusion 3"])
    assert {(run.arm, run.spec.data.merging) for run in runs} == {("fusion 3", "wbf"), ("baseline", "nms")}


def test_nothing_to_fuse_is_said(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.create(config(**DETECTOR), "fingerprint", ["cluster"]).flush()
    with pytest.raises(UsageError, match="0 finished models"):
        fuse(folder, Console(file=io.StringIO()))
    with pytest.raises(UsageError, match="nothing was fused"):
        stored_fusion(folder.path, 0)
    toy = StudyFolder(tmp_path / "toy")
    toy.create(config(), "fingerprint", ["rare"]).flush()
    with pytest.raises(UsageError, match="for detection"):
        fuse(toy, Console(file=io.StringIO()))


def test_a_confirmation_trains_both_models_of_a_pair() -> None:
    study = config(**DETECTOR)
    other = FusionSpec(majority=Strategy.from_knobs({"retention": 0.5}), suppress=0.8)
    own = Strategy.from_knobs({"sampler_power": 0.7})
    settings = Asked(fusions=(3,), seeds=2, baseline_seeds=2, one_look=True).settings(study)
    assert settings.finalists == 0
    candidate = PlannedCandidate(name="fusion 3", strategy=own, fusion=other)
    plan = ConfirmPlan(settings=settings, candidates=(candidate,))
    data = study.data_spec(("cluster",))
    runs = plan.wanted("confirm/1", study, data, 1, ["fusion 3"])
    fused = [run.spec for run in runs if run.arm == "fusion 3"]
    assert [(spec.fusion, spec.strategy, spec.epochs) for spec in fused] == [(other, own, 8)] * 2
    assert all(run.spec.fusion is None and run.spec.epochs == 4 for run in runs if run.arm == "baseline")
