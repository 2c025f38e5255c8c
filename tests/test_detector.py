import trainables.detector  # noqa: F401  (settles the environment before Ultralytics is imported)

# isort: split
import json
import random
import shutil
import socket
from collections.abc import Callable, Sized
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision.ops import box_iou, sigmoid_focal_loss
from ultralytics import YOLO
from ultralytics.utils import SETTINGS

from spaces.augmentation import Augmentation
from spaces.errors import UsageError
from spaces.loss import Loss
from spaces.sampling import Sampling
from spaces.strategy import BASELINE, Strategy
from trainables.cache import cache_folder
from trainables.detector.criterion import ImbalanceBCE
from trainables.detector.dataset import DrawOrder, TrainingTiles, load_once
from trainables.detector.strategy_run import StrategyRun, resolve_model
from trainables.evaluation.detection import detection_metrics
from trainables.predictions import load_predictions
from trainables.run import run_trial
from trainables.sampling import Draws
from trainables.trial import (
    TRAIN_RECALL,
    DataSpec,
    EpochMetrics,
    TrainSpec,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)

EVERYTHING = Strategy.from_knobs(
    {
        "retention": 0.5,
        "sampler_power": 0.5,
        "max_repeat": 4,
        "focal_gamma": 1.5,
        "alpha_power": 0.5,
        "alpha_cap": 9,
        "augment_minority": 0.5,
        "augment_rest": 0.2,
        "copy_paste": 0.5,
        "mosaic": 0.5,
        "mixup": 0.3,
    }
)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 40 tiles of 64 px: small dark squares, and in each sixth tile a large bright one."""
    root = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for split, count in {"train": 24, "val": 10, "test": 6}.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(100, 140, (64, 64, 3))
            lines = []
            for c, side, light in [(0, 10, 20)] * int(rng.integers(1, 4)) + [(1, 28, 240)] * (i % 6 == 0):
                x, y = rng.integers(0, 64 - side, 2)
                pixels[y : y + side, x : x + side] = light
                lines.append(f"{c} {(x + side / 2) / 64} {(y + side / 2) / 64} {side / 64} {side / 64}")
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / split / f"{split}_{i}.png")
            (root / "labels" / split / f"{split}_{i}.txt").write_text("\n".join(lines))
    described = {split: f"images/{split}" for split in ("train", "val", "test")} | {
        "names": ["cell", "cluster"]
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "data.yaml"


def spec_of(tiles: Path, strategy: Strategy = BASELINE, **more: object) -> TrialSpec:
    train = {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 6, "eval_every": 2} | {
        name: more.pop(name) for name in list(more) if name in TrainSpec.model_fields
    }
    return TrialSpec(
        task="detection",
        strategy=strategy,
        data=DataSpec(source=str(tiles), minority=("cluster",)),
        train=TrainSpec.model_validate(train),
        **{"seed": 0, **more},
    )


class Killed(Exception):
    """Stands for a worker that dies."""


def train(spec: TrialSpec, root: Path, resume: Path | None = None, kill_after: int = 0) -> TrialReport:
    root.mkdir()

    def on_epoch(measured: EpochMetrics) -> None:
        if measured.epoch == kill_after:
            raise Killed

    outcome = run_trial(spec, TrialFolder(root=root, resume=resume), on_epoch)
    assert isinstance(outcome, TrialReport), outcome
    return outcome


def weights_in(root: Path) -> dict[str, torch.Tensor]:
    return torch.load(root / "result" / "weights.pt", weights_only=False)["model"].state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def global_states() -> tuple[object, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


def check_resume(spec: TrialSpec, root: Path) -> TrialReport:
    """A run that is killed after two epochs and resumed elsewhere ends as the one that was left alone."""
    whole = train(spec, root / "whole")
    with pytest.raises(Killed):
        train(spec, root / "killed", kill_after=2)
    shutil.copytree(root / "killed" / "checkpoint", root / "stored")
    resumed = train(spec, root / "resumed", resume=root / "stored")
    assert same(weights_in(root / "whole"), weights_in(root / "resumed"))
    assert resumed.metrics == whole.metrics
    assert resumed.curve == whole.curve
    assert resumed.applied == whole.applied
    assert (resumed.images_seen, resumed.unique_images, resumed.exposure) == (
        whole.images_seen,
        whole.unique_images,
        whole.exposure,
    )
    assert (resumed.restarts, whole.restarts) == (1, 0)
    return whole


def test_killed_and_resumed_is_bit_equal_and_the_receipt_holds(tiles: Path, tmp_path: Path) -> None:
    report = check_resume(spec_of(tiles, EVERYTHING, close_mosaic=0.5), tmp_path)
    applied = report.applied
    assert [applied[f"{group}_images"] for group in ("majority", "minority")] == [20, 4]
    assert applied["images_kept"] == 14
    assert applied["augmented_images"] > 24  # the tiles drawn, and mosaic's partners
    assert applied["boxes_augmented"] > 24 + 6
    assert applied["objects_pasted"] > 0
    assert applied["mixed_steps"] == 3
    assert report.steps == 6
    assert report.images_seen == 24
    assert report.unique_images <= 14
    assert applied["focal_scale"] > 1
    assert applied["alpha"][1] > applied["alpha"][0]
    assert applied["max_det"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("model", ["yolo11n.yaml", "yolo26n.yaml"])
def test_killed_and_resumed_is_bit_equal_with_other_heads(model: str, tiles: Path, tmp_path: Path) -> None:
    check_resume(spec_of(tiles, EVERYTHING, model=model), tmp_path)


def test_same_seed_same_result_other_seed_another_and_nothing_leaks(
    tiles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    threads = torch.get_num_threads()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    states = global_states()

    first = train(spec_of(tiles), tmp_path / "first")
    train(spec_of(tiles, EVERYTHING, seed=1), tmp_path / "other")
    again = train(spec_of(tiles), tmp_path / "again")

    assert global_states() == states
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert same(weights_in(tmp_path / "first"), weights_in(tmp_path / "again"))
    assert first.metrics == again.metrics
    assert not same(weights_in(tmp_path / "first"), weights_in(tmp_path / "other"))
    assert capfd.readouterr() == ("", "")
    assert not list(tiles.parent.rglob("*.cache"))
    assert not list(tiles.parent.rglob("*.npy"))


def test_a_finished_checkpoint_gives_the_result_without_training(tiles: Path, tmp_path: Path) -> None:
    spec = spec_of(tiles, steps=2)
    whole = train(spec, tmp_path / "whole")
    again = train(spec, tmp_path / "again", resume=tmp_path / "whole" / "checkpoint")
    assert same(weights_in(tmp_path / "whole"), weights_in(tmp_path / "again"))
    assert again.metrics == whole.metrics
    assert again.steps == 2


def test_the_test_split_is_measured_once_at_the_threshold_that_val_chose(tiles: Path, tmp_path: Path) -> None:
    report = train(spec_of(tiles, steps=4, split="test"), tmp_path / "t")
    assert report.metrics["threshold"] == report.curve[-1].metrics["threshold"]
    assert report.curve[-1].metrics["support/cluster"] == 2
    assert report.metrics["support/cluster"] == 1
    stored = load_predictions(tmp_path / "t" / "result" / "predictions.npz")
    assert stored.split == "test"
    assert len(stored.image) == 6
    measured = detection_metrics(stored, threshold=report.metrics["threshold"])
    assert report.metrics == measured | {TRAIN_RECALL: report.metrics[TRAIN_RECALL]}


def test_weights_load_in_ultralytics_and_predict_what_was_stored(tiles: Path, tmp_path: Path) -> None:
    train(spec_of(tiles, steps=2), tmp_path / "t")
    stored = load_predictions(tmp_path / "t" / "result" / "predictions.npz")
    model = YOLO(tmp_path / "t" / "result" / "weights.pt")
    image = tiles.parent / "images" / "val" / f"{stored.image[0]}.png"
    limits = {"conf": stored.conf, "iou": stored.iou, "max_det": stored.max_det, "imgsz": 64}
    (found,) = model.predict(image, verbose=False, **limits)
    mine = stored.pred_score[stored.pred_image == 0]
    assert len(mine) > 0
    np.testing.assert_allclose(found.boxes.conf.numpy(), mine[: len(found.boxes)], atol=1e-4)


def test_a_loss_that_is_not_finite_is_a_diverged_trial(tiles: Path, tmp_path: Path) -> None:
    train(spec_of(tiles, steps=2), tmp_path / "sound")
    stored = torch.load(tmp_path / "sound" / "result" / "weights.pt", weights_only=False)
    next(stored["model"].parameters()).data[:] = torch.nan
    torch.save(stored, tmp_path / "poisoned.pt")
    spec = spec_of(tiles, model=str(tmp_path / "poisoned.pt"))
    outcome = run_trial(spec, TrialFolder(root=tmp_path), lambda measured: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "diverged"
    assert "not finite" in outcome.reason


def prepared(tiles: Path, root: Path, strategy: Strategy, **more: object) -> StrategyRun:
    """A run that is set up but not trained."""
    run = StrategyRun(
        spec_of(tiles, strategy, **more), TrialFolder(root=root), load_once(tiles), lambda measured: None
    )
    run._setup_train()
    return run


def uniform(classes: Sized, **recipe: float) -> np.ndarray:
    return np.full(len(classes), 1 / len(classes))


def ones(counts: Sized, **recipe: float) -> np.ndarray:
    return np.ones(len(counts))


@pytest.mark.parametrize(
    ("broken", "stand_in", "knob"),
    [
        pytest.param(
            "trainables.detector.dataset.draw_weights", uniform, "sampler_power", id="uniform draws"
        ),
        pytest.param("trainables.detector.criterion.class_alpha", ones, "alpha_power", id="no class weights"),
    ],
)
def test_a_strategy_that_was_not_applied_fails_by_its_receipt(
    broken: str,
    stand_in: Callable[..., np.ndarray],
    knob: str,
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broken, stand_in)
    outcome = run_trial(spec_of(tiles, EVERYTHING), TrialFolder(root=tmp_path), lambda measured: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "receipt"
    assert f"{knob}: asked 0.5, applied None" in outcome.reason


def test_undersampling_keeps_every_minority_image_and_leaves_val_alone(tiles: Path, tmp_path: Path) -> None:
    run = prepared(tiles, tmp_path, Strategy(sampling=Sampling(retention=0.25)))
    dataset = run.train_loader.dataset
    assert len(dataset) == 4 + 5
    assert dataset.rare.sum() == 4
    assert len(run.test_loader.dataset) == 10
    everything = prepared(tiles, tmp_path, BASELINE).train_loader.dataset
    assert len(everything) == 24


def test_an_image_drawn_twice_is_augmented_twice(tiles: Path, tmp_path: Path) -> None:
    dataset = prepared(tiles, tmp_path, BASELINE).train_loader.dataset
    n = len(dataset)
    once, twice, again = (dataset[position * n + 3]["img"] for position in (0, 1, 0))
    assert torch.equal(once, again)
    assert not torch.equal(once, twice)


def test_only_the_images_asked_for_are_augmented(tiles: Path, tmp_path: Path) -> None:
    plain = prepared(tiles, tmp_path, BASELINE).train_loader.dataset
    minority = prepared(
        tiles, tmp_path, Strategy(augmentation=Augmentation(augment_minority=1.0))
    ).train_loader.dataset
    for image, rare in enumerate(plain.rare):
        same_pixels = np.array_equal(
            plain.get_image_and_label(image)["img"], minority.get_image_and_label(image)["img"]
        )
        assert same_pixels != rare


def test_mosaic_and_mixup_draw_their_partners_with_the_samplers_weights(tiles: Path, tmp_path: Path) -> None:
    strategy = Strategy.from_knobs({"sampler_power": 1.0, "mosaic": 1.0, "mixup": 1.0})
    dataset = prepared(tiles, tmp_path, strategy).train_loader.dataset
    pre_transform, mixup = dataset.mixed.transforms[:2]
    random.seed(0)
    for mixing, partners in ((pre_transform.transforms[0], 3), (mixup, 1)):
        drawn = np.array([mixing.get_indexes() for _ in range(6000 // partners)])  # (n, partners)
        assert drawn.shape[1] == partners
        share = np.bincount(drawn.ravel(), minlength=len(dataset)) / 6000
        np.testing.assert_allclose(share, dataset.weights, atol=0.015)


def test_boxes_that_the_augmentation_loses_are_counted(tiles: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiles.parent, tmp_path / "outside")
    for label in (data / "labels" / "train").glob("*.txt"):
        lines = label.read_text().splitlines()
        if lines[-1].startswith("1 "):  # a tile of the minority gets a box that lies just outside of it
            label.write_text("\n".join(["0 1.004 0.5 0.006 0.2", *lines]))
    strategy = Strategy.from_knobs({"augment_minority": 1.0, "sampler_power": 1.0})
    report = train(spec_of(data / "data.yaml", strategy), tmp_path / "t")
    draws = report.applied["minority_draws"]
    assert draws == report.applied["augmented_images"] > 0
    assert report.applied["boxes_lost"] == draws
    assert (
        3 * draws <= report.applied["boxes_augmented"] <= 5 * draws
    )  # 1 to 3 cells, a cluster, the one outside


def test_boxes_are_counted_alike_when_other_processes_prepare_the_batches(
    tiles: Path, tmp_path: Path
) -> None:
    def counted(workers: int) -> dict[str, int]:
        run = prepared(tiles, tmp_path, EVERYTHING)
        run.args.workers = workers
        for batch in run.get_dataloader("train", 4):
            run.preprocess_batch(batch)
        return dict(run.counts)

    assert counted(0) == counted(2)
    assert counted(0)["boxes_augmented"] > 8


def test_recall_on_the_training_images_is_that_of_the_stored_weights(tiles: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiles.parent, tmp_path / "half_blank")
    for i in (0, 6):  # two of the four clusters cannot be seen
        Image.new("RGB", (64, 64), (120, 120, 120)).save(data / "images" / "train" / f"train_{i}.png")
    strategy = Strategy.from_knobs({"sampler_power": 1.0, "retention": 0.2, "augment_rest": 1.0})
    spec = spec_of(data / "data.yaml", strategy, steps=160, eval_every=80, lr=0.01, split="test")
    report = train(spec, tmp_path / "t")
    model = YOLO(tmp_path / "t" / "result" / "weights.pt")
    found = []
    for image in load_once(data / "data.yaml").splits["train"]:
        for x, y, width, height in image.boxes[image.classes == 1] * 64:
            (predicted,) = model.predict(
                image.path, verbose=False, imgsz=64, conf=report.metrics["threshold"], classes=[1]
            )
            truth = torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
            found.append(bool((box_iou(truth, predicted.boxes.xyxy) >= 0.5).any()))
    assert sorted(found) == [False, False, True, True]
    # Between two scores Ultralytics' recall is interpolated.
    assert report.metrics[TRAIN_RECALL] == pytest.approx(0.5, abs=0.125)


def test_draw_order_follows_the_draws_and_numbers_them_through(tiles: Path) -> None:
    draws = Draws(n=7, per_epoch=10, weights=None, seed=3)
    order = DrawOrder(draws)
    codes = np.array([*order, *order])
    positions, images = np.divmod(codes, 7)
    assert positions.tolist() == list(range(20))
    assert images.tolist() == [*draws.epoch(0), *draws.epoch(1)]
    assert [*DrawOrder(draws, start=1)] == codes[10:].tolist()


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn((2, 50, 2), generator=torch.Generator().manual_seed(0))


def test_class_loss_without_strategy_is_plain_cross_entropy(logits: torch.Tensor) -> None:
    targets = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert torch.equal(ImbalanceBCE(Loss(), torch.ones(2))(logits, targets), plain)


def test_class_loss_is_the_focal_loss_on_hard_targets_at_the_starting_size(logits: torch.Tensor) -> None:
    targets = (logits.flip(1) > 0).float()
    loss = ImbalanceBCE(Loss(focal_gamma=2.0), torch.ones(2))
    first = loss(logits, targets)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    oracle = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2.0)
    assert float(first.sum()) == pytest.approx(float(plain.sum()), rel=1e-5)
    torch.testing.assert_close(first, oracle * (plain.sum() / oracle.sum()))
    scale = loss.scale
    loss(logits * 3, targets)
    assert loss.scale == scale


def test_alpha_weights_the_positives_alone(logits: torch.Tensor) -> None:
    targets = torch.zeros(logits.shape)
    targets[0, 0, 1] = 0.4
    plain = ImbalanceBCE(Loss(), torch.ones(2))(logits, targets)
    weighted = ImbalanceBCE(Loss(alpha_power=0.5), torch.tensor([0.5, 1.5]))(logits, targets)
    expected = plain.clone()
    expected[0, 0, 1] *= 1.5
    torch.testing.assert_close(weighted, expected)


def test_integrations_are_off_in_the_settings_of_this_node() -> None:
    assert Path(SETTINGS.file).is_relative_to(cache_folder())
    assert json.loads(Path(SETTINGS.file).read_text()) == dict(SETTINGS)
    switches = {name: value for name, value in SETTINGS.items() if isinstance(value, bool)}
    assert {"sync", "raytune", "mlflow"} <= set(switches)
    assert not any(switches.values())


def test_models_are_files_on_this_machine_and_never_downloaded() -> None:
    assert Path(resolve_model("yolo_tiny.yaml")).is_file()
    assert resolve_model("yolo11n.yaml") == "yolo11n.yaml"
    for name in ("yolo11n.pt", "yolo11n", "nothing.yaml"):
        with pytest.raises(UsageError, match=r"train\.model"):
            resolve_model(name)


MIXING = Strategy.from_knobs({"mosaic": 1.0, "mixup": 1.0})


def sample_bytes(sample: dict[str, object]) -> list[bytes]:
    return [np.asarray(sample[key]).tobytes() for key in ("img", "cls", "bboxes")]


def test_mosaic_and_mixup_close_at_a_step_and_are_nothing_where_a_strategy_has_neither(
    tiles: Path, tmp_path: Path
) -> None:
    def samples(strategy: Strategy, close_mosaic: float) -> list[list[bytes]]:
        dataset = prepared(tiles, tmp_path, strategy, close_mosaic=close_mosaic).train_loader.dataset
        return [sample_bytes(dataset[position * len(dataset) + 3]) for position in range(24)]

    plain, half, never = samples(BASELINE, 0.5), samples(MIXING, 0.5), samples(MIXING, 0.0)
    assert samples(BASELINE, 0.0) == plain
    assert half[:12] == never[:12]  # 3 of 6 steps, 4 images each
    assert half[12:] == plain[12:]
    assert all(one != other for one, other in zip(never, plain, strict=True))


def test_other_processes_prepare_the_same_batches(tiles: Path, tmp_path: Path) -> None:
    def batches(workers: int) -> list[list[bytes]]:
        run = prepared(tiles, tmp_path, EVERYTHING)
        run.args.workers = workers
        return [sample_bytes(batch) for batch in run.get_dataloader("train", 4)]

    assert batches(0) == batches(2)


def test_no_strategy_touches_what_is_measured(tiles: Path, tmp_path: Path) -> None:
    for split in ("val", "test", "train"):  # of train, to be measured, the images of the minority
        plain, changed = (
            prepared(tiles, tmp_path, strategy).get_dataloader(split, 4, mode="val")
            for strategy in (BASELINE, EVERYTHING)
        )
        assert [sample_bytes(batch) for batch in plain] == [sample_bytes(batch) for batch in changed]


def test_copy_paste_adds_objects_of_other_images_and_counts_them(tiles: Path, tmp_path: Path) -> None:
    strategy = Strategy.from_knobs({"copy_paste": 1.0})
    dataset = prepared(tiles, tmp_path, strategy).train_loader.dataset
    (objects,) = dataset.donors
    assert set(objects[:, 0]) == set(np.flatnonzero(dataset.rare))
    assert {int(dataset.images[image].classes[row]) for image, row in objects} == {1}
    random.seed(0)
    added = 0
    for index, image in enumerate(dataset.images):
        label = dataset.get_image_and_label(index)
        added += int((label["cls"] == 1).sum()) - int((image.classes == 1).sum())
        donors = [tile for tile, _ in dataset._draw_donors(index, np.random.default_rng(index))]
        assert not any(np.array_equal(tile.image, dataset.tile(index).image) for tile in donors)
    assert added == dataset.counts["objects_pasted"] > 0
    assert dataset.counts["augmented_images"] == 0  # pasting is no augmentation


def test_an_object_that_the_border_cuts_off_is_not_pasted(tiles: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiles.parent, tmp_path / "cut")
    strategy = Strategy.from_knobs({"copy_paste": 1.0})
    labels = sorted((data / "labels" / "train").glob("*.txt"))
    rare = [label for label in labels if label.read_text().splitlines()[-1].startswith("1 ")]
    rare[0].write_text("1 0.2 0.5 0.4 0.4")
    dataset = prepared(data / "data.yaml", tmp_path / "some", strategy).train_loader.dataset
    (objects,) = dataset.donors
    pasted = {Path(dataset.im_files[image]).stem for image in objects[:, 0]}
    assert pasted == {label.stem for label in rare[1:]}
    for label in rare:
        label.write_text("1 0.2 0.5 0.4 0.4")
    load_once.cache_clear()
    dataset = prepared(data / "data.yaml", tmp_path / "all", strategy).train_loader.dataset
    assert len(dataset.donors[0]) == len(rare)  # better than none


def test_a_tile_that_is_pasted_into_is_augmented_as_one_of_the_minority(tiles: Path, tmp_path: Path) -> None:
    strategy = Strategy.from_knobs({"copy_paste": 1.0, "augment_minority": 0.5})
    dataset = prepared(tiles, tmp_path, strategy).train_loader.dataset
    random.seed(0)
    for index in np.flatnonzero(~dataset.rare).tolist():
        dataset.counts.clear()
        dataset.get_image_and_label(index)
        assert dataset.counts["augmented_images"] == (dataset.counts["objects_pasted"] > 0)


def test_exposure_is_the_share_of_draws_with_a_minority_object_after_pasting(
    tiles: Path, tmp_path: Path
) -> None:
    reports = {
        name: train(spec_of(tiles, Strategy.from_knobs(knobs), eval_every=6, close_mosaic=0), tmp_path / name)
        for name, knobs in {"plain": {}, "pasted": {"copy_paste": 1.0}, "mixed": {"mosaic": 1.0}}.items()
    }
    assert reports["plain"].exposure == reports["mixed"].exposure == 4 / 24  # each image is drawn once
    assert 0.6 < reports["pasted"].exposure <= 1
    shown = {name: report.applied["minority_samples"] for name, report in reports.items()}
    assert 3 <= shown["plain"] <= 4  # a shift may hide one
    assert shown["mixed"] > shown["plain"]
    assert shown["pasted"] > shown["plain"]


def test_copy_paste_without_an_object_to_paste_fails_by_its_receipt(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingTiles, "_objects_of", lambda self, class_id: np.zeros((0, 2), dtype=int))
    strategy = Strategy.from_knobs({"copy_paste": 0.5})
    outcome = run_trial(spec_of(tiles, strategy, steps=2), TrialFolder(root=tmp_path), lambda measured: None)
    assert isinstance(outcome, TrialFailure)
    assert outcome.reason == "copy_paste: asked 0.5, applied 0.0"
