"""Data on a storage (here `file://`) are staged into the node's cache: once, whole, and what may fail."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from detection_files import write_yolo
from drawn_images import write_folder
from small_disk import Disk
from staging import ended, fetched, forget, staging

from spaces.errors import RunError, UsageError
from trainables.contract.space import is_out_of_space
from trainables.data import mapped
from trainables.data.mapped import LIMIT
from trainables.data.sources import boxes_of, bring, describe, images_of
from trainables.data.staging import fetched as fetching
from trainables.data.staging.fetched import DataChanged
from trainables.data.staging.staged import as_seen, local, seen, stage
from trainables.storage.address import parsed
from trainables.storage.reading import Storage, StorageAway

FOLDERS = {"train/a": 6, "train/b": 4, "val/a": 3, "val/b": 3}
ALL = sorted(f"{folder}/{i:03}.jpg" for folder, count in FOLDERS.items() for i in range(count))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    forget()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "storage" / "set", FOLDERS)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this process fetches."""
    file, fetch = tmp_path / "log", Storage.fetch

    def noted(storage: Storage, name: str, target: Path) -> str | None:
        with file.open("a") as out:
            out.write(f"{name}\n")
        return fetch(storage, name, target)

    monkeypatch.setattr(Storage, "fetch", noted)
    return file


