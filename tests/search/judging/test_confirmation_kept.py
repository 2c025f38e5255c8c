"""What a study keeps of its confirmations, and its ledger of the test split."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from in_process import DATA, Here
from judged_arms import CONFIG, frozen_look, plan

from search.judging.confirmation import Confirmation, Look, latest, ledger, store
from search.record.experiments import BASELINE_ARM, Wanted, seed_of
from search.record.folder import StudyFolder
from search.record.stored import packed, unpacked
from search.work.experiment_queue import ExperimentQueue
from spaces.strategy import NAMED
from trainables.contract.trial import Split


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    folder.create(CONFIG, "fingerprint", ["rare"])
    return folder


def test_a_look_reads_back_as_it_was_kept_with_infinite_degrees_of_freedom(folder: StudyFolder) -> None:
    look = frozen_look()
    assert look.results[0].verdict.bounds[1].df == np.inf
    study = folder.open()
    record = study.begin("confirm/1")
    record.set_plan(plan("weighted").model_dump_json())
    store(record, look)
    study.flush()
    assert latest(folder.open()) == Confirmation("confirm/1", plan("weighted"), (look,))


def test_a_look_that_0_1_0_kept_is_read() -> None:
    """It knew nothing of collapsed trainings, nor of a look that is spared."""
    look = frozen_look()
    stored = json.loads(packed(look))
    for result in stored["results"]:
        assert result["verdict"].pop("remarks")
        assert result["verdict"].pop("settled") is False
    (verdict,) = (result.verdict for result in unpacked(Look, json.dumps(stored)).results)
    assert verdict == replace(look.results[0].verdict, remarks=())


def test_the_last_confirmation_is_the_one_begun_last(folder: StudyFolder) -> None:
    study = folder.open()
    assert latest(study) is None
    for number in range(1, 11):
        study.begin(f"confirm/{number}").set_plan(plan("focal").model_dump_json())
    study.begin("compare").set_plan("another's")
    study.flush()
    assert latest(folder.open()) == Confirmation("confirm/10", plan("focal"), ())


def test_a_confirmation_whose_process_died_before_its_plan_was_not_begun(folder: StudyFolder) -> None:
    study = folder.open()
    study.begin("confirm/1")
    assert latest(study) is None


def test_the_ledger_counts_runs_on_the_test_split_by_experiment(folder: StudyFolder) -> None:
    study = folder.open()

    def experiment(name: str, split: Split, arms: tuple[str, ...], at_most: int = 100) -> None:
        record = study.begin(name)
        record.set_plan("planned")
        runs = [
            Wanted(arm, CONFIG.spec(NAMED["plain"], DATA, seed=seed_of(0, name, arm, index), split=split))
            for arm in arms
            for index in range(2)
        ]
        work = ExperimentQueue(name, record, folder.files, runs, lambda snapshot: None, time.monotonic)
        Here(at_most=at_most).launch(work, folder.files)

    assert ledger(study) == ()
    experiment("compare", "val", ("plain", "focal"))
    assert ledger(study) == ()
    experiment("confirm/1", "test", (BASELINE_ARM, "focal", "weighted"))
    experiment(
        "confirm/2", "test", (BASELINE_ARM, "focal", "weighted"), at_most=3
    )  # interrupted: two arms so far
    study.flush()
    uses = ledger(folder.open())
    assert [(use.experiment, use.arms, use.runs) for use in uses] == [
        ("confirm/1", 3, 6),
        ("confirm/2", 2, 3),
    ]
    assert uses[0].created == study.experiment("confirm/1").created
