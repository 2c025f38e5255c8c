"""A confirmation on a real Ray."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from on_ray import Sabotaged
from toy_experiments import GOOD, confirmed_here, quiet, timeless

from search.cluster.launch import RayCluster
from search.judging.confirmation import Asked
from search.pipeline.confirming import confirm
from search.record.files import RunFiles
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work.experiment_queue import ExperimentQueue
from search.work.protocol import Launch, Work

pytestmark = pytest.mark.slow


class OneWorkerKilled:
    """A local Ray on which the second run's worker is killed after an epoch."""

    def __init__(self) -> None:
        self.work: Sabotaged | None = None
        self.clock = time.monotonic
        self.is_here = True

    @contextmanager
    def connected(self, resources: Resources, reads: Sequence[str] = ()) -> Iterator[Launch]:
        def launch(work: Work, files: RunFiles) -> None:
            assert isinstance(work, ExperimentQueue)
            self.work = Sabotaged(work, {1: "toy:kill_at=2"})
            on_ray(self.work, files)

        with RayCluster().connected(resources) as on_ray:
            yield launch


def test_a_killed_worker_changes_no_verdict(searched_study: Path, tmp_path: Path) -> None:
    study, other = (Path(shutil.copytree(searched_study, tmp_path / name)) for name in ("study", "other"))
    asked = Asked(strategies=(GOOD,), seeds=2, baseline_seeds=2, one_look=True)
    cluster = OneWorkerKilled()
    _, disturbed = confirm(
        StudyFolder(study), asked, cluster=cluster, resume=False, fresh=False, console=quiet()
    )
    assert cluster.work is not None
    assert [cluster.work.report(number).restarts for number in range(4)] == [0, 1, 0, 0]
    undisturbed = confirmed_here(other, asked)
    assert disturbed.finished
    assert disturbed.plan == undisturbed.plan
    assert timeless(disturbed)[0] == timeless(undisturbed)[0]
