"""A timed probe: what it measures, what it leaves, and what comes of it in the plan."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from in_process import DATA, Here, config
from toy_experiments import quiet, request_of

from search.cli.main import main
from search.cluster.health import facts
from search.cluster.here import Here as Shipped
from search.pipeline.planning import probing
from search.pipeline.planning.known import PROBES, Probe, known
from search.pipeline.planning.probing import probe
from search.record.files import RunFiles
from search.record.storage.address import runs_folder
from search.request.computing.resources import Resources
from search.request.config import StudyConfig
from search.work.protocol import Work
from spaces.errors import RunError, UsageError
from trainables.contract.trial import EpochMetrics, OnEpoch, Outcome, TrialFailure, TrialFolder, TrialSpec
from trainables.worker.run import run_trial

LONG = {"train": {"model": "toy", "steps": 100, "eval_every": 10}}
ONE_CPU = Resources(cpu=1, gpu=0)


class Clockwork(Shipped):
    """This process: the first run takes a minute to start, others 5 s; an epoch takes 20 s, the end 7 s."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, list[TrialSpec]()
        super().__init__(self._train, lambda: self.now)

    def _train(self, spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
        self.now += 5 if self.ran else 60
        self.ran.append(spec)

        def later(measured: EpochMetrics) -> None:
            self.now += 20
            on_epoch(measured)

        outcome = run_trial(spec, folder, later)
        self.now += 7
        return outcome


def probed(cluster: Shipped, runs: Path, at_once: int = 2, **changes: Any) -> tuple[StudyConfig, Probe]:
    request = config(**LONG | changes)
    return request, probe(request, DATA, runs, cluster, lambda resources: (at_once, ""), quiet())


def test_the_start_an_epoch_and_the_end_are_told_apart_and_nothing_else_is_left(tmp_path: Path) -> None:
    cluster = Clockwork()
    request, found = probed(cluster, tmp_path)
    assert [spec.epochs for spec in cluster.ran] == [1, 1, 3, 3, 3, 3]
    assert len({spec.key for spec in cluster.ran}) == 6
    *baseline, one, two, three = [spec.strategy for spec in cluster.ran]
    assert set(baseline) == {request.baseline_strategy}
    assert len({one, two, three, request.baseline_strategy}) == 4  # drawn from the space
    assert found.seconds == (25, 20, 27)
    (kept,) = tmp_path.rglob("*.json")
    assert sorted(tmp_path.rglob("*")) == [kept.parent, kept]
    said = known(request, tmp_path)
    assert said is not None
    assert (said.run_s, said.resources) == (5 + 10 * 20 + 7, ONE_CPU)
    assert said.by.endswith(", 2 at once")


def test_on_a_storage_nodes_without_a_common_folder_reach_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    storage = tmp_path / "there"
    storage.mkdir()
    places = list[tuple[str, str]]()

    class Nodes(Clockwork):
        def launch(self, work: Work, files: RunFiles) -> None:
            with files.marked() as (path, address, mark):
                places.append((path, facts.lacks([path] if path else [], address, mark)))
            assert Path(files.storage[0]).is_relative_to(storage)
            super().launch(work, files)

    runs = runs_folder(storage.as_uri())
    request, _ = probed(Nodes(), runs)
    assert places == [("", "")]
    assert known(request, runs) is not None
    assert not [*storage.iterdir(), *runs.rglob("trials")]


@pytest.mark.parametrize(("steps", "run_s"), [(10, 32), (20, 52), (30, 72), (1000, 2012)])
def test_what_is_known_carries_over_to_other_lengths(tmp_path: Path, steps: int, run_s: float) -> None:
    probed(Clockwork(), tmp_path)
    said = known(config(train={"model": "toy", "steps": steps, "eval_every": 10}), tmp_path)
    assert said is not None
    assert said.run_s == run_s


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_short_study_is_probed_whole_and_says_nothing_of_a_longer_one(tmp_path: Path, epochs: int) -> None:
    short = {"train": {"model": "toy", "steps": 10 * epochs, "eval_every": 10}}
    request, found = probed(Clockwork(), tmp_path, **short)
    assert sum(found.seconds) == 5 + 20 * epochs + 7
    said = known(request, tmp_path)
    assert said is not None
    assert said.run_s == 5 + 20 * epochs + 7
    assert known(config(**LONG), tmp_path) is None


@pytest.mark.parametrize(
    "other",
    [{"train": LONG["train"] | {"batch": 2}}, {"resources": {"cpu": 2, "gpu": 0}}, {"data": "demo:toy2"}],
)
def test_it_says_nothing_of_runs_of_another_kind(tmp_path: Path, other: dict[str, Any]) -> None:
    probed(Clockwork(), tmp_path)
    assert known(config(**LONG).model_copy(update=vars(config(**LONG | other))), tmp_path) is None


def test_never_more_than_eight_at_once(tmp_path: Path) -> None:
    cluster = Clockwork()
    assert probed(cluster, tmp_path, at_once=40)[1].at_once == 8
    assert len(cluster.ran) == 16


def test_a_run_that_fails_ends_it_with_the_reason(tmp_path: Path) -> None:
    def fails(spec: TrialSpec) -> Outcome:
        return TrialFailure(key=spec.key, kind="diverged", reason="the loss is nan")

    with pytest.raises(RunError, match=r"the probe's run failed \(diverged\): the loss is nan"):
        probed(Here(instead=fails), tmp_path)
    assert list(tmp_path.rglob("*.json")) == []
    assert list((tmp_path / PROBES).iterdir()) == []


def test_a_strategy_that_diverges_tells_nothing(tmp_path: Path) -> None:
    class Diverging(Clockwork):
        def _train(self, spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
            outcome = super()._train(spec, folder, on_epoch)
            if len(self.ran) != 4:
                return outcome
            return TrialFailure(key=spec.key, kind="diverged", reason="the loss is nan")

    assert probed(Diverging(), tmp_path)[1].seconds == (25, 20, 27)


def test_interrupted_it_keeps_nothing(tmp_path: Path) -> None:
    class Interrupting(Clockwork):
        def _train(self, spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Outcome:
            signal.raise_signal(signal.SIGINT)
            return super()._train(spec, folder, on_epoch)

    with pytest.raises(KeyboardInterrupt):
        probed(Interrupting(), tmp_path)
    assert list((tmp_path / PROBES).iterdir()) == []


def test_a_folder_that_cannot_be_written_and_a_damaged_probe_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write .*/file: Not a directory"):
        probed(Clockwork(), tmp_path / "file")
    request, _ = probed(Clockwork(), tmp_path)
    (kept,) = tmp_path.rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:40])
    with pytest.raises(RunError, match="is damaged") as damaged:
        known(request, tmp_path)
    assert "rarecall check STUDY --probe" in damaged.value.hint
    assert probed(Clockwork(), tmp_path)[1].seconds == (25, 20, 27)  # replaces it


def test_its_files_have_an_absolute_path_whatever_runs_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with probing._files(Path("runs")) as files:
        assert Path(files.storage[0]).is_absolute()
        assert files.root.is_relative_to(tmp_path)


def test_two_models_have_the_epochs_that_they_need(tmp_path: Path) -> None:
    cluster = Here(instead=lambda spec: TrialFailure(key=spec.key, kind="error", reason="none is trained"))
    two = {
        "task": "detection",
        "space": "detection",
        "train": {"model": "yolo11n.yaml", "steps": 30, "eval_every": 10},
        "baseline": {"strategy": "dual_model"},
    }
    with pytest.raises(RunError, match="none is trained"):
        probed(cluster, tmp_path, **two)
    assert [spec.epochs for spec in cluster.ran] == [3]


@pytest.mark.slow
def test_on_a_real_ray_the_command_says_what_a_run_takes_and_what_auto_chose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {"model": "toy:sleep=2.5", "steps": 200, "eval_every": 1}
    request = request_of(tmp_path, train=train, resources="auto")
    typed = ["check", request, "--runs", f"file://{tmp_path}/runs"]
    assert main([*typed, "--probe"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"a run takes about [89]\.\d+ min \(by a probe of [-0-9]+, \d at once\)", said)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
    assert main([*typed, "--json"]) == 0  # where it is known from now on
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["run_s"] == pytest.approx(500, rel=0.15)
    cpus = os.cpu_count()
    assert cpus is not None
    assert plan["at_once"] == 2 * cpus  # a run that sleeps has half a CPU
