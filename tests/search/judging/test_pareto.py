import moocore
import numpy as np
import pytest
from in_process import config
from told_trials import trial

from search.judging.choosing import Recommended
from search.judging.front import front, notes_on_baseline
from search.record.outcomes import Baseline, over_seeds
from search.show.front import as_json, as_rows, baseline_rows

OBJECTIVES = ("minority_recall", "map50_95")


def test_every_trial_is_in_exactly_one_group() -> None:
    trials = [
        trial(0, 0.5, 0.5),
        trial(1, 0.4, 0.4),
        trial(2, 0.9, 0.9, violation=0.01),
        trial(3, 0, 0, "stopped"),
        trial(4, 0, 0, "running"),
        trial(5, 0, 0, "failed"),
    ]
    found = front(trials, OBJECTIVES, None)
    groups = {name: [one.number for one in group] for name, group in vars(found).items()}
    assert groups == {
        "best": [0],
        "dominated": [1],
        "infeasible": [2],
        "stopped": [3],
        "running": [4],
        "failed": [5],
    }


def test_what_the_baseline_dominates_is_not_on_the_front() -> None:
    baseline = Baseline.of([trial(0, 0.5, 0.5)])
    found = front([trial(0, 0.45, 0.49), trial(1, 0.6, 0.48)], OBJECTIVES, baseline)
    assert [one.number for one in found.best] == [1]


def test_a_trial_that_finds_less_of_the_minority_than_the_baseline_is_not_on_the_front() -> None:
    baseline = Baseline.of([trial(0, 0.3, 0.5), trial(1, 0.5, 0.5)])  # mean recall .4
    found = front([trial(0, 0.399, 0.9), trial(1, 0.4, 0.6), trial(2, 0.0, 0.95)], OBJECTIVES, baseline)
    assert [one.number for one in found.best] == [1]  # exactly at the mean, and better in the other
    assert [one.number for one in found.dominated] == [0, 2]


def test_what_finds_nothing_is_not_on_the_front_of_a_baseline_that_finds_nothing_either() -> None:
    found = front([trial(0, 0.0, 0.9)], OBJECTIVES, Baseline.of([trial(0, 0.0, 0.5)]))
    assert not found.best
    assert [one.number for one in found.dominated] == [0]


def test_a_precision_that_one_seed_lacks_counts_as_0_in_the_baselines_mean() -> None:
    seeds = [trial(i, recall, 0.5).report for i, recall in enumerate((0.4, 0.0))]
    told = [{"minority_precision": 0.5}, {"minority_precision": None}]
    reports = [
        seed.model_copy(update={"metrics": seed.metrics | more})
        for seed, more in zip(seeds, told, strict=True)
        if seed is not None
    ]
    assert over_seeds(reports)["minority_precision"] == 0.25


def test_equal_trials_are_both_on_the_front() -> None:
    assert len(front([trial(0, 0.5, 0.5), trial(1, 0.5, 0.5)], OBJECTIVES, None).best) == 2


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_moocores(seed: int) -> None:
    points = np.random.default_rng(seed).random((60, 2)).round(1)  # rounding makes ties
    found = front([trial(i, *point) for i, point in enumerate(points)], OBJECTIVES, None)
    expected = np.flatnonzero(moocore.is_nondominated(points, maximise=True, keep_weakly=True))
    assert sorted(one.number for one in found.best) == expected.tolist()


def test_json_says_which_trial_is_recommended() -> None:
    one = trial(4, 0.5, 0.5)
    shown = as_json(front([one], OBJECTIVES, None), Recommended(one, with_margin=False), None, config(), ())
    assert shown["recommended"] == {"number": 4, "with_margin": False}


def test_a_floor_that_the_baseline_itself_breaks_is_noted() -> None:
    baseline = Baseline.of([trial(0, 0.3, 0.5), trial(1, 0.4, 0.5)])
    floors = config(
        guards=[{"metric": "map50_95", "floor": 0.52}, {"metric": "minority_recall", "floor": 0.3}]
    )
    said = {note.name: note.sentence for note in notes_on_baseline(baseline, floors, ())}
    assert said == {"floor broken": "it breaks its own guard on map50_95, by 0.020"}


