"""A bundle's `train.py` trains without rarecall what was trained with it, and ends with the same metrics."""

import ast
import csv
import io
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from bundles import alone
from in_process import Here
from rich.console import Console
from tiny_detector import draw_tiles, set_up

import trainables
from search.export.bundle import export_run
from search.export.chosen import chosen_baseline, chosen_confirmed, chosen_trial
from search.export.contents.carried import CARRIED
from search.pipeline.searching import search
from search.record.folder import StudyFolder
from trainables.contract.trial import TrialSpec
from trainables.data.boxes.data_set import detection_once
from trainables.data.sources import images_of

DIGITS = """
name: again
task: classification
data: demo:digits
minority: ["1", "8"]
train: {model: small_cnn, imgsz: 8, batch: 16, steps: 24, eval_every: 6, lr: 0.0025}
objectives: [minority_recall, macro_f1]
guards: [{metric: accuracy, max_drop: 0.9}]
baseline: {strategy: plain, seeds: 1}
space: {retention: [0.3, 0.5], focal_gamma: [0.5, 1.5], augment_minority: [0.3, 0.5]}
search: {trials: 1, seed: 0}
keep: all
"""
TILES = """
name: again
task: detection
data: DATA
minority: [cluster]
train: {model: yolo_tiny.yaml, imgsz: 64, batch: 4, steps: 48, eval_every: 12, lr: 0.01}
objectives: [minority_recall, map50_95]
guards: [{metric: map50_95, max_drop: 0.9}]
baseline: {strategy: plain, seeds: 1}
space: SPACE
search: {trials: 1, seed: 0}
keep: all
"""
WEIGHTED = "{sampler_power: [0.8, 1.0], focal_gamma: [0.5, 1.5], augment_minority: [0.3, 0.5]}"
# As the command `yolo`, without network and a person's settings.
YOLO = """
import os, sys
os.environ |= {"YOLO_OFFLINE": "1", "YOLO_CONFIG_DIR": sys.argv.pop(), "YOLO_AUTOINSTALL": "0"}
from ultralytics.cfg import entrypoint
entrypoint()
"""
PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}


def searched(root: Path, study: str) -> StudyFolder:
    root.mkdir(exist_ok=True)
    (root / "study.yaml").write_text(study)
    quiet = Console(file=io.StringIO())
    return search(root / "study.yaml", root, cluster=Here(), resume=False, console=quiet).folder


def bundle_of_trial(folder: StudyFolder, target: Path) -> Path:
    study = folder.open()
    return export_run(folder, study, chosen_trial(study, 0), target)


def tiles_study(data: Path, space: str = WEIGHTED, model: str = "yolo_tiny.yaml") -> str:
    return TILES.replace("SPACE", space).replace("DATA", str(data)).replace("yolo_tiny.yaml", model)


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    return bundle_of_trial(searched(root, DIGITS), root / "bundle")


@pytest.fixture(scope="module")
def of_tiles(tmp_path_factory: pytest.TempPathFactory, three_splits: Path) -> Path:
    root = tmp_path_factory.mktemp("tiles")
    return bundle_of_trial(searched(root, tiles_study(three_splits)), root / "bundle")


def check_same_metrics(bundle: Path, root: Path) -> None:
    """What `train.py` ends with, where neither we nor what we search with can be imported."""
    lacking = ("ray", "optuna", "sqlalchemy")
    done = alone(bundle / "train.py", "--out", root / "again", cwd=root, lacking=lacking)
    assert done.returncode == 0, done.stderr
    before = json.loads((bundle / "metrics.json").read_text())["metrics"]
    stored = json.loads((root / "again" / "result" / "report.json").read_text())
    assert stored["report"]["metrics"] == pytest.approx(before, abs=1e-3)
    assert "the largest difference of" in done.stdout
    assert "these are not the data" not in done.stdout


def test_a_classifier_ends_with_the_metrics_of_the_trial(of_digits: Path, tmp_path: Path) -> None:
    check_same_metrics(of_digits, tmp_path)
    np.save(tmp_path / "images.npy", images_of("demo:digits", 8).splits["val"].images[:20])
    new = tmp_path / "again" / "result" / "weights.pt"
    said = [
        alone(of_digits / "predict.py", tmp_path / "images.npy", *options, cwd=tmp_path)
        for options in ((), ("--weights", new))
    ]
    assert said[0].stdout == said[1].stdout
    assert len(said[1].stdout.splitlines()) == 20


def test_a_detector_with_sampler_focal_loss_and_augmentation_does(of_tiles: Path, tmp_path: Path) -> None:
    check_same_metrics(of_tiles, tmp_path)


def test_two_detectors_do(tmp_path: Path, three_splits: Path) -> None:
    folder = searched(tmp_path / "study", tiles_study(three_splits, "{dual_share: [0.4, 0.6]}"))
    check_same_metrics(bundle_of_trial(folder, tmp_path / "bundle"), tmp_path)


