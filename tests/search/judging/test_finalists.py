import shutil
from pathlib import Path

import pytest
from in_process import DATA, Bench, Here, config, failure
from reports import report_with
from toy_experiments import confirmed_here

from search.judging.choosing import choose_finalists, choose_merging, recommended, without_use
from search.judging.confirmation import Asked
from search.record.folder import StudyFolder
from search.record.outcomes import Baseline, StudyTrial
from search.record.study import Study
from spaces.strategy import PLAIN, Strategy
from trainables.contract.trial import TrialFailure, TrialSpec

CONFIG = config()
MEASURED = Baseline(metrics={}, sd={"map50_95": 0.01, "minority_ap50": 0.0}, seeds=(0, 1, 2), reports=())
FAR = {"map50_95": -0.03, "minority_ap50": -0.03}  # every guard holds by three sd


def trial(
    number: int, recall: float, violations: dict[str, float] | None = None, **knobs: float
) -> StudyTrial:
    """Of a strategy of its own, by its retention, unless knobs are named."""
    report = report_with({"minority_recall": recall, "map50_95": 0.5}, key=f"{number}")
    strategy = Strategy.from_knobs(knobs or {"retention": 0.9 - 0.01 * number})
    return StudyTrial(
        number, "complete", strategy, 0, report, violations=FAR if violations is None else violations
    )


def chosen(trials: list[StudyTrial], count: int, baseline: Baseline = MEASURED) -> list[int]:
    return [one.number for one in choose_finalists(trials, baseline, CONFIG, count)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(0, [], id="none are asked for"),
        pytest.param(1, [2], id="the one with the highest recall"),
        pytest.param(2, [2, 0], id="by recall, highest first"),
        pytest.param(9, [2, 0, 1], id="fewer than asked for"),
    ],
)
def test_the_first_objective_ranks(count: int, expected: list[int]) -> None:
    assert chosen([trial(0, 0.6), trial(1, 0.5), trial(2, 0.7)], count) == expected


@pytest.mark.parametrize(
    ("violation", "kept"),
    [
        pytest.param(-0.0101, True, id="just more than one sd within"),
        pytest.param(-0.01, True, id="exactly one sd within"),
        pytest.param(-0.0099, False, id="just less than one sd within"),
        pytest.param(0.0, False, id="feasible, at the limit"),
        pytest.param(0.001, False, id="infeasible"),
    ],
)
def test_guards_hold_by_one_sd_of_the_baseline(violation: float, kept: bool) -> None:
    one = trial(0, 0.6, {"map50_95": violation, "minority_ap50": 0.0})
    assert chosen([one], 3) == ([0] if kept else [])


def test_with_one_baseline_seed_feasible_is_enough() -> None:
    of_one = Baseline(metrics={}, sd={"map50_95": None, "minority_ap50": None}, seeds=(0,), reports=())
    assert chosen([trial(0, 0.6, {"map50_95": 0.0, "minority_ap50": 0.0})], 3, of_one) == [0]


def test_a_trial_below_the_baselines_mean_is_none() -> None:
    usual = Baseline(metrics={"minority_recall": 0.55}, sd=MEASURED.sd, seeds=(0, 1, 2), reports=())
    assert chosen([trial(0, 0.6), trial(1, 0.549), trial(2, 0.55)], 3, usual) == [0, 2]


def test_a_strategy_is_a_finalist_once() -> None:
    again = [trial(number, 0.6, sampler_power=0.5) for number in (3, 4)]
    assert chosen([*again, trial(5, 0.5)], 3) == [3, 5]


def test_the_baselines_own_strategy_is_none() -> None:
    lucky = StudyTrial(0, "complete", PLAIN, 0, trial(0, 0.9).report, violations=FAR)
    assert chosen([lucky, trial(1, 0.5), trial(2, 0.4)], 2) == [1, 2]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(2, [0, 3], id="the last place goes to the best of another family"),
        pytest.param(1, [0], id="a single place is the best trial's"),
        pytest.param(4, [0, 1, 2, 3], id="the other family is among them anyway"),
    ],
)
def test_not_all_of_one_family(count: int, expected: list[int]) -> None:
    sampling = [trial(number, 0.8 - 0.1 * number) for number in range(3)]
    other = [trial(3, 0.3, focal_gamma=1.0), trial(4, 0.2, alpha_power=0.5)]
    assert chosen([*sampling, *other], count) == expected


def test_one_family_alone_keeps_all_places() -> None:
    assert chosen([trial(number, 0.8 - 0.1 * number) for number in range(3)], 2) == [0, 1]


def test_two_families_at_once_are_another_family_than_each_alone() -> None:
    both = trial(2, 0.3, retention=0.5, focal_gamma=1.0)
    assert chosen([trial(0, 0.6), trial(1, 0.5), both], 2) == [0, 2]


