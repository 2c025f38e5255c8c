"""Small data that go along with a job: which files, under which name, and what cannot go along."""

from pathlib import Path

import pytest
from commands import study_file
from detection_files import TRAIN, VAL, plain, write_splits, write_yolo

from search.launching.brought import MOST_BYTES, bring
from search.request.config import StudyConfig
from search.request.reading import load_config
from spaces.errors import UsageError
from trainables.contract.trial import WholeImages

LABELS = {"train": {"a": "0 .5 .5 .2 .2", "b": "1 .5 .5 .2 .2"}, "val": {"c": "0 .5 .5 .2 .2"}}


def detector(folder: Path, data: object, **changes: object) -> StudyConfig:
    train = {"model": "yolo11n.yaml", "imgsz": 64, "steps": 4, "eval_every": 2}
    task = {"task": "detection", "train": train, "space": "detection", "objectives": ["map50", "map50_95"]}
    return load_config(folder / study_file(folder, **({"data": str(data), "guards": []} | task | changes)))


def classifier(folder: Path, data: object, **changes: object) -> StudyConfig:
    train = {"model": "small_cnn", "imgsz": 8, "steps": 4, "eval_every": 2}
    task = {"task": "classification", "train": train, "objectives": ["minority_recall", "macro_f1"]}
    return load_config(folder / study_file(folder, **({"data": str(data), "guards": []} | task | changes)))


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


def clutter(folder: Path) -> None:
    """What gets into a folder of data, and is none."""
    for name in ("notes.md", "error-1.txt", "other.yaml", "study.job.zip", "weights.pt"):
        (folder / name).write_text(name)
    plain((20, 10), "a figure").save(folder / "front.png")
    (folder / "runs" / "mine").mkdir(parents=True)
    for name in ("study.yaml", "provenance.json", "study.db", "front.png"):
        (folder / "runs" / "mine" / name).write_text(name)


def test_what_lies_beside_a_data_file_changes_nothing(tmp_path: Path) -> None:
    asked = detector(tmp_path, write_yolo(tmp_path, LABELS))
    before = bring(asked)
    clutter(tmp_path)
    assert bring(asked) == before
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .2 .3")
    assert bring(asked).places != before.places


def test_what_lies_beside_images_in_folders_changes_nothing(tmp_path: Path) -> None:
    data = two_classes(tmp_path / "cells")
    asked = classifier(tmp_path, data)
    before = bring(asked)
    clutter(data)
    (data / "train" / "rare" / "notes.md").touch()
    assert bring(asked) == before


def test_what_lies_beside_a_csv_changes_nothing(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "cells")
    files = sorted(root.rglob("*.png"))
    rows = [f"{file.relative_to(root)},{file.parent.name},{file.parent.parent.name}" for file in files]
    (root / "list.csv").write_text("path,label,split\n" + "\n".join(rows))
    asked = classifier(tmp_path, root / "list.csv")
    before = bring(asked)
    assert len(before.files) == 9
    clutter(root)
    assert bring(asked) == before


def test_of_coco_files_the_images_that_they_list_go_along(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "set")
    (tmp_path / "set" / "manifest.csv").write_text(
        "image,source\n" + "\n".join(f"{name},{name}" for name in [*TRAIN, *VAL])
    )
    asked = detector(tmp_path, data)
    before = bring(asked)
    names = {Path(place).name for place in before.files}
    assert names == {data.name, "train.json", "val.json", "manifest.csv", *TRAIN, *VAL}
    clutter(tmp_path / "set")
    assert bring(asked) == before


def test_of_a_list_file_what_it_lists_goes_along_and_a_link_as_what_it_links_to(tmp_path: Path) -> None:
    data = write_yolo(tmp_path / "set", LABELS)
    linked = tmp_path / "set" / "images" / "train" / "a.png"
    linked.rename(tmp_path / "elsewhere.png")
    linked.symlink_to(tmp_path / "elsewhere.png")
    asked = detector(tmp_path, data)
    before = bring(asked)
    assert linked.resolve() in {file.resolve() for file in before.files.values()}
    (tmp_path / "set" / "val.txt").write_text("images/val/c.png\n")
    data.write_text(data.read_text().replace("images/val", "val.txt"))
    assert {Path(place).name for place in bring(asked).files} == {
        *("data.yaml", "val.txt", "a.png", "b.png", "c.png", "a.txt", "b.txt", "c.txt")
    }


def test_an_image_that_cannot_be_read_goes_along_as_the_splits_count_it(tmp_path: Path) -> None:
    many = {f"i{i:03}": "0 .5 .5 .2 .2" for i in range(200)}
    data = write_yolo(tmp_path / "set", LABELS | {"train": many})
    (tmp_path / "set" / "images" / "train" / "i000.png").write_bytes(b"broken")
    assert "i000.png" in {Path(place).name for place in bring(detector(tmp_path, data)).files}


def whole(folder: Path, **data: str) -> StudyConfig:
    tile = {"size": 32, "overlap": 4}
    return detector(folder, "").model_copy(update={"data": WholeImages.model_validate(data | {"tile": tile})})


def test_whole_images_go_along_with_their_labels_and_their_groups(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name, text in (LABELS["train"] | LABELS["val"]).items():
        plain((40, 20), name).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    (folder / "classes.txt").write_text("cell\ncluster\n")
    (tmp_path / "patients.csv").write_text("image,group\na.png,1\nb.png,2\nc.png,3\n")
    asked = whole(tmp_path, images=str(folder), group_by=str(tmp_path / "patients.csv"))
    before = bring(asked)
    images, labels = ({f"{name}.{suffix}" for name in "abc"} for suffix in ("png", "txt"))
    names = {Path(place).name for place in before.files}
    assert names == images | labels | {"classes.txt", "patients.csv"}
    (folder / "notes.md").touch()
    (tmp_path / "notes.md").touch()
    assert bring(asked) == before


def test_what_nodes_see_and_what_is_not_here_stays_as_it_is_named(tmp_path: Path) -> None:
    seen = classifier(tmp_path, two_classes(tmp_path / "cells"), launch={"shared": str(tmp_path)})
    assert bring(seen).files == {}
    assert bring(seen).named(seen, Path("/mnt/runs")) == seen
    assert bring(classifier(tmp_path, "/mnt/all/cells")).files == {}
    demo = load_config(tmp_path / study_file(tmp_path))
    assert bring(demo).named(demo, Path("/mnt/runs")) == demo


def test_more_than_a_little_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = two_classes(tmp_path / "cells")
    with (data / "train" / "rare" / "large.png").open("wb") as large:
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
