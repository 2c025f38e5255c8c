"""A detector of one's own, weights or a yaml: what is built, and what is refused without running it."""

import trainables.detector.settled  # before Ultralytics is imported

# isort: split
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
import yaml
from strangers import TWO_LAYERS, code, described, with_code
from tiny_detector import tiny_spec, weights_in
from trials import outcome_of, report_of
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

from spaces.errors import UsageError
from trainables.contract.trial import TrainSpec, TrialFailure
from trainables.contract.trust import trusting_weights
from trainables.detector.arguments import own_model
from trainables.detector.models import HEADS, check_detector, check_layers, read_description
from trainables.detector.settled import LAYERS
from trainables.worker.by_task import BY_TASK

ONE_EPOCH = {"steps": 2, "eval_every": 2}


def check(model: Path) -> None:
    """As `rarecall check` does."""
    BY_TASK["detection"].check_model(str(model))
    train = TrainSpec.model_validate({"model": str(model), "imgsz": 64, "steps": 2, "eval_every": 1})
    BY_TASK["detection"].check_network(train, 2, False)


def detector() -> DetectionModel:
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.task = "detect"
    model.names = {0: "cell", 1: "cluster"}
    return model


def code_beside(folder: Path, marker: Path) -> Path:
    return with_code(detector(), folder / "m.pt", marker)


def code_in_the_weights_description(folder: Path, marker: Path) -> Path:
    model = detector()
    model.yaml["activation"] = code(marker)
    torch.save({"model": model, "ema": None, "train_args": {}}, folder / "m.pt")
    return folder / "m.pt"


def code_as_activation(folder: Path, marker: Path) -> Path:
    return described(folder / "m.yaml", activation=code(marker))


def code_as_layer(folder: Path, marker: Path) -> Path:
    return described(folder / "m.yaml", backbone=[[-1, 1, code(marker), [8, 3, 2]]])


def code_as_argument(folder: Path, marker: Path) -> Path:
    return described(folder / "m.yaml", backbone=[[-1, 1, "Conv", [8, 3, 2, code(marker)]]])


def code_as_classes(folder: Path, marker: Path) -> Path:
    return described(folder / "m.yaml", nc=code(marker), depth_multiple=code(marker))


def code_behind_a_yaml_tag(folder: Path, marker: Path) -> Path:
    (folder / "m.yaml").write_text(
        yaml.safe_dump({"nc": 2, **TWO_LAYERS}) + f'x: !!python/object/apply:os.system ["touch {marker}"]\n'
    )
    return folder / "m.yaml"


def another_models_description(folder: Path, marker: Path) -> Path:
    inner = described(folder / "inner.yaml", activation=code(marker))
    return described(folder / "m.yaml", backbone=[[-1, 1, "DetectionModel", [str(inner)]]])


MALICIOUS = [
    code_beside,
    code_in_the_weights_description,
    code_as_activation,
    code_as_layer,
    code_as_argument,
    code_as_classes,
    code_behind_a_yaml_tag,
    another_models_description,
]


