"""A search on a cluster of three nodes to which everything happens, in an order that is drawn.

`RARECALL_FAULTS=100` has so many faults instead of twenty.
"""

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
import yaml
from postgres import PASSWORD, Postgres, running
from ray.cluster_utils import Cluster
from small_disk import Image

from search.cli.main import main
from search.record.folder import StudyFolder
from search.record.study import Study

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(5400),
    # psycopg wants each connection closed by hand.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

FAULTS = int(os.environ.get("RARECALL_FAULTS", "20"))
NODES, TRIALS, SEEDS, EPOCH_S = 3, 40, 3, 1.0
EPOCHS = FAULTS // 5  # the search has to last for all of them
REQUEST: dict[str, Any] = {
    "name": "toy",
    "task": "toy",
    "data": "demo:toy",
    "minority": ["rare"],
    "train": {"model": "toy", "steps": 10 * EPOCHS, "eval_every": 10},
    "space": "classification",
    "search": {"trials": TRIALS, "sampler": "random", "checkpoint_s": 0},
    "baseline": {"seeds": SEEDS},
}
COMMAND = [sys.executable, "-c", "import sys; from rarecall.command import main; sys.exit(main())"]
PATIENCE_S = 180.0
MEMORY = {"object_store_memory": 100 * 2**20}
# In every process of Ray's; a worker writes down each epoch of a run that it begins.
TRACE = """
import sys
if any("default_worker" in word for word in sys.orig_argv):
    import os
    from trainables.worker import toy
    def train_toy(spec, folder, on_epoch, plain=toy.train_toy, misbehave=toy._misbehave):
        def traced(faults, epoch, **rest):
            with open(os.environ["RARECALL_TRACE"], "a") as trace:
                trace.write(f"{spec.key} {epoch}\\n")
            misbehave(faults, epoch, **rest)
        toy._misbehave = traced
        return plain(spec, folder, on_epoch)
    toy.train_toy = train_toy
"""


@dataclass
class Scene:
    """A cluster, a disk for the study's files, a database for its record, and a driver on it all."""

    disk: Image
    database: Postgres
    study: Path
    rng: np.random.Generator
    cluster: Cluster = field(init=False)
    nodes: list[Any] = field(init=False)
    driver: psutil.Popen | None = None
    began: float = 0.0
    endings: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start_nodes()

    def start_nodes(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **MEMORY})
        self.nodes = [self.cluster.add_node(num_cpus=1, **MEMORY) for _ in range(NODES)]

    def end(self) -> None:
        self.driver_dies()
        self.cluster.shutdown()

    @property
    def runs(self) -> Path:
        return self.disk.root / "runs"

    @property
    def log(self) -> Path:
        return self.study.with_suffix(".log")

    def drive(self) -> None:
        """Start the search, or go on with it."""
        resume = ["--resume"] if (self.runs / "toy" / "study.yaml").exists() else []
        where = ["--runs", str(self.runs), "--address", self.cluster.address]
        with self.log.open("a") as log:
            command = [*COMMAND, "search", str(self.study), *where, *resume]
            self.driver = psutil.Popen(command, stdout=log, stderr=log)
        self.began = time.time()

    def trained(self) -> bool:
        """Whether a run has got a step further since the driver or the last fault began."""
        newest = 0.0
        for path in (self.runs / "toy" / "trials").glob("*/checkpoint_*/progress.json"):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, path.stat().st_mtime)
        return newest > self.began

    def wait_until_it_trains(self) -> None:
        """With another driver where the last one ended."""
        limit = time.monotonic() + PATIENCE_S
        while not self.trained():
            if self.driver is None or self.driver.poll() is not None:
                self.drive_on()
            assert time.monotonic() < limit, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def drive_on(self) -> None:
        if self.driver is not None:
            self.endings.append(self.driver.wait(PATIENCE_S))
            assert self.endings[-1] in (3, -9), self.log.read_text()[-3000:]  # 0 or 1 would be too early
        self.drive()

    def on_nodes(self, name: str) -> list[psutil.Process]:
        found = []
        for node in self.nodes:
            for one in _raylet(node).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += [one] if name in " ".join(one.cmdline()[:1]) else []
        return found

    # Faults

    def worker_dies(self) -> None:
        workers = self.on_nodes("ray::ImplicitFunc")
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                workers[self.rng.integers(len(workers))].kill()

    def node_dies(self) -> None:
        node = self.nodes.pop(self.rng.integers(len(self.nodes)))
        family = [_raylet(node), *_raylet(node).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1, **MEMORY))

    def driver_dies(self) -> None:
        if self.driver is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.driver.kill()

    def disk_is_full(self) -> None:
        self.disk.fill()
        time.sleep(2 * EPOCH_S + 2)
        (self.disk.root / "ballast").unlink()

    def storage_is_away(self) -> None:
        self.disk.be_away(2 * EPOCH_S + 2)

    def cluster_restarts(self) -> None:
        self.cluster.shutdown()
        self.start_nodes()

    def database_restarts(self) -> None:
        self.database.stop()
        time.sleep(self.rng.uniform(0, 2))
        self.database.start()


