from pathlib import Path
from typing import Any

import pytest
import yaml
from drawn_images import write_folder
from places import ROOT

from search.request.config import StudyConfig
from search.request.data_check import check_data
from search.request.guards import Floor, MaxDrop
from search.request.reading import load_config
from spaces.errors import UsageError
from spaces.strategy import PLAIN
from trainables.contract.tasks import TASKS
from trainables.data.sources import describe
from trainables.worker.by_task import BY_TASK

TOY: dict[str, Any] = {
    "name": "toy",
    "task": "toy",
    "data": "demo:toy",
    "minority": ["rare"],
    "train": {"model": "toy", "steps": 30, "eval_every": 10},
    "space": "classification",
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**TOY, **changes}))
    return path


def complaint(folder: Path, **changes: Any) -> str:
    with pytest.raises(UsageError) as error:
        load_config(write(folder, **changes))
    return str(error.value)


def test_defaults_follow_the_task(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    assert config.objectives == ("minority_recall", "map50_95")
    assert config.guards == (
        MaxDrop(metric="map50_95", max_drop=0.03),
        MaxDrop(metric="minority_ap50", max_drop=0),
    )
    assert config.baseline_strategy == PLAIN
    assert config.train.epochs == 3


def test_a_floor_is_a_guard_too(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, guards=[{"metric": "map50_95", "floor": 0.2}]))
    assert config.guards == (Floor(metric="map50_95", floor=0.2),)