@pytest.mark.parametrize("write", MALICIOUS)
def test_what_would_run_code_runs_none_in_the_check_nor_in_a_trial(
    write: Callable[[Path, Path], Path], tiles: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    model = write(tmp_path, marker)
    if write is not code_as_classes:  # the number of classes is that of the data; its depth is none
        with pytest.raises(UsageError, match=r"train\.model: ") as refused:
            check(model)
        assert len(str(refused.value)) < 700
    outcome = outcome_of(tiny_spec(tiles, {}, model=str(model), **ONE_EPOCH), tmp_path / "t")
    assert isinstance(outcome, TrialFailure)
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize("write", [code_beside, code_as_activation])
def test_these_files_would_run_their_code_in_plain_ultralytics(
    write: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    """Else the test above could not fail."""
    model = write(tmp_path, tmp_path / "ran")
    environment = {name: value for name, value in os.environ.items() if name != "ULTRALYTICS_SAFE_LOAD"}
    subprocess.run(
        [sys.executable, "-c", f"from ultralytics import YOLO; YOLO({str(model)!r})"],
        env=environment | {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "1"},
        capture_output=True,
        check=False,
    )
    assert (tmp_path / "ran").exists()


def test_the_error_names_what_would_run_and_how_to_trust_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        check(code_beside(tmp_path, tmp_path / "ran"))
    assert refused.value.message.endswith("names what no model needs and may run code: posix.system")
    assert "--trust-weights loads it with all that it runs" in refused.value.hint
    assert "with --resume too" in refused.value.hint


def test_an_environment_that_says_otherwise_changes_nothing(tmp_path: Path) -> None:
    """Neither a variable of the shell nor Ultralytics imported before us."""
    model = code_as_activation(tmp_path, tmp_path / "ran")
    first = "import ultralytics.nn.tasks\nassert not ultralytics.nn.tasks.SAFE_LOAD\n"
    build = f"""
import trainables.detector.settled
from ultralytics.nn.tasks import DetectionModel
try:
    DetectionModel({str(model)!r})
except TypeError as error:
    assert "activation" in str(error)
else:
    raise SystemExit("built")
"""
    for before in ("", first):
        subprocess.run(
            [sys.executable, "-c", before + build],
            env=os.environ | {"ULTRALYTICS_SAFE_LOAD": "0", "YOLO_CONFIG_DIR": str(tmp_path)},
            check=True,
        )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"depth_multiple": 1e9}, "a depth multiple must be a number up to 10", id="deep"),
        pytest.param({"scales": {"n": ["1", 1, 8]}}, "a depth multiple must be", id="a scale of words"),
        pytest.param({"width_multiple": 1e4}, r"[\d,]{13,} parameters, which take [\d,]+ GB", id="wide"),
        pytest.param(
            {"backbone": [[-1, 10**9, "Conv", [8, 3, 2]]]}, "one without end", id="a billion times the same"
        ),
        pytest.param(
            {"backbone": [[-1, 101, "Conv", [8, 3]]]}, "layer 0: from 1 to 100 repeats", id="repeats"
        ),
        pytest.param({"backbone": [[-1, 1, "Conv"]]}, "layer 0: four entries expected", id="three entries"),
        pytest.param(
            {"backbone": [[-1, 1, ["Conv"], []]]}, "layer 0: no such layer", id="a list for a layer"
        ),
        pytest.param({"backbone": {"Conv": 1}}, "no description of a detector", id="a mapping of layers"),
        pytest.param({"backbone": [[-1, 1, "nn.functional", []]]}, "not a permitted", id="a module of torch"),
        pytest.param({"backbone": [[-1, 1, "nn.Nothing", []]]}, "no attribute 'Nothing'", id="nothing"),
        pytest.param({"backbone": [[-1, 1, "Conv", [0, 3, 2]]]}, "no model can be built", id="no channels"),
        pytest.param(
            {"backbone": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2]]]},
            "layer 0: TorchVision would download weights",
            id="weights from the network",
        ),
        pytest.param(
            {"scale": "DEFAULT", "backbone": [[-1, 1, "TorchVision", [512, "resnet18", "scale", True, 2]]]},
            "layer 0: TorchVision would download weights",
            id="the same by a detour",
        ),
    ],
)
def test_a_yaml_from_which_no_model_can_be_trained_is_refused_with_the_reason(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    usual = Conv.default_act
    model = described(tmp_path / "m.yaml", activation="nn.ReLU()", **changes)
    with pytest.raises(UsageError, match=reason):
        check(model)
    assert Conv.default_act is usual  # of whatever is built next in this process


def test_aliases_that_unfold_without_end_are_refused_in_weights_as_in_a_yaml(tmp_path: Path) -> None:
    described(tmp_path / "m.yaml")
    lines = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"{k}: &{k} [{','.join(10 * ['*' + chr(ord(k) - 1)])}]" for k in "bcdefgh"]
    with (tmp_path / "m.yaml").open("a") as file:
        file.write("\n".join(lines))
    with pytest.raises(UsageError, match="unfold to more than"):
        check(tmp_path / "m.yaml")
    model, unfolding = detector(), [1]
    for _ in range(8):
        unfolding = [unfolding] * 10  # type: ignore[list-item]
    for bomb in ({"args": unfolding}, {"head": [*model.yaml["head"][:-1], [[15], 1, unfolding, [2]]]}):
        model.yaml |= bomb
        torch.save({"model": model}, tmp_path / "m.pt")
        with pytest.raises(UsageError, match="no description of a detector, or one without end"):
            check(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "content",
    [b"nc: " + b"9" * 5000, b"[" * 5000, b"a: 2026-02-30", b"a" * 1_000_001, b"? [a]\n: b"],
    ids=["a number of 5,000 digits", "brackets", "a date that is none", "a megabyte", "a list as a key"],
)
def test_what_is_no_reasonable_yaml_is_no_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=r"train\.model: "):
        check(tmp_path / "m.yaml")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_weights_that_are_cut_short_are_told_in_a_sentence(keep: float, tmp_path: Path) -> None:
    torch.save({"model": detector(), "ema": None, "train_args": {}}, tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UsageError, match=r"train\.model: .*m\.pt"):
        check(tmp_path / "m.pt")


def test_a_pickle_that_is_no_pickle_is_told_in_a_sentence(tmp_path: Path) -> None:
    for pickled in (
        b"\x80\x02cultralytics.nn.tasks\nDetectionModel\n",
        b"\x80\x02}.",
        b"\x80\x02\x8d" + b"\xff" * 8,
    ):
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            archive.writestr("m/data.pkl", pickled)
        with pytest.raises(UsageError, match=r"train\.model: .*m\.pt"):
            check(tmp_path / "m.pt")


