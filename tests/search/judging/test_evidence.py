from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_predictions import drawn_classifications, drawn_detections
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import report_of

from search.judging.measured import effective_sources, identical_runs, limited_images, run_replicates
from search.judging.statistics.bounds import Floats
from search.judging.statistics.jackknife import UnmeasurableWithout, split_noise
from spaces.strategy import NAMED
from trainables.contract.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    load_predictions,
    restricted,
)
from trainables.contract.tasks import TASKS
from trainables.contract.trial import DataSpec, TrainSpec, TrialSpec
from trainables.evaluation.classification import classification_metrics
from trainables.evaluation.detection import detection_metrics

SEEDS = st.integers(0, 2**32 - 1)
DECIMALS = st.sampled_from([1, 2, 7])  # of scores: from many ties to none


@settings(max_examples=25)
@given(seed=SEEDS, decimals=DECIMALS, threshold=st.none() | st.floats(0, 0.6))
def test_replicates_of_a_detector_are_its_metrics_on_each_restricted_split(
    seed: int, decimals: int, threshold: float | None
) -> None:
    predictions = drawn_detections(seed, decimals=decimals)
    metrics = [*TASKS["detection"].metrics, "ap50/common", "recall/rare"]
    found = run_replicates(predictions, metrics, threshold=threshold)
    assert found.keys() == set(metrics)
    whole = detection_metrics(predictions, threshold)
    for i, source in enumerate(sorted(set(predictions.source))):
        plain = detection_metrics(restricted(predictions, predictions.source != source), threshold)
        for metric in metrics:
            assert found[metric].whole == whole[metric]
            assert found[metric].sources[i] == source
            assert found[metric].without[i] == pytest.approx(plain[metric], abs=1e-12)


@given(seed=SEEDS, decimals=DECIMALS)
def test_replicates_of_a_classifier_are_its_metrics_on_each_restricted_split(
    seed: int, decimals: int
) -> None:
    predictions = drawn_classifications(seed, decimals=decimals)
    metrics = [*TASKS["classification"].metrics, "recall/common", "f1/rare"]
    found = run_replicates(predictions, metrics, threshold=None)
    for i, source in enumerate(sorted(set(predictions.source))):
        plain = classification_metrics(restricted(predictions, predictions.source != source))
        for metric in metrics:
            assert found[metric].without[i] == pytest.approx(plain[metric], abs=1e-12)


def test_on_the_whole_split_they_are_the_report_of_a_real_run(tmp_path: Path) -> None:
    spec = TrialSpec(
        task="classification",
        strategy=NAMED["weighted"],
        data=DataSpec(source="demo:digits", minority=("1", "8", "9")),
        train=TrainSpec(model="small_cnn", imgsz=8, steps=30, eval_every=15),
        seed=0,
        split="test",
    )
    report = report_of(spec, tmp_path)
    stored = load_predictions(tmp_path / "result" / "predictions.npz")
    found = run_replicates(stored, TASKS["classification"].metrics, threshold=None)
    for metric in TASKS["classification"].metrics:
        assert found[metric].whole == pytest.approx(report.metrics[metric], abs=1e-9)
    assert found["accuracy"].sources == tuple(sorted(set(stored.source.tolist())))


def test_a_rare_class_of_one_source_is_an_error_that_names_metric_and_source() -> None:
    predictions = drawn_classifications(0)
    alone = replace(predictions, label=(predictions.source == "s03").astype(int))
    with pytest.raises(UnmeasurableWithout, match="without source 's03': minority_recall is None"):
        run_replicates(alone, ["accuracy", "minority_recall"], threshold=None)