def test_what_is_written_reads_back_as_the_same_request(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(copy) == config


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    said = complaint(
        tmp_path,
        trian={},
        train={"model": "toy", "steps": 30, "eval_every": 10, "lr": -1},
        objectives=["minority_recal", "map50_95"],
        guards=[{"metric": "map50-95", "max_dorp": 0.03}],
        baseline={"strategy": "plian"},
        space={"preset": "classification", "retentoin": [0.3, 0.5], "focal_gamma": [0, 9]},
        search={"trials": 0, "sampler": "auot"},
        compare={"strategies": ["plian"], "seeds": 1},
        confirm={"more_seeds": 1, "min_gain": 2},
    )
    for expected in (
        "study.yaml: trian: unknown key\nhint: did you mean 'train'?",
        "study.yaml: train.lr: should be greater than 0, got -1",
        "study.yaml: objectives.0: no such metric 'minority_recal'\nhint: did you mean 'minority_recall'?",
        "study.yaml: guards.0.metric: no such metric 'map50-95'\nhint: did you mean 'map50_95'?",
        "study.yaml: guards.0.max_dorp: unknown key\nhint: did you mean 'max_drop'?",
        "study.yaml: baseline.strategy: no such strategy 'plian'\nhint: did you mean 'plain'?",
        "study.yaml: space.retentoin: no such knob\nhint: did you mean 'retention'?",
        "focal_gamma: should be less than or equal to 5, got 9",
        "study.yaml: search.trials: should be greater than or equal to 1, got 0",
        "study.yaml: search.sampler: should be 'auto', 'gp', 'tpe', 'nsga2' or 'random', got 'auot'",
        "study.yaml: compare.strategies: no such strategy 'plian'\nhint: did you mean 'plain'?",
        "study.yaml: compare.seeds: should be greater than or equal to 2, got 1",
        "study.yaml: confirm.more_seeds: 0 for a single look, or at least 2, got 1",
        "study.yaml: confirm.min_gain: should be less than 1, got 2",
    ):
        assert expected in said, said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"task": "segmentation"}, "task: should be", id="another task"),
        pytest.param({"minority": []}, "minority: at least one class", id="no minority"),
        pytest.param({"guards": [3]}, "guards.0", id="a guard that is a number"),
        pytest.param({"guards": 3}, "guards: should be a list, got 3", id="guards that are a number"),
        pytest.param({"name": None}, "name: should be a valid string, got null", id="a key without a value"),
        pytest.param(
            {"baseline": {"strategy": "nothing"}},
            "no such strategy 'nothing'\nhint: `rarecall strategies` lists them",
            id="a strategy like none of ours",
        ),
        pytest.param({"space": 7}, "space: a preset's name", id="a space that is a number"),
        pytest.param({"space": {}}, "nothing to search", id="an empty space"),
        pytest.param({"space": "detektion"}, "did you mean 'detection'?", id="an unknown preset"),
        pytest.param(
            {"train": {"model": "toy", "steps": 35, "eval_every": 10}}, "multiple", id="half an epoch"
        ),
        pytest.param({"objectives": ["map50_95", "map50_95"]}, "twice", id="one objective twice"),
        pytest.param({"name": "../up"}, "name:", id="a name that leaves the folder"),
        pytest.param(
            {"train": TOY["train"] | {"close_mosaic": 0.5}},
            "train.close_mosaic: only for detection, got 0.5",
            id="an argument of mosaic elsewhere",
        ),
        pytest.param(
            {"train": TOY["train"] | {"accumulate": 5}},
            "accumulate must divide batch 16 (1, 2, 4, 8, 16), got 5",
            id="parts of a batch that are not equal",
        ),
        pytest.param(
            {"task": "detection", "guards": [{"metric": "deployed/minority_precison", "floor": 0.2}]},
            "guards.0.metric: no such metric 'deployed/minority_precison'\n"
            "hint: did you mean 'deployed/minority_precision'?",
            id="a misspelt metric with a slash that is of no class",
        ),
        pytest.param(
            {"resources": {"gpu": 2}},
            "resources.gpu: at most 1, got 2: a run trains on one GPU\nhint: runs beside each other",
            id="several GPUs",
        ),
        pytest.param(
            {"resources": "much"}, "resources: should be 'auto', got 'much'", id="resources in words"
        ),
        pytest.param(
            {"resources": {"gpus": 1}},
            "resources.gpus: unknown key\nhint: did you mean 'gpu'?",
            id="a misspelt resource",
        ),
        pytest.param(
            {"train": TOY["train"] | {"tune": "minority_recall"}},
            "train.tune: only for classification, got minority_recall",
            id="tuning after training elsewhere",
        ),
        pytest.param(
            {"task": "classification", "space": {"preset": "classification", "mosaic": [0, 1]}},
            "space.mosaic: not for classification",
            id="a classifier's search of mosaic",
        ),
        pytest.param(
            {"task": "classification", "baseline": {"strategy": "copy_paste"}},
            "baseline.strategy: 'copy_paste' is not for classification",
            id="a classifier's baseline that pastes boxes",
        ),
        pytest.param(
            {"task": "detection", "space": {"preset": "detection", "defer": [0, 1]}},
            "space.defer: not for detection",
            id="a classifier's knob for a detector",
        ),
        pytest.param(
            {"task": "detection", "space": "detection", "compare": {"strategies": ["deferred"]}},
            "compare.strategies: 'deferred' is not for detection",
            id="a classifier's arm for a detector",
        ),
        pytest.param(
            {"task": "classification", "compare": {"strategies": ["plain", "mosaic"]}},
            "compare.strategies: 'mosaic' is not for classification",
            id="a classifier's arm that mixes images",
        ),
        pytest.param(
            {"task": "detection", "space": "detection", "train": TOY["train"] | {"lr": 2}},
            "train.lr: at most 1",
            id="a huge rate",
        ),
        pytest.param(
            {"space": {"dual_share": [0, 0.5]}},
            "dual_share is 0, or from 0.2 to 0.7",
            id="a range with shares that no two models have",
        ),
        pytest.param(
            {"space": {"dual_share": {"choices": [0, 0.5]}}, "train": TOY["train"] | {"steps": 20}},
            "space.dual_share: two models need at least 3 epochs, train.steps are 2 of eval_every",
            id="too few epochs for two models",
        ),
        pytest.param(
            {"compare": {"strategies": ["dual_model"]}, "train": TOY["train"] | {"steps": 20}},
            "compare.strategies: 'dual_model' two models need at least 3 epochs",
            id="an arm of two models in too few epochs",
        ),
        pytest.param({"halving": {"eta": 3}}, "halving: not yet in this version", id="a later key"),
        pytest.param(
            {"confirm": {"strategies": ["focal", "focal"]}}, "named twice in focal, focal", id="an arm twice"
        ),
        pytest.param({"compare": {"split": "train"}}, "compare.split: should be", id="compared on train"),
        pytest.param(
            {"task": "classification", "compare": {"strategies": ["filtered"]}},
            "compare.strategies: 'filtered' is not for classification",
            id="an arm that a classifier cannot train",
        ),
        pytest.param(
            {"task": "classification", "compare": {"reference": "filtered"}},
            "compare.reference: 'filtered' is not for classification",
            id="a reference that a classifier cannot train",
        ),
        pytest.param(
            {"task": "classification", "confirm": {"strategies": ["filtered"]}},
            "confirm.strategies: 'filtered' is not for classification",
            id="a candidate that a classifier cannot train",
        ),
    ],
)
def test_a_bad_request_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in complaint(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [1", "not readable as yaml", id="broken yaml"),
        pytest.param("name: a\nname: b", "'name' stands twice", id="a key twice"),
        pytest.param("- 1", "a mapping of keys expected", id="a list"),
    ],
)
def test_a_file_that_is_no_request(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=expected):
        load_config(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such study file: .*nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="not a file"):
        load_config(tmp_path)