def test_weights_that_only_claim_to_be_a_model_are_refused(tmp_path: Path) -> None:
    for stored in ({"model": DetectionModel.__new__(DetectionModel)}, {"model": [DetectionModel]}):
        torch.save(stored, tmp_path / "m.pt")
        with pytest.raises(UsageError, match="these weights cannot be loaded"):
            check(tmp_path / "m.pt")


MINE = "import torch\n\nclass Mine(torch.nn.SiLU):\n    pass\n"


def test_a_model_with_a_class_of_ones_own_is_loaded_and_trained_if_it_is_trusted(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_layers.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    from my_layers import Mine  # noqa: PLC0415

    model = detector()
    model.model[0].act = Mine()
    torch.save({"model": model, "ema": None, "train_args": {}}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match=r"may run code: my_layers\.Mine"):
        check(tmp_path / "m.pt")
    spec = tiny_spec(tiles, {}, model=str(tmp_path / "m.pt"), **ONE_EPOCH)
    assert isinstance(outcome_of(spec, tmp_path / "not"), TrialFailure)
    with trusting_weights(True):
        check(tmp_path / "m.pt")
        applied = report_of(spec, tmp_path / "t").applied
    assert applied["tensors_loaded"] == applied["tensors"]
    assert tasks.SAFE_LOAD
    assert isinstance(outcome_of(spec, tmp_path / "again"), TrialFailure)


def test_a_yaml_with_code_runs_none_even_if_weights_are_trusted(tiles: Path, tmp_path: Path) -> None:
    model = code_as_activation(tmp_path, tmp_path / "ran")
    with trusting_weights(True):
        with pytest.raises(UsageError, match="unsupported activation"):
            check(model)
        outcome_of(tiny_spec(tiles, {}, model=str(model), **ONE_EPOCH), tmp_path / "t")
    assert not (tmp_path / "ran").exists()


def test_activations_of_torch_are_no_code(tiles: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.yaml"
    (
        tiny := yaml.safe_load(
            (Path(trainables.detector.settled.__file__).parent / "yolo_tiny.yaml").read_text()
        )
    )
    model.write_text(yaml.safe_dump(tiny | {"activation": "torch.nn.LeakyReLU(0.1)"}))
    check(model)
    report_of(tiny_spec(tiles, {}, model=str(model), **ONE_EPOCH), tmp_path / "t")
    acts = torch.load(tmp_path / "t" / "result" / "weights.pt", weights_only=False)["model"].modules()
    assert any(isinstance(act, torch.nn.LeakyReLU) for act in acts)


def test_our_own_weights_need_no_trust(tiles: Path, tmp_path: Path) -> None:
    report_of(tiny_spec(tiles, {}, **ONE_EPOCH), tmp_path / "first")
    path = tmp_path / "first" / "result" / "weights.pt"
    check(path)
    described_by, weights = own_model(path)
    assert described_by["nc"] == 2
    assert weights.state_dict().keys() == weights_in(tmp_path / "first").keys()


def test_every_detector_that_ultralytics_ships_keeps_within_what_a_description_may_hold() -> None:
    shipped = (Path(ultralytics.__file__).parent / "cfg" / "models").glob("*/*.yaml")
    known = [read_description(file) for file in shipped]
    detectors = [model for model in known if model["head"][-1][2] in HEADS]
    assert len(detectors) > 20
    for model in detectors:
        check_layers(model, LAYERS, "shipped")


@pytest.mark.slow
def test_a_checkpoint_of_stock_ultralytics_needs_no_trust(tiles: Path, tmp_path: Path) -> None:
    run = YOLO("yolo11n.yaml").train(
        data=str(tiles), epochs=1, imgsz=64, batch=8, project=str(tmp_path), workers=0, device="cpu",
        plots=False, verbose=False,
    )  # fmt: skip
    for name in ("best.pt", "last.pt"):
        path = run.save_dir / "weights" / name
        check_detector(str(path))
        check(path)
    applied = report_of(tiny_spec(tiles, {}, model=str(path), **ONE_EPOCH), tmp_path / "t").applied
    assert applied["tensors_loaded"] == applied["tensors"]


@pytest.mark.parametrize("script", [code, lambda marker: f"bash -c 'touch {marker}'"])
def test_what_a_data_yaml_would_download_is_never_run(
    script: Callable[[Path], str], tiles: Path, tmp_path: Path
) -> None:
    """Ultralytics runs it where val is missing."""
    stored = yaml.safe_load(tiles.read_text()) | {
        "path": str(tiles.parent),
        "download": script(tmp_path / "ran"),
    }
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump(stored))
    report_of(tiny_spec(data, {}, **ONE_EPOCH), tmp_path / "t")
    data = tmp_path / "missing.yaml"
    data.write_text(yaml.safe_dump(stored | {"val": "images/none"}))
    outcome = outcome_of(tiny_spec(data, {}, **ONE_EPOCH), tmp_path / "missing")
    assert isinstance(outcome, TrialFailure)
    assert not (tmp_path / "ran").exists()
