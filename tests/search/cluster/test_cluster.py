"""The search on a cluster of two raylets on this machine, one of which is lost while it trains."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from in_process import DATA, config
from ray.cluster_utils import Cluster

from search.cluster.launch import RayCluster
from search.cluster.searcher import WorkSearcher
from search.record.folder import StudyFolder
from search.work.protocol import Answer, Job
from search.work.search_queue import SearchQueue
from trainables.contract.trial import EpochMetrics, Outcome

pytestmark = pytest.mark.cluster

EPOCHS, TRIALS = 6, 16  # enough for the second node to get a worker started on a busy machine


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
    lost: str | None = None  # the run that trained on the node when it went

    def take(self) -> Job | None:
        job = self.work.take()
        if job is not None:
            self.ran.append(job.spec.key)
        return job

    def exhausted(self) -> bool:
        return self.work.exhausted()

    def started(self, key: str) -> None:
        self.work.started(key)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        answer = self.work.epoch(key, measured)
        if self.lost is None and len(self.ran) > 4 and 2 <= measured.epoch < EPOCHS and self._on_node(key):
            self.lost = key
            self.cluster.remove_node(self.node, allow_graceful=False)
        return answer

    def _on_node(self, key: str) -> bool:
        return self.pids[key] in {child.pid for child in self.raylet.children(recursive=True)}

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
        train={"model": "toy:sleep=0.5", "steps": EPOCHS, "eval_every": 1},
        space={"sampler_power": [0.0, 1.0]},
        baseline={"strategy": "plain", "seeds": 2},
        search={"trials": TRIALS, "sampler": "tpe"},
    )
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    queue = SearchQueue(study, folder.files, DATA, lambda snapshot: None, time.monotonic)
    work = LosesNode(queue, cluster, node, raylet)
    plain = WorkSearcher.epoch

    def watched(self: WorkSearcher, trial_id: str, result: dict[str, Any]) -> Answer:
        work.pids[self._keys[trial_id]] = result["pid"]
        return plain(self, trial_id, result)

    monkeypatch.setattr(WorkSearcher, "epoch", watched)
    with RayCluster(cluster.address).connected(request.resources) as launch:
        launch(work, folder.files)

    assert work.lost is not None, "no run was ever seen on the second node"
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
    assert {key for key, count in restarts.items() if count} == {work.lost}
    assert restarts[work.lost] == 1