def checked(folder: Path, **changes: Any) -> StudyConfig:
    config = load_config(write(folder, **changes))
    check_data(config, describe(config.data, config.task))
    return config


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"minority": ["raer"]}, "no class 'raer' in the data\nhint: did you mean 'rare'?", id="no class"
        ),
        pytest.param({"minority": ["rare", "common"]}, "there is no majority", id="all classes rare"),
        pytest.param({"data": "demo:toys"}, "no such demo", id="no such demo"),
        pytest.param({"data": "nowhere"}, "no such file or folder", id="missing data"),
        pytest.param({"data": "demo:digits"}, "is for classification", id="data of another task"),
    ],
)
def test_a_request_that_does_not_fit_its_data(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as error:
        checked(tmp_path, **changes)
    assert expected in str(error.value)


DIGITS: dict[str, Any] = {
    "task": "classification",
    "data": "demo:digits",
    "minority": "auto",
    "train": {"model": "small_cnn", "imgsz": 8, "steps": 30, "eval_every": 10},
}


def test_auto_finds_the_rare_digits(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, **DIGITS))
    data = check_data(config, describe(config.data, config.task))
    assert len(data.minority) == 3


def test_a_retention_that_leaves_a_class_without_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"space\.retention: retention 0 leaves no training image of 0, 2"):
        checked(tmp_path, **DIGITS, space={"retention": [0, 0.5]})
    write_folder(tmp_path / "data", {"train/a": 20, "train/b": 1, "train/c": 3})
    write_folder(tmp_path / "data", {"val/a": 2, "val/b": 1, "val/c": 1})
    lone = DIGITS | {"data": "data", "minority": ["c"]}
    with pytest.raises(UsageError, match=r"retention 0\.3 leaves no training image of b\nhint: a higher one"):
        checked(tmp_path, **lone, space={"retention": [0.3, 1.0]})
    checked(tmp_path, **lone | {"minority": ["b", "c"]}, space={"retention": [0.3, 1.0]})


def test_a_per_class_metric_must_name_a_class(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"guards.0.metric: no such metric 'recall/x'"):
        checked(tmp_path, **DIGITS, guards=[{"metric": "recall/x", "max_drop": 0}])
    assert checked(tmp_path, **DIGITS, guards=[{"metric": "recall/3", "max_drop": 0}])


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_study_file(example: Path) -> None:
    assert load_config(example).name == example.stem


def test_every_task_has_its_metrics() -> None:
    assert set(TASKS) == set(BY_TASK) == {"detection", "classification", "toy"}


DETECTOR: dict[str, Any] = {
    "task": "detection",
    "data": "demo:cytology",
    "minority": "auto",
    "space": "detection",
    "train": {"model": "yolo_tiny.yaml", "steps": 30, "eval_every": 10, "amp": "bf16"},
}


def test_mixed_precision_is_refused_where_it_would_be_off(tmp_path: Path) -> None:
    said = complaint(tmp_path, **DETECTOR)
    assert "study.yaml: train.amp: bf16 is off without a GPU for detection, and resources.gpu is 0" in said
    assert "hint: `resources: {gpu: 1}`, or `amp: off`" in said
    for gpu in (0.5, 1):
        assert load_config(write(tmp_path, **DETECTOR, resources={"gpu": gpu})).train.amp == "bf16"
    classifier = load_config(write(tmp_path, **DIGITS | {"train": DIGITS["train"] | {"amp": "bf16"}}))
    assert classifier.resources.gpu == 0  # on a CPU too it computes so


def test_a_studys_own_file_is_read_though_an_earlier_version_asked_for_more(tmp_path: Path) -> None:
    path = write(tmp_path, **DETECTOR)
    assert load_config(path, stored=True).train.amp == "bf16"
    assert load_config(write(tmp_path, resources={"gpu": 2}), stored=True).resources.gpu == 2


def test_resources_may_be_left_to_be_chosen_which_is_no_part_of_a_runs_name(tmp_path: Path) -> None:
    asked, left = load_config(write(tmp_path)), load_config(write(tmp_path, resources="auto"))
    assert left.resources == "auto"
    assert left.model_dump(mode="json")["resources"] == "auto"
    assert left.fixed() == asked.fixed()
    mixed = DETECTOR["train"] | {"amp": "bf16"}
    assert load_config(write(tmp_path, **DETECTOR | {"train": mixed}, resources="auto")).resources == "auto"
