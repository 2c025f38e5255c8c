"""Which networks a classifier may be, from which weights it starts; a run with them goes on exactly."""

import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_images import write_folder
from torchvision import models
from torchvision.transforms.v2 import functional as F

from search.pipeline.opening import data_of
from search.request.reading import load_config
from spaces.errors import UsageError
from spaces.strategy import PLAIN, Strategy
from trainables.classifier.models import check_name
from trainables.classifier.networks import build_network, check_network
from trainables.classifier.small_cnn import SmallCnn
from trainables.contract.predictions import ClassificationPredictions, load_predictions
from trainables.contract.trial import DataSpec, EpochMetrics, TrainSpec, TrialFolder, TrialReport, TrialSpec
from trainables.data.demo import digits
from trainables.data.sources import images_of
from trainables.worker.by_task import BY_TASK
from trainables.worker.run import run_trial

TIMM = ("timm/resnet10t", "timm/vit_tiny_patch16_224") if find_spec("timm") is not None else ()

check_classifier = BY_TASK["classification"].check_network


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


def training(model: str = "resnet18", **more: object) -> TrainSpec:
    return TrainSpec.model_validate(
        {"model": model, "imgsz": 32, "batch": 4, "steps": 2, "eval_every": 1} | more
    )


def trial(root: Path, strategy: Strategy = PLAIN, **train: object) -> TrialSpec:
    return TrialSpec(
        task="classification",
        strategy=strategy,
        data=DataSpec(source=str(root), minority=("b",)),
        train=training(**({"imgsz": 16} | train)),  # type: ignore[arg-type]
        seed=1,
    )


def small_data(root: Path, mode: str = "RGB") -> Path:
    return write_folder(root, {"train/a": 12, "train/b": 5, "val/a": 5, "val/b": 3}, mode=mode)


def report(spec: TrialSpec, root: Path, resume: Path | None = None) -> TrialReport:
    outcome = run_trial(spec, TrialFolder(root, resume), lambda _: None)
    assert isinstance(outcome, TrialReport), outcome
    return outcome


