"""Small data that go along with a job: which files, under which name, and what cannot go along."""

from pathlib import Path

import pytest
from commands import study_file
from detection_files import plain, write_yolo

from search.launching.brought import MOST_BYTES, Brought
from search.launching.brought import bring as bring_beside
from search.request.config import StudyConfig
from search.request.reading import load_config
from spaces.errors import UsageError

LABELS = {"train": {"a": "0 .5 .5 .2 .2", "b": "1 .5 .5 .2 .2"}, "val": {"c": "0 .5 .5 .2 .2"}}


def detector(folder: Path, data: object, **changes: object) -> StudyConfig:
    train = {"model": "yolo11n.yaml", "imgsz": 64, "steps": 4, "eval_every": 2}
    task = {"task": "detection", "train": train, "space": "detection", "objectives": ["map50", "map50_95"]}
    return load_config(folder / study_file(folder, **({"data": str(data), "guards": []} | task | changes)))


def classifier(folder: Path, data: object, **changes: object) -> StudyConfig:
    train = {"model": "small_cnn", "imgsz": 8, "steps": 4, "eval_every": 2}
    task = {"task": "classification", "train": train, "objectives": ["minority_recall", "macro_f1"]}
    return load_config(folder / study_file(folder, **({"data": str(data), "guards": []} | task | changes)))


def bring(config: StudyConfig) -> Brought:
    return bring_beside(config, Path("/elsewhere/study.yaml"))


def two_classes(root: Path) -> Path:
    for label in ("common", "rare"):
        for split in ("train", "val"):
            (root / split / label).mkdir(parents=True)
            for i in range(2):
                plain((8, 8), f"{split}{label}{i}").save(root / split / label / f"{i}.png")
    return root


def test_a_folder_goes_along_under_the_name_of_its_content(tmp_path: Path) -> None:
    data = two_classes(tmp_path / "cells")
    (data / ".DS_Store").touch()
    asked = classifier(tmp_path, data)
    brought = bring(asked)
    assert len(brought.files) == 8
    assert not [place for place in brought.files if ".DS_Store" in place]
    place = brought.places["data"]
    assert place.startswith("data/")
    assert place.endswith("/cells")
    assert f"{place}/train/rare/1.png" in brought.files
    assert brought.named(asked, Path("/mnt/runs")).data == f"/mnt/runs/{place}"
    plain((8, 8), "another").save(data / "train" / "rare" / "1.png")
    assert bring(asked).places["data"] != place


def test_what_a_data_file_names_lies_beside_it_and_goes_along(tmp_path: Path) -> None:
    asked = detector(tmp_path, write_yolo(tmp_path / "set", LABELS))
    brought = bring(asked)
    here = {Path(place).relative_to(Path(brought.places["data"]).parent) for place in brought.files}
    assert {Path("data.yaml"), Path("images/train/b.png"), Path("labels/val/c.txt")} <= here


def test_a_model_goes_along_as_a_file(tmp_path: Path) -> None:
    data, elsewhere = write_yolo(tmp_path / "set", LABELS), tmp_path / "models"
    elsewhere.mkdir()
    for name in ("mine.yaml", "another.yaml"):
        (elsewhere / name).write_text(name)
    train = {"model": "models/mine.yaml", "imgsz": 64, "steps": 4, "eval_every": 2}
    asked = detector(tmp_path, data, train=train)
    brought = bring(asked)
    there = brought.named(asked, Path("/runs")).train.model
    assert there.endswith("/mine.yaml")
    assert brought.files[there.removeprefix("/runs/")] == elsewhere / "mine.yaml"
    assert not [place for place in brought.files if "another" in place]


def test_weights_among_the_data_go_along_once(tmp_path: Path) -> None:
    data = two_classes(tmp_path / "cells")
    (data / "weights.pt").write_text("weights")
    train = {"model": "small_cnn", "weights": "cells/weights.pt", "imgsz": 8, "steps": 4, "eval_every": 2}
    brought = bring(classifier(tmp_path, data, train=train))
    assert brought.places["train.weights"] == f"{brought.places['data']}/weights.pt"
    assert len([place for place in brought.files if place.endswith("weights.pt")]) == 1


def test_what_is_no_data_in_their_folder_changes_nothing(tmp_path: Path) -> None:
    data = write_yolo(tmp_path, LABELS)
    asked = detector(tmp_path, data)
    before = bring_beside(asked, tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("search: {trials: 80}")
    (tmp_path / "study.job.zip").touch()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for name in ("study.yaml", "provenance.json", "study.db"):
        (tmp_path / "runs" / "mine" / name).touch()
    assert bring_beside(asked, tmp_path / "study.yaml") == before


def test_what_nodes_see_and_what_is_not_here_stays_as_it_is_named(tmp_path: Path) -> None:
    seen = classifier(tmp_path, two_classes(tmp_path / "cells"), launch={"shared": str(tmp_path)})
    assert bring(seen).files == {}
    assert bring(seen).named(seen, Path("/mnt/runs")) == seen
    assert bring(classifier(tmp_path, "/mnt/all/cells")).files == {}
    demo = load_config(tmp_path / study_file(tmp_path))
    assert bring(demo).named(demo, Path("/mnt/runs")) == demo


def test_more_than_a_little_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = two_classes(tmp_path / "cells")
    with (data / "large.bin").open("wb") as large:
        large.truncate(MOST_BYTES)
    with pytest.raises(UsageError, match=r"cells \(50 MiB\), and more than 50 MiB do not") as refused:
        bring(classifier(tmp_path, data))
    assert "launch: {shared: FOLDER}" in refused.value.hint


@pytest.mark.parametrize("root", ["absolute", "../set"])
def test_data_that_name_files_elsewhere_are_refused(tmp_path: Path, root: str) -> None:
    write_yolo(tmp_path / "set", LABELS)
    path = str(tmp_path / "set") if root == "absolute" else root
    (tmp_path / "set" / "data.yaml").rename(tmp_path / "set.yaml")
    (tmp_path / "alone").mkdir()
    data = tmp_path / "alone" / "data.yaml"
    data.write_text(f"path: {path}\n" + (tmp_path / "set.yaml").read_text())
    with pytest.raises(UsageError, match="would not be whole where the job runs") as refused:
        bring(detector(tmp_path, data))
    assert "rarecall-" not in refused.value.message
