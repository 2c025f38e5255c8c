"""The search on a cluster of two raylets on this machine, one of which is lost while it trains."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from in_process import DATA, config
from ray.cluster_utils import Cluster

from search.cluster import room
from search.cluster.launch import MAX_RETRIES, RayCluster
from search.cluster.searcher import WorkSearcher
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work.protocol import Answer, Job
from search.work.search_queue import SearchQueue
from trainables.contract.trial import EpochMetrics, Outcome

pytestmark = pytest.mark.cluster

# A run has to take longer than a worker takes to start on a busy machine: Ray gives a run that waits for its
# own the first worker that another run no longer needs, so that the second node would never get one ready.
EPOCHS, TRIALS, SLEEP_S = 6, 8, 3.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with one CPU; the test adds and removes the second node."""
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20}
    )
    try:
        yield started
    finally:
        started.shutdown()


@dataclass
class LosesNode:
    """A queue of work that takes a node away as soon as one of that node's workers has trained two epochs."""

    work: SearchQueue
    cluster: Cluster
    node: Any
    raylet: psutil.Process
    pids: dict[str, int] = field(default_factory=dict)  # run -> the worker it was last heard of
    ran: list[str] = field(default_factory=list)
    left: str | None = None  # the run that trained on the node when it went

    def take(self) -> Job | None:
        job = self.work.take()
        if job is not None:
            self.ran.append(job.spec.key)
        return job

    def exhausted(self) -> bool:
        return self.work.exhausted()

    def over(self) -> bool:
        return self.work.over()

    def started(self, key: str, resources: Resources) -> None:
        self.work.started(key, resources)

    def lost(self, key: str) -> None:
        self.work.lost(key)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        answer = self.work.epoch(key, measured)
        if self.left is None and len(self.ran) > 4 and 2 <= measured.epoch < EPOCHS and self._on_node(key):
            self.left = key
            self.cluster.remove_node(self.node, allow_graceful=False)
        return answer

    def watch_pids(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note which worker each run is heard of."""
        plain = WorkSearcher.epoch

        def watched(searcher: WorkSearcher, trial_id: str, result: dict[str, Any]) -> Answer:
            self.pids[searcher._keys[trial_id]] = result["pid"]
            return plain(searcher, trial_id, result)

        monkeypatch.setattr(WorkSearcher, "epoch", watched)

    def _on_node(self, key: str) -> bool:
        return self.pids[key] in pids_on(self.node)

    def hung(self) -> set[str]:
        return self.work.hung()

    def finish(self, key: str, outcome: Outcome) -> None:
        self.work.finish(key, outcome)

    def stopped(self, key: str) -> None:
        self.work.stopped(key)


def test_a_node_lost_in_the_midst_of_a_search_loses_no_trial(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    request = config(
        train={"model": f"toy:sleep={SLEEP_S}", "steps": EPOCHS, "eval_every": 1},
        space={"sampler_power": [0.0, 1.0]},
        baseline={"strategy": "plain", "seeds": 2},
        search={"trials": TRIALS, "sampler": "tpe"},
    )
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    queue = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
    work = LosesNode(queue, cluster, node, raylet)
    work.watch_pids(monkeypatch)
    with RayCluster(cluster.address).connected(request.resources) as launch:
        launch(work, folder.files)

    assert work.left is not None, "no run was ever seen on the second node"
    assert not raylet.is_running()
    assert work.work.complete()
    told = [*study.baseline_trials(), *study.trials()]
    assert [trial.state for trial in told] == ["complete"] * (TRIALS + 2)
    assert len(work.ran) == len(set(work.ran)) == TRIALS + 2
    restarts = {}
    for trial in told:
        assert trial.report is not None
        restarts[trial.report.key] = trial.report.restarts
        assert [point.epoch for point in folder.files.curve(trial.report)] == [*range(1, EPOCHS + 1)]
    assert {key for key, count in restarts.items() if count} == {work.left}
    assert restarts[work.left] == 1


@dataclass
class LosesEachNode(LosesNode):
    """A queue of work whose first run loses each node that it comes to but the last, after one epoch."""

    nodes: list[Any] = field(default_factory=list)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        answer = self.work.epoch(key, measured)
        if key == self.ran[0] and measured.epoch == 1 and len(self.nodes) > 1:
            self.nodes.remove(lost := next(node for node in self.nodes if self.pids[key] in pids_on(node)))
            self.cluster.remove_node(lost, allow_graceful=False)
        return answer


def pids_on(node: Any) -> set[int]:
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return {child.pid for child in raylet.children(recursive=True)}


def test_a_run_may_lose_more_nodes_than_it_has_retries_for_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | memory)
    try:
        nodes = [cluster.add_node(num_cpus=1, **memory) for _ in range(MAX_RETRIES + 2)]
        request = config(
            train={"model": "toy:sleep=1", "steps": 2, "eval_every": 1},
            baseline={"strategy": "plain", "seeds": 1},
            search={"trials": 1, "sampler": "random", "checkpoint_s": 60},  # each attempt is from the start
        )
        folder = StudyFolder(tmp_path / "study")
        study = folder.create(request, "fingerprint", DATA.minority)
        queue = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
        work = LosesEachNode(queue, cluster, None, psutil.Process(), nodes=nodes)
        work.watch_pids(monkeypatch)
        with RayCluster(cluster.address).connected(request.resources) as launch:
            launch(work, folder.files)
    finally:
        cluster.shutdown()
    assert len(work.nodes) == 1
    told = [*study.baseline_trials(), *study.trials()]
    assert [trial.state for trial in told] == ["complete"] * 2


@dataclass
class Taken(LosesNode):
    """A queue of work that notes how many runs were taken, and none had ended, when the first one did."""

    at_first: int = 0

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        return self.work.epoch(key, measured)

    def finish(self, key: str, outcome: Outcome) -> None:
        self.at_first = self.at_first or len(self.ran)
        self.work.finish(key, outcome)


def test_runs_wait_for_all_the_nodes_that_a_cluster_may_get(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"resources": {"CPU": 1}}
    grown = {"max_workers": 3, "head_node_type": "head", "available_node_types": {"head": node, "spot": node}}
    monkeypatch.setattr(room, "GROWS", tmp_path / "grown.yaml")
    (tmp_path / "grown.yaml").write_text(yaml.safe_dump(grown))
    request = config(
        train={"model": "toy:sleep=1", "steps": 3, "eval_every": 1},
        baseline={"strategy": "plain", "seeds": 8},
        search={"trials": 1},
    )
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    queue = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
    work = Taken(queue, cluster, None, psutil.Process())
    with RayCluster(cluster.address).connected(request.resources) as launch:
        launch(work, folder.files)
    assert queue.complete()
    assert work.at_first == 5, "four fit once all nodes are there, and one is ready behind them"