def stored_weights(root: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(root / "result" / "weights.pt", weights_only=True)["state"]
    return state


# Models


@pytest.mark.parametrize("model", ["resnet18", "regnet_y_400mf", "googlenet", "vit_b_32", *TIMM])
def test_a_library_s_model_gives_a_logit_per_class(model: str) -> None:
    train = training(model, imgsz=224, batch=2)
    check_network(train, n_classes=3)
    network = build_network(train, channels=1, n_classes=3)
    logits = network.module.train()(torch.zeros(2, 3, 224, 224))
    assert logits.shape == (2, 3)
    assert (network.channels, network.mean, network.loaded) == (3, (0.5, 0.5, 0.5), None)


def test_torchvision_s_model_is_the_one_of_that_name() -> None:
    ours = build_network(training(), channels=3, n_classes=7).module.state_dict()
    theirs = models.resnet18(num_classes=7).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("model", models.list_models(module=models))
def test_every_classifier_of_torchvision_can_be_named(model: str) -> None:
    check_classifier(training(model, imgsz=448 if model == "vit_h_14" else 224, batch=2), 3, False)


@pytest.mark.parametrize("side", [8, 33, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_cnn_sees_images_of_any_size(side: int, channels: int) -> None:
    network = build_network(training("small_cnn", imgsz=side), channels=channels, n_classes=3)
    assert network.module(torch.zeros(2, channels, side, side)).shape == (2, 3)
    assert network.channels == channels


@pytest.mark.parametrize(
    ("train", "message"),
    [
        pytest.param(training("resnet19"), "no such model 'resnet19'", id="unknown name"),
        pytest.param(training("fasterrcnn_resnet50_fpn"), "no such model", id="a detector"),
        pytest.param(training("smallcnn"), "did you mean 'small_cnn'", id="ours, misspelt"),
        pytest.param(training("ResNet-50"), "did you mean 'resnet50'", id="torchvision's, misspelt"),
        pytest.param(
            training(imgsz=16, amp="bf16"),
            r"bf16 is not safe with resnet18 at imgsz 16 on a CPU: .* of 8 .* e\.g\. layer3\.0\.conv1",
            id="mixed precision on maps smaller than their kernels",
        ),
        pytest.param(training("alexnet"), "alexnet cannot learn from 4 images of 32 x 32", id="too small"),
        pytest.param(
            training("vit_b_16", imgsz=40), "no vit_b_16 for train.imgsz 40", id="patches do not fit"
        ),
        pytest.param(
            training(batch=1), "from 1 images of 32 x 32: Expected more than 1 value", id="batch norm"
        ),
        pytest.param(training("small_cnn", weights="w.pt"), "not for small_cnn", id="weights of small_cnn"),
        pytest.param(training(weights="/no/w.pt"), "no such file: /no/w.pt", id="no weights"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(train: TrainSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_classifier(train, 3, False)


def test_without_timm_its_models_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as Python marks what cannot be imported
    with pytest.raises(UsageError, match="timm is not installed") as refused:
        check_name("timm/resnet18")
    assert refused.value.hint == "pip install 'rarecall[timm]'"


def test_a_grey_image_goes_to_all_three_channels_of_a_library_s_model(tmp_path: Path) -> None:
    spec = trial(small_data(tmp_path / "data", mode="L"), steps=1)
    report(spec, tmp_path / "run")
    module = build_network(spec.train, channels=1, n_classes=2).module
    module.load_state_dict(stored_weights(tmp_path / "run"))
    val = images_of(spec.data.source, 16).splits["val"]
    pixels = torch.from_numpy(np.repeat(val.images[:, None], 3, axis=1))
    with torch.inference_mode():
        logits = module.eval()(
            F.normalize(F.to_dtype(pixels, torch.float32, scale=True), [0.5] * 3, [0.5] * 3)
        )
    stored = load_predictions(tmp_path / "run" / "result" / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    np.testing.assert_allclose(logits.numpy(), stored.logits, atol=1e-4)


def test_the_digits_stay_grey_and_their_network_is_ours() -> None:
    loaded = images_of("demo:digits", 8)
    assert (loaded.channels, loaded.unreadable) == (1, 0)
    np.testing.assert_array_equal(loaded.splits["train"].images, digits.load()["train"].images)
    torch.manual_seed(3)
    ours = build_network(training("small_cnn", imgsz=8), channels=1, n_classes=10)
    torch.manual_seed(3)
    for mine, theirs in zip(ours.module.parameters(), SmallCnn(1, 10).parameters(), strict=True):
        assert torch.equal(mine, theirs)


# Weights


def save_bare(state: dict[str, torch.Tensor], file: Path) -> None:
    torch.save(state, file)


def save_wrapped(state: dict[str, torch.Tensor], file: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, file)


@pytest.mark.parametrize("save", [save_bare, save_wrapped])
def test_weights_for_other_classes_are_taken_but_for_the_last_layer(
    tmp_path: Path, save: Callable[[dict[str, torch.Tensor], Path], None]
) -> None:
    given = models.resnet18(num_classes=5).state_dict()
    save(given, tmp_path / "w.pth")
    train = training(weights=str(tmp_path / "w.pth"))
    check_network(train, n_classes=3)
    network = build_network(train, channels=3, n_classes=3)
    taken = [name for name, value in network.module.state_dict().items() if torch.equal(value, given[name])]
    assert set(given) - set(taken) == {"fc.weight", "fc.bias"}
    assert network.loaded is not None
    assert (network.loaded["tensors"], network.loaded["of"]) == (120, 122)
    assert network.mean == (0.485, 0.456, 0.406)
    same = build_network(train, channels=3, n_classes=5)
    assert same.loaded is not None
    assert same.loaded["tensors"] == 122


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(models.resnet18(num_classes=5).state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        UsageError, match=r"is not for resnet34 at imgsz 32: .* e\.g\. layer1\.2\.conv1\.weight"
    ):
        check_network(training("resnet34", weights=str(tmp_path / "w.pt")), n_classes=3)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"abc" * 50, id="text"),
        pytest.param(b"PK\x03\x04" + bytes(99), id="a broken archive"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UsageError, match=r"w\.pt cannot be read"):
        check_network(training(weights=str(tmp_path / "w.pt")), n_classes=3)


def test_a_pickled_model_is_not_run(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(UsageError, match="cannot be read") as refused:
        check_network(training(weights=str(tmp_path / "w.pt")), n_classes=3)
    assert "it would run code" in str(refused.value)


def test_a_run_goes_on_from_what_another_run_stored(tmp_path: Path) -> None:
    root = small_data(tmp_path / "data")
    report(trial(root), tmp_path / "first")
    weights = tmp_path / "first" / "result" / "weights.pt"
    applied = report(trial(root, weights=str(weights), lr=1e-9, steps=1), tmp_path / "second").applied
    assert (applied["weights"]["tensors"], applied["weights"]["of"]) == (122, 122)
    assert applied["mean"] == [0.5, 0.5, 0.5]  # as the first run had its images
    first, second = stored_weights(tmp_path / "first"), stored_weights(tmp_path / "second")
    torch.testing.assert_close(first["conv1.weight"], second["conv1.weight"])


def test_a_study_s_weights_are_relative_to_its_file_and_checked(tmp_path: Path) -> None:
    small_data(tmp_path / "data")
    (tmp_path / "study.yaml").write_text(
        "{name: x, task: classification, data: data, minority: b, space: classification, "
        "train: {model: resnet18, weights: w.pt, imgsz: 32, batch: 4, steps: 2, eval_every: 1}}"
    )
    config = load_config(tmp_path / "study.yaml")
    assert config.train.weights == str(tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"study\.yaml: train\.weights: no such file"):
        data_of(config, "study.yaml")
    torch.save(models.resnet18().state_dict(), tmp_path / "w.pt")
    data, summary = data_of(config, "study.yaml")
    assert (data.minority, summary.class_names) == (("b",), ("a", "b"))


# Runs


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_killed_run_with_batch_norm_goes_on_bit_for_bit(amp: str, tmp_path: Path) -> None:
    class Killed(Exception):
        """Stands for the end of the worker."""

    busy = Strategy.from_knobs({"retention": 0.5, "sampler_power": 0.5, "augment_minority": 0.5})
    spec = trial(small_data(tmp_path / "data"), busy, steps=4, eval_every=2, amp=amp, imgsz=64)
    whole = report(spec, tmp_path / "whole")
    assert whole.applied["amp"] == amp

    def kill(measured: EpochMetrics) -> None:
        shutil.copytree(tmp_path / "killed" / "checkpoint", tmp_path / "kept")
        raise Killed

    with pytest.raises(Killed):
        run_trial(spec, TrialFolder(tmp_path / "killed"), kill)
    resumed = report(spec, tmp_path / "resumed", resume=tmp_path / "kept")
    assert resumed.metrics == whole.metrics
    ours, theirs = stored_weights(tmp_path / "resumed"), stored_weights(tmp_path / "whole")
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_mixed_precision_on_a_gpu_needs_no_large_maps() -> None:
    check_classifier(training(imgsz=16, amp="bf16"), 3, True)


def test_mixed_precision_rounds_on_a_cpu_too_and_keeps_weights_in_full(tmp_path: Path) -> None:
    data = small_data(tmp_path / "data")
    for amp in ("off", "bf16"):
        report(trial(data, steps=2, eval_every=1, amp=amp, imgsz=64), tmp_path / amp)
    full, mixed = stored_weights(tmp_path / "off"), stored_weights(tmp_path / "bf16")
    name = "layer1.0.conv1.weight"
    assert mixed[name].dtype == torch.float32
    assert not torch.equal(mixed[name], full[name])
    torch.testing.assert_close(mixed[name], full[name], atol=0.02, rtol=0.1)


def test_the_receipt_says_what_was_left_out_and_predictions_know_their_groups(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train/a": 90, "train/b": 20, "val/a": 6, "val/b": 6})
    rows = [
        f"{file.relative_to(root)},{file.parent.name}{int(file.stem) // 2}" for file in root.glob("val/*/*")
    ]
    rows += [f"{file.relative_to(root)},{file}" for file in root.glob("train/*/*")]
    (root / "groups.csv").write_text("\n".join(["image,group", *rows]))
    (root / "train/a/000.jpg").write_bytes(b"")
    done = report(trial(root, model="small_cnn"), tmp_path / "run")
    assert done.applied["unreadable_images"] == 1
    assert done.applied["train_images"] == {"a": 89, "b": 20}
    stored = load_predictions(tmp_path / "run" / "result" / "predictions.npz")
    assert [f"{name[4]}{int(name[6:9]) // 2}" for name in stored.image.tolist()] == stored.source.tolist()