def names_in(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_a_folder_is_on_this_node_as_it_is_there_and_its_data_are_the_same(pictures: Path) -> None:
    address = f"file://{pictures}"
    assert names_in(local(address)) == ALL
    for name in ALL:
        assert (local(address) / name).read_bytes() == (pictures / name).read_bytes()
        assert (local(address) / name).stat().st_mtime_ns == (pictures / name).stat().st_mtime_ns
    here, there = describe(address, "classification"), describe(str(pictures), "classification")
    assert here.fingerprint == there.fingerprint
    assert (
        images_of(address, 16).splits["train"].images == images_of(str(pictures), 16).splits["train"].images
    ).all()


def test_of_a_data_yaml_all_that_lies_in_its_folder(tmp_path: Path) -> None:
    labels = {
        split: {f"{split}{i}": "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2" for i in range(3)}
        for split in ("train", "val")
    }
    file = write_yolo(tmp_path / "storage", labels)
    address = f"file://{file}"
    assert describe(address, "detection").fingerprint == describe(str(file), "detection").fingerprint
    assert boxes_of(address).fingerprint == boxes_of(str(file)).fingerprint
    assert local(address).name == "data.yaml"


def test_what_is_here_is_not_fetched_again_by_whoever_comes_later(pictures: Path, log: Path) -> None:
    address = f"file://{pictures}"
    stage(address)
    assert fetched(log) == ALL
    forget()
    stage(address)
    assert fetched(log) == ALL


def test_two_processes_that_stage_at_once_fetch_each_file_once(pictures: Path, tmp_path: Path) -> None:
    address, log = f"file://{pictures}", tmp_path / "log"
    both = [staging(address, log, pause_s=0.1) for _ in range(2)]
    first, second = map(ended, both)
    assert first == second
    assert names_in(Path(first.strip())) == ALL
    assert fetched(log) == ALL


def test_one_that_is_killed_leaves_nothing_that_is_used_and_the_next_goes_on(
    pictures: Path, tmp_path: Path, cache: Path
) -> None:
    address, log = f"file://{pictures}", tmp_path / "log"
    ended(staging(address, log, dies_after=8))
    assert not [folder for folder in (cache / "staged").iterdir() if folder.is_dir() and not folder.suffix]
    files = Path(ended(staging(address, log)).strip())
    assert names_in(files) == ALL
    assert len(fetched(log)) <= len(ALL) + 2  # a thread each was on its way
    assert {file.name for file in files.parent.iterdir()} == {"files", "files.json"}
    for name in ALL:
        assert (files / name).read_bytes() == (pictures / name).read_bytes()


def test_an_interrupt_does_not_wait_for_all_that_is_to_come(pictures: Path, tmp_path: Path) -> None:
    address, log = f"file://{pictures}", tmp_path / "log"
    process = staging(address, log, pause_s=1.0)
    until = time.monotonic() + 60
    while not log.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in ended(process)
    assert len(fetched(log)) <= 4
    assert names_in(Path(ended(staging(address, log)).strip())) == ALL
    assert fetched(log) == ALL


def test_what_is_missing_cut_or_changed_here_is_fetched_again_and_nothing_else(
    pictures: Path, log: Path
) -> None:
    address = f"file://{pictures}"
    files = local(address)
    (files / ALL[0]).unlink()
    (files / ALL[1]).write_bytes(b"short")
    content = (files / ALL[2]).read_bytes()
    (files / ALL[2]).write_bytes(bytes(len(content)))
    (files / ALL[3]).touch()
    forget()
    log.unlink()
    assert local(address) == files
    assert fetched(log) == ALL[:3]
    for name in ALL:
        assert (files / name).read_bytes() == (pictures / name).read_bytes()
    (files.parent / "files.json").write_text("{")
    forget()
    log.unlink()
    assert local(address) == files
    assert fetched(log) == []  # in the sizes and of the times that the storage says


def test_other_content_is_other_data(pictures: Path) -> None:
    address = f"file://{pictures}"
    before = local(address)
    fingerprint = describe(address, "classification").fingerprint
    shutil.copy(pictures / ALL[0], pictures / "train" / "a" / "more.jpg")
    assert local(address) == before  # a process keeps to what it has seen, until it looks anew
    bring(address, "classification")
    assert local(address) != before
    assert describe(address, "classification").fingerprint != fingerprint


def test_studies_and_hidden_files_among_the_data_are_no_data(pictures: Path) -> None:
    address = f"file://{pictures}"
    stage(address)
    content = seen()
    for name in ("runs/x/study.yaml", "runs/x/provenance.json", "runs/x/trials/1/weights.pt", "runs/.lease"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_text("changes while it is searched")
    stage(address)
    assert seen() == content


def test_a_worker_uses_what_its_driver_has_seen_or_says_that_it_has_changed(pictures: Path) -> None:
    address = f"file://{pictures}"
    here = local(address)
    content = seen()
    forget()
    away = pictures.rename(pictures.with_name("away"))
    with as_seen(content):
        assert local(address) == here  # without a look at the storage
    forget()
    shutil.copytree(away, pictures)
    (pictures / ALL[0]).write_bytes(b"other")
    shutil.rmtree(here.parent)
    with as_seen(content), pytest.raises(DataChanged, match="has changed since the search looked at it"):
        local(address)


def test_what_changes_while_it_is_fetched_is_not_used(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Storage.fetch

    def overtaken(storage: Storage, name: str, target: Path) -> str | None:
        got = fetch(storage, name, target)
        (pictures / ALL[0]).write_bytes(b"other")
        return got

    monkeypatch.setattr(Storage, "fetch", overtaken)
    with pytest.raises(DataChanged, match="has changed while it was brought here"):
        stage(f"file://{pictures}")
    assert not [folder for folder in (cache / "staged").iterdir() if folder.is_dir()]


def test_what_is_damaged_is_not_mended_with_other_content(pictures: Path) -> None:
    address, file = f"file://{pictures}", pictures / ALL[0]
    (local(address) / ALL[0]).unlink()
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    forget()
    with pytest.raises(DataChanged):
        local(address)


@pytest.mark.parametrize(
    ("named", "task", "said"),
    [
        pytest.param("set/nowhere", "classification", "no file below file://", id="there is nothing"),
        pytest.param("empty", "classification", "no file below file://", id="an empty folder"),
        pytest.param("set/list.csv", "classification", "no such file: file://", id="no such list"),
        pytest.param("set/data.yaml", "detection", "no such file: file://", id="no data.yaml"),
        pytest.param("set", "detection", "is neither a YOLO data.yaml nor", id="a folder for a detector"),
        pytest.param(
            "set/data.yaml", "classification", "is neither a folder of", id="a yaml for a classifier"
        ),
        pytest.param("set", "toy", "toy has no data of its own", id="a task without data"),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_told_and_nothing_fetched(
    pictures: Path, log: Path, named: str, task: str, said: str
) -> None:
    (pictures.parent / "empty").mkdir()
    with pytest.raises(UsageError, match=said):
        bring(f"file://{pictures.parent}/{named}", task)  # type: ignore[arg-type]
    assert fetched(log) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "/data/set"),
        ("path", "../set"),
        ("val", "../../images/val"),
        ("val", ["images/val", "../more"]),
        ("train", "/data/set/train"),
        ("val", ["images/val", "/data/set/val"]),
        ("images", {"val": "s3://b/x"}),
    ],
)
def test_a_data_yaml_that_names_what_is_not_below_it_is_refused_before_anything_else_is_fetched(
    tmp_path: Path, log: Path, key: str, value: object
) -> None:
    file = write_yolo(tmp_path / "storage", {"train": {"a": ""}, "val": {"b": ""}})
    described = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(described | {key: value}))
    with pytest.raises(UsageError, match=f"{key}: '.*' is not in file://"):
        bring(f"file://{file}", "detection")
    assert fetched(log) == ["data.yaml"]


def test_errors_of_what_was_staged_name_the_address(pictures: Path, cache: Path) -> None:
    shutil.rmtree(pictures / "val")
    with pytest.raises(UsageError) as refused:
        describe(f"file://{pictures}", "classification")
    assert f"file://{pictures} has a folder train, but no folder val" in str(refused.value)
    assert str(cache) not in str(refused.value)


def test_what_has_no_room_is_refused_with_what_it_needs(
    pictures: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "0.00002")
    with pytest.raises(
        UsageError, match=r"needs 0.1 MiB in .*, and there is room for 0.0 MiB, within RARECALL_CACHE_GB"
    ):
        stage(f"file://{pictures}")
    assert fetched(log) == []


def test_a_disk_that_fills_up_meanwhile_gets_its_room_back(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, fetch = Disk(tmp_path / "small"), Storage.fetch

    def filled(storage: Storage, name: str, target: Path) -> str | None:
        if name == ALL[5]:
            disk.fill()
        return fetch(storage, name, target)

    monkeypatch.setenv("RARECALL_CACHE", str(disk.root))
    monkeypatch.setattr(Storage, "fetch", filled)
    monkeypatch.setattr(fetching, "THREADS", 1)
    try:
        with pytest.raises(RunError, match="cannot be written: No space left on device") as full:
            stage(f"file://{pictures}")
        assert is_out_of_space(full.value)
        assert not [folder for folder in (disk.root / "staged").iterdir() if folder.is_dir()]
        monkeypatch.setattr(Storage, "fetch", fetch)
        (disk.root / "ballast").unlink()
        assert names_in(local(f"file://{pictures}")) == ALL
    finally:
        forget()
        disk.close()


def test_staged_data_that_nobody_uses_go_where_room_is_needed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LEFT_FREE", 0.0)
    other = write_folder(tmp_path / "storage" / "other", FOLDERS)
    size = sum(-(-file.stat().st_size // 4096) * 4096 for file in pictures.rglob("*.jpg"))
    monkeypatch.setenv(LIMIT, str(1.5 * size / 2**30))
    user = staging(f"file://{pictures}", tmp_path / "log")
    assert user.stdout is not None
    files = Path(user.stdout.readline().strip())
    with pytest.raises(UsageError, match="there is room for"):
        stage(f"file://{other}")
    assert names_in(files) == ALL  # somebody uses it
    ended(user)
    stage(f"file://{other}")
    assert not files.exists()
    assert names_in(local(f"file://{other}")) == ALL


def test_what_a_killed_process_has_left_goes_too(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(mapped, "LEFT_FREE", 0.0)
    ended(staging(f"file://{pictures}", tmp_path / "log", dies_after=12))
    left = next((cache / "staged").glob("*.tmp"))
    other = write_folder(tmp_path / "storage" / "other", FOLDERS)
    size = sum(-(-file.stat().st_size // 4096) * 4096 for file in other.rglob("*.jpg"))
    monkeypatch.setenv(LIMIT, str(1.2 * size / 2**30))
    stage(f"file://{other}")
    assert not left.exists()


def test_what_other_threads_try_again_ends_once_it_is_left(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, storage = threading.Event(), Storage(parsed(f"file://{pictures}"))

    def away(self: Storage, name: str) -> str:
        tried.set()
        raise OSError("no route to host")

    monkeypatch.setattr(Storage, "_of", away)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(storage.read, "a")
        assert tried.wait(10)
        storage.leave()
        with pytest.raises(StorageAway):
            reading.result(timeout=10)