def test_a_baseline_that_nothing_can_gain_on_is_noted() -> None:
    good = Baseline.of([trial(0, 0.96, 0.5), trial(1, 0.98, 0.5)])
    assert good is not None
    assert [note.name for note in notes_on_baseline(good, config(), ())] == ["no room"]
    less = Baseline.of([trial(0, 0.94, 0.5), trial(1, 0.96, 0.5)])
    assert less is not None
    assert notes_on_baseline(less, config(), ()) == ()


def test_json_has_the_documented_shape() -> None:
    baseline = Baseline.of([trial(0, 0.3, 0.5), trial(1, 0.4, 0.5)])
    found = front([trial(0, 0.5, 0.5), trial(5, 0, 0, "failed")], OBJECTIVES, baseline)
    shown = as_json(found, None, baseline, config(), ("rare",))
    assert set(shown["baseline"]) == {"metrics", "sd", "seeds", "notes"}
    assert [note["name"] for note in shown["baseline"]["notes"]] == ["support too small"]
    assert set(shown) == {
        *("baseline", "recommended"),
        *("best", "dominated", "infeasible", "stopped", "running", "failed"),
    }
    assert shown["baseline"]["metrics"]["minority_recall"] == pytest.approx(0.35)
    assert shown["baseline"]["sd"]["minority_recall"] == pytest.approx(0.0707, abs=1e-4)
    assert set(shown["best"][0]) == {
        *("number", "strategy", "metrics", "guards"),
        *("exposure", "seconds", "epochs", "notes"),
    }
    assert shown["failed"][0]["failure"] == {"kind": "diverged", "reason": "the loss is nan"}


def test_json_notes_what_is_wrong_with_each_trial() -> None:
    found = front([trial(0, 0.0, 0.5), trial(1, 0.5, 0.5), trial(2, 0, 0, "failed")], OBJECTIVES, None)
    without = as_json(found, None, None, config(), ())
    assert without["dominated"][0]["notes"] == [
        {
            "name": "minority collapse",
            "number": 1,
            "sentence": "1 of 1 trained models never found the minority: recall 0",
        }
    ]
    assert without["best"][0]["notes"] == without["failed"][0]["notes"] == []
    named = as_json(found, None, None, config(), ("rare",))
    assert [note["name"] for note in named["best"][0]["notes"]] == ["support too small"]
    assert len(named["dominated"][0]["notes"]) == 2


def test_json_notes_compare_with_the_baseline() -> None:
    seeds = [trial(0, 0.3, 0.5), trial(1, 0.4, 0.5)]
    for one in seeds:
        assert one.report is not None
        one.report.metrics["minority_ap50"] = 0.2
    shifted = trial(0, 0.6, 0.5)
    assert shifted.report is not None
    shifted.report.metrics["minority_ap50"] = 0.19
    baseline = Baseline.of(seeds)
    (shown,) = as_json(front([shifted], OBJECTIVES, baseline), None, baseline, config(), ())["best"]
    assert [note["name"] for note in shown["notes"]] == ["threshold shift only"]


def test_csv_rows_are_flat_and_by_number() -> None:
    rows = as_rows(front([trial(3, 0.5, 0.5), trial(1, 0.4, 0.4)], OBJECTIVES, None), "detection")
    assert [row["number"] for row in rows] == [1, 3]
    assert rows[0]["group"] == "dominated"
    assert rows[0]["retention"] == 1.0
    assert rows[0]["violation/map50_95"] == -0.1


def test_csv_rows_have_the_tasks_own_knobs() -> None:
    found = front([trial(1, 0.4, 0.4)], OBJECTIVES, None)
    detection, classification = as_rows(found, "detection")[0], as_rows(found, "classification")[0]
    assert {"copy_paste", "mosaic", "dual_share"} <= set(detection) - set(classification)
    assert {"logit_tau", "class_balance", "defer"} <= set(classification) - set(detection)


def test_the_baselines_row_is_its_mean() -> None:
    assert baseline_rows(None, config()) == []
    (row,) = baseline_rows(Baseline.of([trial(0, 0.3, 0.4), trial(1, 0.4, 0.4)]), config())
    assert (row["number"], row["group"], row["retention"]) == (None, "baseline", 1.0)
    assert (row["minority_recall"], row["seconds"]) == (pytest.approx(0.35), 2.0)