def taken(trials: list[StudyTrial], baseline: Baseline | None = MEASURED) -> tuple[int, bool] | None:
    best = recommended(trials, CONFIG, baseline)
    return None if best is None else (best.trial.number, best.with_margin)


CLOSE = {"map50_95": -0.009, "minority_ap50": -0.03}  # feasible, and nearer than one sd to the guard


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        pytest.param(
            [trial(0, 0.9, CLOSE), trial(1, 0.6)], (1, True), id="the margin comes before the recall"
        ),
        pytest.param([trial(0, 0.6), trial(1, 0.7)], (1, True), id="of those with it the highest recall"),
        pytest.param([trial(0, 0.7), trial(1, 0.7)], (0, True), id="of equals the first"),
        pytest.param(
            [trial(0, 0.6, CLOSE), trial(1, 0.7, CLOSE)], (1, False), id="none has it: the best, marked"
        ),
        pytest.param([trial(0, 0.9, {"map50_95": 0.01})], None, id="an infeasible one never"),
    ],
)
def test_what_is_recommended_keeps_its_guards_with_a_margin(
    trials: list[StudyTrial], expected: tuple[int, bool] | None
) -> None:
    assert taken(trials) == expected


def test_nothing_below_the_baseline_is_recommended() -> None:
    usual = Baseline(metrics={"minority_recall": 0.4}, sd=MEASURED.sd, seeds=(0, 1, 2), reports=())
    below = [trial(0, 0.399), trial(1, 0.0)]
    assert taken(below, usual) is None
    assert taken(below, None) == (0, True)
    # .1 + .2 is 4e-17 above .3: rounding is no loss
    rounded = Baseline(metrics={"minority_recall": 0.1 + 0.2}, sd={}, seeds=(0,), reports=())
    assert taken([trial(2, 0.3)], rounded) == (2, True)


def told(folder: Path, merging: str, *measured: dict[str, float]) -> Study:
    """A study whose baseline's seeds measured the ways of merging so."""
    study = StudyFolder(folder).create(
        config(merging=merging, baseline={"strategy": "plain", "seeds": 3}), "fingerprint", ["rare"]
    )
    for seed, ways in enumerate(measured):
        metrics = {f"merging/{way}/minority_ap50": value for way, value in ways.items()}
        usual = {"minority_recall": 0.5, "map50_95": 0.5, "minority_ap50": 0.5}
        key = study.config.spec(PLAIN, study.config.data_spec(DATA.minority), seed=seed).key
        study.tell_baseline(study.add_baseline(seed), report_with(usual | metrics, key=key))
    return study


@pytest.mark.parametrize(
    ("asked", "measured", "expected"),
    [
        pytest.param(
            "auto", [{"core": 0.5, "nms": 0.7}, {"core": 0.6, "nms": 0.3}], "core", id="by the mean"
        ),
        pytest.param("auto", [{"core": 0.5, "joined": 0.6}], "joined", id="the best on val"),
        pytest.param("auto", [{"core": 0.5, "nms": 0.5}], "core", id="of equals core"),
        pytest.param("auto", [{}], "core", id="data that are no tiles"),
        pytest.param("ios", [{"core": 0.5, "nms": 0.7}], "ios", id="what the study file says"),
    ],
)
def test_the_way_of_merging_is_chosen_by_the_baseline(
    tmp_path: Path, asked: str, measured: list[dict[str, float]], expected: str
) -> None:
    assert choose_merging(told(tmp_path / "study", asked, *measured)) == expected


def test_weights_are_of_use_once_a_confirmation_has_taken_their_trial(
    searched_study: Path, tmp_path: Path
) -> None:
    folder = StudyFolder(Path(shutil.copytree(searched_study, tmp_path / "study")))
    unused = without_use(folder.open())
    keys = {trial.report.key: trial.number for trial in folder.open().trials() if trial.report is not None}
    failed = unused - set(keys)  # for good
    assert unused & set(keys) < set(keys)
    taken, *others = sorted(unused - failed)
    asked = Asked(trials=(keys[taken],), seeds=2, baseline_seeds=2, one_look=True)
    confirmed_here(folder.path, asked)
    assert without_use(folder.open()) == set(others) | failed


@pytest.mark.parametrize(("retry", "expected"), [(False, True), (True, False)])
def test_what_failed_for_good_asks_for_nothing_any_more(tmp_path: Path, retry: bool, expected: bool) -> None:
    bench = Bench(tmp_path, config(search={"trials": 2, "sampler": "random"}))
    failed: list[str] = []

    def fails(spec: TrialSpec) -> TrialFailure | None:
        if spec.strategy == PLAIN or failed:
            return None
        failed.append(spec.key)
        return failure(spec, "diverged").model_copy(update={"retry": retry})

    Here(instead=fails).launch(bench.work, bench.folder.files)
    bench.study.flush()
    assert (failed[0] in without_use(bench.study)) == expected
