"""MLflow, W&B and TensorBoard are told, and what they hold is read back.

MLflow is told in a SQLite store and, where `RARECALL_MLFLOW` names the `mlflow` of an environment of its own
(whole MLflow does not fit into ours), through a real server.
"""

import json
import os
import socket
import struct
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from search.export.trackers.runs import TrackedStudy, tracked
from search.export.trackers.tell import tell
from search.export.trackers.told import talking_to
from search.record.folder import StudyFolder
from search.request.config import TrackerName
from spaces.errors import RunError, UsageError

FINISHED = ROOT / "tests" / "studies" / "0.1.0" / "finished"
BLOCK, WHOLE, LAST = 32768, 1, 4  # of LevelDB's log
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> TrackedStudy:
    folder = StudyFolder(FINISHED)
    return tracked(folder.open("look"), folder)


def cut(study: TrackedStudy) -> TrackedStudy:
    """As it was before its confirmation: without verdicts and without what comes after the first trial."""
    kept = study.runs[:4]
    return replace(
        study, runs=tuple(replace(run, files={}, tags=run.tags | {"verdict": "none"}) for run in kept)
    )


# MLflow


@pytest.fixture(scope="module", params=["sqlite", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty store."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    database = f"sqlite:///{folder / 'mlflow.db'}"
    if request.param == "sqlite":
        yield database
        return
    executable = os.environ.get("RARECALL_MLFLOW")
    if executable is None:
        pytest.skip("RARECALL_MLFLOW names no mlflow of an environment of its own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    kept = ["--backend-store-uri", database, "--artifacts-destination", str(folder / "files")]
    server = subprocess.Popen(
        [executable, "server", *where, *kept],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", server)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not answer")


def runs_in(store: str, name: str) -> list[Any]:
    from mlflow import MlflowClient  # noqa: PLC0415  (an extra)

    client = MlflowClient(tracking_uri=store)
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id], max_results=1000))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_mlflow_has_each_run_once_after_any_number_of_tellings(
    store: str, study: TrackedStudy, tmp_path: Path
) -> None:
    first = tell("mlflow", cut(study), tmp_path, store)
    assert (first.runs, first.new, first.changed) == (4, 4, 0)
    second = tell("mlflow", study, tmp_path, store)
    assert (second.runs, second.new, second.changed) == (len(study.runs), len(study.runs) - 4, 4)
    third = tell("mlflow", study, tmp_path, store)
    assert (third.new, third.changed) == (0, 0)
    stored = runs_in(store, study.name)
    assert Counter(run.data.tags["rarecall.id"] for run in stored) == Counter(run.id for run in study.runs)
    ours = {run.id: run for run in study.runs}
    theirs = {run.data.tags["rarecall.id"]: run for run in stored}
    for run_id, run in ours.items():
        there = theirs[run_id]
        assert there.data.metrics == pytest.approx(run.metrics)
        assert there.data.params == {name: str(value) for name, value in run.params.items()}
        assert (there.info.run_name, there.data.tags["arm"]) == (run.name, run.arm)
        parent = there.data.tags.get("mlflow.parentRunId")
        assert parent == (None if run.parent is None else theirs[run.parent].info.run_id)
        assert there.info.status == "FINISHED"
    assert theirs[study.runs[3].id].data.tags["verdict"] == "accepted"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_mlflow_has_curves_once_and_the_verdict_as_a_file(
    store: str, study: TrackedStudy, tmp_path: Path
) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415

    tell("mlflow", study, tmp_path, store)
    run = next(run for run in study.runs if run.name == "trial 0")
    there = next(one for one in runs_in(store, study.name) if one.data.tags["rarecall.id"] == run.id)
    client = MlflowClient(tracking_uri=store)
    history = client.get_metric_history(there.info.run_id, "minority_recall")
    by_epoch = {point.step: point.value for point in history}
    assert by_epoch == pytest.approx({epoch: values["minority_recall"] for epoch, values in run.curve})
    assert len(history) == len(run.curve) + 1  # and its final value, at the last epoch
    names = [file.path for file in client.list_artifacts(there.info.run_id)]
    assert names == ["confirm_1_verdict.json"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_server_that_is_gone_is_told_within_a_minute(study: TrackedStudy, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    began = time.monotonic()
    with pytest.raises(RunError, match="mlflow: "):
        tell("mlflow", study, tmp_path, "http://127.0.0.1:9")
    assert time.monotonic() - began < 60


# W&B


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_wandb_offline_has_each_run_once_under_its_own_id(
    study: TrackedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    small = replace(study, runs=study.runs[:5])
    first, second = tell("wandb", small, tmp_path), tell("wandb", small, tmp_path)
    assert ((first.new, first.changed), (second.new, second.changed)) == ((5, 0), (0, 0))
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    ids = Counter(folder.name.rpartition("-")[2] for folder in folders)
    assert ids == Counter(run.id for run in small.runs)
    notes = json.loads((tmp_path / "wandb" / "tracked.json").read_text())
    assert list(notes.values()) == [{run.id: run.content for run in small.runs}]
    run = small.runs[3]
    (folder,) = [folder for folder in folders if folder.name.endswith(run.id)]
    records = wandb_records(folder / f"run-{run.id}.wandb")
    started = next(record.run for record in records if record.HasField("run"))
    assert (started.run_id, started.run_group, started.project) == (run.id, run.arm, study.name)
    history = [record.history for record in records if record.HasField("history")]
    assert len(history) == len(run.curve)
    summary = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for record in records
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert summary["verdict"] == "accepted"
    assert summary["minority_recall"] == pytest.approx(run.metrics["minority_recall"])
    assert (folder / "files" / "confirm_1_verdict.json").is_file()


def wandb_records(file: Path) -> list[Any]:
    """What W&B would send: after a header blocks of LevelDB's log, whose records may be cut into several."""
    from wandb.proto import wandb_internal_pb2  # noqa: PLC0415

    data, at, parts, records = file.read_bytes(), 7, b"", []
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # too little for a head: filled up
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {WHOLE, LAST}:
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


# TensorBoard


def events_in(folder: Path) -> list[Any]:
    """All events of a run, as TensorBoard reads them: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415

    (file,) = folder.glob("events.out.tfevents.*")
    data, at, events = file.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        events.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += 12 + length + 4
    return events


def test_tensorboard_files_hold_every_curve_and_are_written_once(study: TrackedStudy, tmp_path: Path) -> None:
    first = tell("tensorboard", cut(study), tmp_path)
    assert (first.runs, first.new, first.changed) == (4, 4, 0)
    second = tell("tensorboard", study, tmp_path)
    assert (second.new, second.changed) == (len(study.runs) - 4, 4)
    root = tmp_path / "tensorboard"
    before = {file: file.stat().st_mtime_ns for file in root.rglob("events.*")}
    third = tell("tensorboard", study, tmp_path)
    assert (third.new, third.changed) == (0, 0)
    assert {file: file.stat().st_mtime_ns for file in root.rglob("events.*")} == before
    assert len(before) == len(study.runs)
    run = next(run for run in study.runs if run.name == "trial 0")
    values = [
        (event.step, value) for event in events_in(root / "trial_0" / "arm") for value in event.summary.value
    ]
    recall = {step: value.simple_value for step, value in values if value.tag == "minority_recall"}
    assert recall == pytest.approx({epoch: of["minority_recall"] for epoch, of in run.curve})
    assert {value.tag for _, value in values} >= {"verdict/text_summary", "_hparams_/session_start_info"}


def test_another_programs_files_are_left_alone(study: TrackedStudy, tmp_path: Path) -> None:
    theirs = tmp_path / "board" / "baseline" / "arm"
    theirs.mkdir(parents=True)
    with pytest.raises(RunError, match="holds other files"):
        tell("tensorboard", study, tmp_path, str(tmp_path / "board"))
    assert list(theirs.iterdir()) == []


# All of them


def test_a_package_that_is_not_there_is_named_with_its_extra() -> None:
    with pytest.raises(UsageError, match="mlflow is not installed") as caught, talking_to("mlflow"):
        raise ModuleNotFoundError("No module named 'mlflow'")
    assert caught.value.hint == "pip install -c requirements.lock 'rarecall[mlflow]'"


@pytest.mark.parametrize(
    ("tracker", "uri", "said"),
    [
        pytest.param("mlflow", "mlruns", "no address", id="a folder"),
        pytest.param("mlflow", "sqlite:////no/such/mlflow.db", "cannot be written", id="no such folder"),
        pytest.param("tensorboard", "http://127.0.0.1:6006", "no folder", id="a server"),
    ],
)
def test_an_address_of_the_wrong_kind_is_refused(
    tracker: TrackerName, uri: str, said: str, study: TrackedStudy, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        tell(tracker, study, tmp_path, uri)


def test_whatever_else_a_tracker_raises_is_a_run_time_error() -> None:
    with pytest.raises(RunError, match=r"^wandb: no space left\nhint: "), talking_to("wandb"):
        raise OSError("no space left\nand more")