def _raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(TRACE)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RARECALL_TRACE", str(tmp_path / "trace"))
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running())
        disk = Image(tmp_path / "disk", "24M")
        stack.callback(disk.close)
        study = tmp_path / "study.yaml"
        train = REQUEST["train"] | {"model": f"toy:sleep={EPOCH_S}"}
        study.write_text(yaml.safe_dump(REQUEST | {"train": train, "study_db": database.address}))
        monkeypatch.setenv("RARECALL_DB_PASSWORD", PASSWORD)
        made = Scene(disk, database, study, np.random.default_rng(0))
        stack.callback(made.end)
        yield made


def told(study: Study) -> dict[int, str]:
    """Number -> what came of that trial; which number it has depends on when the baseline was known."""
    trials = study.trials()
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    return {
        trial.number: f"{trial.strategy} {trial.report.metrics}"
        for trial in trials
        if trial.report is not None
    }


def front(study: Path, capsys: pytest.CaptureFixture[str]) -> list[int]:
    capsys.readouterr()
    assert main(["pareto", str(study), "--json"]) == 0
    return [row["number"] for row in json.loads(capsys.readouterr().out)["best"]]


def test_a_search_on_three_nodes_that_everything_happens_to(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds: list[Callable[[], None]] = [
        scene.worker_dies,
        scene.node_dies,
        scene.driver_dies,
        scene.disk_is_full,
        scene.storage_is_away,
        scene.database_restarts,
    ]
    order = [kinds[i % len(kinds)] for i in scene.rng.permutation(FAULTS - 1)]
    order.insert(FAULTS // 2, scene.cluster_restarts)
    scene.drive()
    for happens in order:
        scene.wait_until_it_trains()
        time.sleep(scene.rng.uniform(0, EPOCH_S))
        happens()
        scene.began = time.time()
    for _ in range(3):  # what no retry could save goes on with the next one
        if scene.driver is not None:
            scene.endings.append(scene.driver.wait(2 * PATIENCE_S))
        if scene.endings[-1] in (0, 1) and all(
            trial.state == "complete" for trial in StudyFolder(scene.runs / "toy").open().trials()
        ):
            break
        scene.drive()

    # One terminal state each, none twice, none running; what came of them is what comes of them undisturbed.
    opened = StudyFolder(scene.runs / "toy").open()
    (tmp_path / "quiet.yaml").write_text(yaml.safe_dump(REQUEST))
    quiet = tmp_path / "quiet"
    assert main(["search", str(tmp_path / "quiet.yaml"), "--here", "--runs", str(quiet)]) in (0, 1)
    ours, theirs = told(opened), told(StudyFolder(quiet / "toy").open())
    assert sorted(ours.values()) == sorted(theirs.values())
    fronts = front(scene.runs / "toy", capsys), front(quiet / "toy", capsys)
    assert sorted(ours[n] for n in fronts[0]) == sorted(theirs[n] for n in fronts[1])
    stored = optuna.load_study(study_name="toy/search", storage=scene.database.address).get_trials()
    assert "RUNNING" not in {trial.state.name for trial in stored}
    keys = Counter(trial.report.key for trial in opened.trials() if trial.report is not None)
    assert set(keys.values()) == {1}

    # A fault costs each run that it meets one epoch at the most.
    begun = Counter((tmp_path / "trace").read_text().splitlines())
    again = sum(begun.values()) - len(begun)
    print(f"{FAULTS} faults {Counter(one.__name__ for one in order)}, drivers ended {scene.endings},")
    print(f"{len(begun)} epochs, {again} of them begun again")
    assert len(begun) == (TRIALS + SEEDS) * EPOCHS
    assert again <= FAULTS * NODES
