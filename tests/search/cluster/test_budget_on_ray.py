"""A budget that ends a search on a real local Ray: what Tune has ready by then must not start any more."""

from pathlib import Path

import pytest
from in_process import DATA, config

from search.cluster.launch import run_connected
from search.record.folder import StudyFolder
from search.request.computing.resources import Resources
from search.work.protocol import Answer
from search.work.search_queue import SearchQueue
from trainables.contract.trial import EpochMetrics

pytestmark = pytest.mark.slow

LIMIT_S, EPOCHS = 100.0, 4


class Watched(SearchQueue):
    """Its clock passes the budget's limit at the ninth epoch; notes what became of each run."""

    epochs, late = 0, 0

    def at(self) -> float:
        return LIMIT_S + 1 if self.epochs >= 9 else 0.0

    def started(self, key: str, resources: Resources) -> None:
        self.late += self.epochs >= 9
        super().started(key, resources)

    def epoch(self, key: str, measured: EpochMetrics) -> Answer:
        self.epochs += 1
        answer = super().epoch(key, measured)
        assert (answer == "stop") == (self.epochs >= 9)
        return answer


def test_nothing_starts_after_the_end_and_what_runs_makes_one_epoch_more(
    local_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = config(
        train={"model": "toy:sleep=0.3", "steps": EPOCHS, "eval_every": 1},
        baseline={"seeds": 1},
        search={"trials": 30, "sampler": "random"},
        budget={"hours": LIMIT_S / 3600, "confirm_share": 0},
    )
    folder = StudyFolder(tmp_path / "study")
    study = folder.create(request, "fingerprint", DATA.minority)
    seen: list[Watched] = []
    work = Watched(study, folder.files, DATA, lambda snapshot: None, lambda: seen[0].at() if seen else 0.0)
    seen.append(work)
    run_connected(work, folder.files, request.resources)
    study.flush()
    assert work.complete()
    assert work.ended_by is not None
    assert work.late == 0
    assert work.epochs <= 9 + 2  # two CPUs: the other run's epoch, and what was in between
    states = [trial.state for trial in study.trials()]
    assert set(states) <= {"complete", "stopped"}
    # One or two that ran, and one that Tune had ready.
    assert 1 <= states.count("stopped") <= 3
    assert len(states) < 8
    assert "Trial train_on_ray" not in capfd.readouterr().out