def test_a_source_without_a_rare_object_gives_no_degree_of_freedom() -> None:
    label = np.array([1] * 14 + [0] * 26)  # the rare class lives in 7 of 20 sources
    predictions = ClassificationPredictions.untouched(
        split="test",
        class_names=np.array(["common", "rare"]),
        minority=np.array([1]),
        image=np.array([str(i) for i in range(40)]),
        source=np.array([str(i // 2) for i in range(40)]),
        label=label,
        logits=np.random.default_rng(0).normal(size=(40, 2)),
        weight=np.ones(40),
    )
    replicates = run_replicates(predictions, ["minority_recall", "accuracy"], threshold=None)
    recall, accuracy = (split_noise([replicates[metric]]) for metric in ("minority_recall", "accuracy"))
    found = (predictions.logits.argmax(axis=1) == label)[:14]
    by_hand = [found.mean() - np.delete(found, [2 * i, 2 * i + 1]).mean() for i in range(7)]
    assert recall.variance == pytest.approx(19 / 20 * np.square(by_hand).sum())
    assert recall.df == np.count_nonzero(by_hand) - 1
    assert recall.df <= 6 < accuracy.df


@pytest.mark.parametrize(
    ("metric", "number"),
    [
        # Of the rare class the sources hold 4, 2, 2 and 0; of `common` 1, 1, 1 and 13.
        pytest.param("minority_recall", 64 / 24, id="the minority's objects"),
        pytest.param("map50_95", 64 / 24, id="a mean over classes hangs on the minority's"),
        pytest.param("deployed/minority_recall", 64 / 24, id="whatever stands before the slash"),
        pytest.param("ap50/common", 256 / 172, id="of one class its own"),
        pytest.param("recall/rare", 64 / 24, id="of the rare class its own"),
    ],
)
def test_effective_sources_of_a_detector_by_hand(metric: str, number: float) -> None:
    of_source = [(1, [4, 2, 2, 0]), (0, [1, 1, 1, 13])]
    true_image = np.concatenate([np.repeat(np.arange(4), counts) for _, counts in of_source])
    true_class = np.concatenate([np.full(sum(counts), of) for of, counts in of_source])
    predictions = replace(
        drawn_detections(0),
        image=np.array(list("abcd")),
        source=np.array(["s2", "s0", "s1", "s3"]),
        true_image=true_image,
        true_class=true_class,
    )
    assert effective_sources(predictions, metric) == pytest.approx(number)


@pytest.mark.parametrize(
    ("metric", "number"),
    [
        pytest.param("minority_recall", 64 / 40, id="the minority's images"),
        pytest.param("tuned/macro_f1", 64 / 40, id="a mean over classes hangs on the minority's"),
        pytest.param("recall/common", 2.0, id="of one class its own"),
        pytest.param("accuracy", 16**2 / 136, id="an accuracy counts every image"),
        pytest.param("tuned/accuracy", 16**2 / 136, id="tuned or not"),
        pytest.param("calibrated/nll", 16**2 / 136, id="as does the likelihood"),
    ],
)
def test_effective_sources_of_a_classifier_by_hand(metric: str, number: float) -> None:
    # The first source has 6 rare images and 4 common ones, the second 2 and 4.
    label = np.array([1] * 6 + [0] * 4 + [1] * 2 + [0] * 4)
    predictions = replace(
        drawn_classifications(0), label=label, source=np.array(["slide"] * 10 + ["another"] * 6)
    )
    assert effective_sources(predictions, metric) == pytest.approx(number)


def test_a_slide_with_most_of_the_rare_images_leaves_few_degrees_of_freedom() -> None:
    predictions = drawn_classifications(0)
    rare = np.flatnonzero(predictions.label == 1)
    source = predictions.source.copy()
    source[rare[:8]] = "s00"
    replicates = run_replicates(replace(predictions, source=source), ["minority_recall"], threshold=None)
    counts = np.array([np.sum(source[rare] == one) for one in np.unique(source)], dtype=float)
    by_hand = counts.sum() ** 2 / np.square(counts).sum() - 1
    assert by_hand < 1.2
    assert split_noise([replicates["minority_recall"]]).df == pytest.approx(by_hand)


def test_runs_that_predict_the_same_to_the_last_digit_are_found() -> None:
    one, other = drawn_detections(0), drawn_detections(1)
    copy = replace(one, pred_score=one.pred_score.copy())
    score = one.pred_score.copy()
    score[-1] = np.nextafter(score[-1], 0)
    nearly = replace(one, pred_score=score)
    assert identical_runs([one, other, copy, nearly, copy]) == [(0, 2), (0, 4), (2, 4)]
    by_stem = replace(copy, image=np.array([name.rpartition("/")[2] + "_" for name in copy.image]))
    assert identical_runs([one, by_stem]) == [(0, 1)]  # runs of before version 4 beside later ones
    images = [drawn_classifications(seed) for seed in (0, 1, 0)]
    assert identical_runs(images) == [(0, 2)]
    assert identical_runs([]) == []


@pytest.mark.parametrize(
    ("threshold", "limited"),
    [
        pytest.param(0.6, 0, id="the limit cut below the threshold"),
        pytest.param(0.5, 1, id="the last that was kept lies on the threshold"),
        pytest.param(0.2, 2, id="two images at their limit"),
        pytest.param(0.0, 2, id="an image with fewer predictions has no more"),
    ],
)
def test_images_where_the_limit_decides_recall(threshold: float, limited: int) -> None:
    predictions = replace(
        drawn_detections(0),
        pred_image=np.array([4, 7, 4, 7, 1]),
        pred_score=np.array([0.9, 0.8, 0.5, 0.25, 0.1], dtype=np.float32),
        max_det=2,
    )
    assert limited_images(predictions, threshold) == limited


def test_without_predictions_no_image_is_limited() -> None:
    nothing = restricted(drawn_detections(0), np.zeros(36, dtype=bool))
    assert limited_images(nothing, 0.0) == 0


def detections(truth: dict[str, Floats], skill: float, rng: np.random.Generator) -> DetectionPredictions:
    """A detector that scores objects by their ease; all detectors meet the same, and the same phantoms."""
    ease = np.concatenate([truth["ease"] + skill, truth["false"]])
    score = 1 / (1 + np.exp(-ease - 0.4 * rng.normal(size=len(ease))))
    order = np.argsort(-score)
    n, n_false = len(truth["ease"]), len(truth["false"])
    return DetectionPredictions(
        split="test",
        class_names=np.array(["cluster"]),
        minority=np.array([0]),
        image=np.arange(30).astype(str),
        source=np.arange(30).astype(str),
        size=np.full((30, 2), 512),
        pred_image=np.concatenate([truth["image"], truth["false_image"]])[order].astype(int),
        pred_class=np.zeros(n + n_false, dtype=int),
        pred_score=score[order],
        pred_box=np.zeros((n + n_false, 4)),
        pred_match=np.repeat((order < n)[:, None], 10, axis=1),
        pred_ignored=np.zeros(n + n_false, dtype=bool),
        true_image=truth["image"].astype(int),
        true_class=np.zeros(n, dtype=int),
        true_box=np.zeros((n, 4)),
        max_det=300,
        conf=0.0,
        iou=0.7,
    )


@pytest.mark.slow
def test_the_jackknife_tells_the_error_of_a_detectors_gain_on_fresh_test_splits() -> None:
    metrics = ("minority_recall", "minority_ap50")
    rng = np.random.default_rng(0)
    gains, variances = [], []
    for _ in range(150):
        of_source = 0.5 * rng.normal(size=30)
        image = np.sort(rng.integers(0, 30, 60)).astype(float)
        truth = {
            "image": image,
            "ease": of_source[image.astype(int)] + rng.normal(size=60),
            "false_image": rng.integers(0, 30, 120).astype(float),
            "false": rng.normal(size=120) - 1.5,
        }
        candidate, baseline = (
            run_replicates(detections(truth, skill, rng), metrics, threshold=0.5) for skill in (0.5, 0.0)
        )
        gains.append([candidate[metric].whole - baseline[metric].whole for metric in metrics])
        variances.append([split_noise([candidate[m]], [baseline[m]]).variance for m in metrics])
    # 150 splits tell an sd to 6 %.
    assert np.sqrt(np.mean(variances, axis=0)) == pytest.approx(np.std(gains, axis=0), rel=0.2)