def test_a_persons_own_weights_to_start_from_go_along(
    of_tiles: Path, tmp_path: Path, three_splits: Path
) -> None:
    own = Path(shutil.copy(of_tiles / "weights.pt", tmp_path / "mine.pt"))
    folder = searched(tmp_path / "study", tiles_study(three_splits, model=str(own)))
    bundle = bundle_of_trial(folder, tmp_path / "bundle")
    own.unlink()
    check_same_metrics(bundle, tmp_path)


def test_other_data_are_said_to_be_and_none_are_one_sentence(
    of_tiles: Path, tmp_path: Path, tiles: Path
) -> None:
    script = of_tiles / "train.py"
    nowhere = alone(script, "--out", "a", "--data", "none.yaml", cwd=tmp_path)
    assert nowhere.returncode != 0
    assert "data: no such file or folder" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
    other = alone(script, "--out", "b", "--data", tiles, "--seed", "7", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert "these are not the data that it was trained on" in other.stdout


def test_the_settings_are_those_of_the_run(confirmed_study: Path) -> None:
    study = StudyFolder(confirmed_study).open()
    for chosen in (chosen_baseline(study), chosen_trial(study, None), chosen_confirmed(study)):
        assert chosen.spec(study).key == chosen.report.key


@pytest.mark.parametrize(
    ("name", "other"), [("of_digits", "trainables/detector"), ("of_tiles", "trainables/classifier")]
)
def test_what_it_carries_is_our_source_and_its_packages_are_listed(
    name: str, other: str, request: pytest.FixtureRequest
) -> None:
    bundle: Path = request.getfixturevalue(name)
    source = Path(trainables.__file__).parent.parent
    wanted: set[str] = set()
    for path in (bundle / CARRIED).rglob("*.py"):
        ours = path.relative_to(bundle / CARRIED).as_posix()
        assert path.read_bytes() == (source / ours).read_bytes()
        assert not ours.startswith(other)
        for node in ast.parse(path.read_text()).body:  # what functions import, they can do without
            if isinstance(node, ast.Import):
                wanted |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                wanted.add(str(node.module).partition(".")[0])
    wanted -= {*sys.stdlib_module_names, "spaces", "trainables"}
    listed = (bundle / "requirements-train.txt").read_text()
    assert {"torch", "numpy", "pydantic"} < wanted
    assert not [module for module in wanted if f"\n{PACKAGES.get(module, module)}==" not in listed]


def test_the_list_is_of_the_images_that_are_drawn(of_tiles: Path, tmp_path: Path, three_splits: Path) -> None:
    assert len((of_tiles / "train.txt").read_text().splitlines()) == 24  # none is left out
    folder = searched(tmp_path / "study", tiles_study(three_splits, "{retention: [0.3, 0.5]}"))
    bundle = bundle_of_trial(folder, tmp_path / "bundle")
    images = (bundle / "train.txt").read_text().splitlines()
    assert len(images) == json.loads((bundle / "metrics.json").read_text())["applied"]["images_kept"] < 24
    settings = json.loads((bundle / "train.json").read_text())
    run = set_up(TrialSpec.model_validate(settings["spec"]), tmp_path / "run")
    assert images == run.train_loader.dataset.im_files


def test_data_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    data = draw_tiles(tmp_path / "moved", {"train": 8, "val": 4})
    folder = searched(tmp_path / "study", tiles_study(data))
    shutil.rmtree(tmp_path / "moved")
    detection_once.cache_clear()  # as another process would find it
    bundle = bundle_of_trial(folder, tmp_path / "bundle")
    assert not (bundle / "train.txt").exists()
    assert "There is no list of its training images: data: " in (bundle / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_plain_ultralytics_trains_by_train_yaml(tmp_path: Path, three_splits: Path) -> None:
    study = tiles_study(three_splits, "{retention: [0.4, 0.6], mosaic: [0.3, 0.5]}")
    bundle = bundle_of_trial(searched(tmp_path / "study", study), tmp_path / "bundle")
    (tmp_path / "yolo.py").write_text(YOLO)
    here = [f"project={tmp_path / 'runs'}", "device=cpu", "workers=0", "plots=False", tmp_path / "settings"]
    done = alone(tmp_path / "yolo.py", "detect", "train", "cfg=train.yaml", *here, cwd=bundle)
    assert done.returncode == 0, done.stderr
    asked = yaml.safe_load((bundle / "train.yaml").read_text())
    (run,) = (tmp_path / "runs").iterdir()
    with (run / "results.csv").open() as table:
        epochs = list(csv.DictReader(table))
    assert len(epochs) == asked["epochs"]
    images = len((bundle / "train.txt").read_text().splitlines())
    assert images < 24
    assert abs(asked["epochs"] * math.ceil(images / 4) - 48) <= math.ceil(images / 4) / 2
    assert (run / "weights" / "last.pt").is_file()
