"""Whether anything was learnt: each limit by hand, with a case on either side of it."""

from collections.abc import Sequence

import pytest
from diagnosed import found, report
from in_process import config
from reports import report_with

from search.judging.diagnostics import Diagnosis, diagnose
from search.judging.front import notes_on_baseline
from search.judging.learning import still_learning
from search.record.outcomes import Baseline
from spaces.strategy import PLAIN
from trainables.contract.trial import EpochMetrics, Metrics, TrialReport


def detector(
    precision: float | None = 0.5, threshold: float | None = 0.3, support: dict[str, float] | None = None
) -> TrialReport:
    counts = {"support/cell": 90.0, "support/cluster": 10.0} if support is None else support
    found: Metrics = {"minority_recall": 0.6, "minority_precision": precision, "threshold": threshold}
    return report_with(found | counts)


def untrained(*reports: TrialReport, minority: Sequence[str] = ("cluster",)) -> list[Diagnosis]:
    found = diagnose(PLAIN, reports, (), minority=minority, min_gain=0.05)
    return [one for one in found if one.name == "untrained model"]


@pytest.mark.parametrize(
    ("report", "why"),
    [
        pytest.param(detector(threshold=0.0), "every box counts", id="the threshold is at the floor"),
        pytest.param(detector(threshold=0.001), "every box counts", id="the last threshold at the floor"),
        pytest.param(detector(threshold=0.0011), None, id="just above the floor"),
        pytest.param(detector(0.1), "guessing would reach 0.100", id="a precision as by guessing, 10 of 100"),
        pytest.param(detector(0.0), "guessing would reach 0.100", id="nothing that it calls one is one"),
        pytest.param(detector(0.101), None, id="better than guessing"),
        pytest.param(detector(None), None, id="nothing is called a minority object"),
        pytest.param(detector(0.1, support={}), None, id="the supports are not known"),
        pytest.param(detector(0.9, support={"support/cluster": 9.0}), None, id="there is no other class"),
        pytest.param(
            detector(0.1, support={"support/cell": 80.0, "support/cluster": 0.0}),
            None,
            id="there is no minority object",
        ),
        pytest.param(report_with({"minority_recall": 0.6}), None, id="a classifier"),
    ],
)
def test_an_untrained_model(report: TrialReport, why: str | None) -> None:
    found = untrained(report)
    assert len(found) == (why is not None)
    assert all(str(why) in one.sentence and one.sentence.endswith("raise train.steps") for one in found)


def test_guessing_is_the_mean_over_the_minority_classes() -> None:
    support = {"support/a": 10.0, "support/b": 30.0, "support/rest": 60.0}  # (10 + 30) / 2 of 100
    assert untrained(detector(0.2, support=support), minority=("a", "b"))
    assert not untrained(detector(0.201, support=support), minority=("a", "b"))
    assert not untrained(detector(0.1, support=support), minority=())


def test_untrained_seeds_are_counted_and_said_in_full() -> None:
    (one,) = untrained(detector(0.033, threshold=0.0), detector(), detector(threshold=0.0))
    assert (one.number, one.sentence) == (
        2,
        "2 of 3 trained models cannot tell by a score: at the best threshold, 0.000, every box counts; "
        "raise train.steps",
    )
    (one,) = untrained(detector(), detector(0.02))
    assert one.sentence == (
        "1 of 2 trained models have a minority precision of 0.020, where guessing would reach 0.100; "
        "raise train.steps"
    )


def rising(*recalls: float | None) -> TrialReport:
    curve = [EpochMetrics(epoch=i, metrics={"minority_recall": at}) for i, at in enumerate(recalls, 1)]
    return report_with({"minority_recall": recalls[-1]}, curve=tuple(curve))


def eight(late: float, last: float) -> TrialReport:
    """A curve of eight epochs; the sixth is at three quarters, the others must not matter."""
    return rising(0.0, 0.9, 0.0, 0.9, 0.0, late, 0.9, last)


# Rises of .04, .06 and .08: mean .06, sd .02, standard error .011547; two of them .023.
STEADY = [eight(0.30, 0.34), eight(0.20, 0.26), eight(0.40, 0.48)]


@pytest.mark.parametrize(
    ("reports", "rise"),
    [
        pytest.param(STEADY, 0.06, id="beyond .05 and two standard errors"),
        pytest.param([eight(0.3, 0.35)] * 3, None, id="exactly .05"),
        pytest.param([eight(0.3, 0.351)] * 3, 0.051, id="just more"),
        # Rises of 0, .1 and .2: mean .1, sd .1, two standard errors .11547
        pytest.param(
            [eight(0.3, 0.3), eight(0.3, 0.4), eight(0.3, 0.5)], None, id="within two standard errors"
        ),
        # Rises of .02, .12 and .2: mean .11333, sd .09018, two standard errors .10414
        pytest.param([eight(0.3, 0.32), eight(0.3, 0.42), eight(0.3, 0.5)], 0.11333, id="just beyond them"),
        pytest.param([eight(0.5, 0.3)] * 3, None, id="it falls"),
        pytest.param(STEADY[:1], None, id="one seed tells no noise"),
        pytest.param([], None, id="no seed"),
        pytest.param([rising(0.1, 0.5)] * 3, None, id="two epochs have no last quarter"),
        pytest.param([rising(0.1, 0.2, 0.3, 0.5)] * 3, 0.2, id="the third of four epochs"),
        pytest.param([rising(0, 0, 0, 0, 0, 0.1, 0.4)] * 3, 0.3, id="the sixth of seven epochs"),
        pytest.param([*STEADY, rising(0.1, 0.2, None, 0.5)], None, id="a curve with a hole there"),
        pytest.param([*STEADY, rising(0.1)], None, id="a seed without a curve"),
    ],
)
def test_still_learning(reports: list[TrialReport], rise: float | None) -> None:
    found = still_learning(reports, "minority_recall")
    assert (None if found is None else found.number) == (
        None if rise is None else pytest.approx(rise, abs=1e-5)
    )


def test_still_learning_says_from_where_to_where() -> None:
    found = still_learning(STEADY, "minority_recall")
    assert found is not None
    assert found.sentence == (
        "minority_recall rose from 0.300 to 0.360 over the last quarter of the training: a strategy may "
        "win by being faster, not better; raise train.steps"
    )
    assert still_learning(STEADY, "tuned/minority_recall") is None  # no curve has it


def test_the_baseline_has_the_notes_of_a_strategy_and_its_own() -> None:
    metrics = {"minority_recall": 0.4, "support/rare": 62.0, "threshold": 0.0}
    seeds = tuple(one.model_copy(update={"metrics": metrics}) for one in STEADY)
    baseline = Baseline(metrics=metrics, sd={}, seeds=(0, 1, 2), reports=seeds)
    found = notes_on_baseline(baseline, config(), ("rare",))
    assert [one.name for one in found] == ["support too small", "untrained model", "still learning"]
    assert notes_on_baseline(None, config(), ("rare",)) == ()


# Gaps of .10, .15 and .20 between training images and val: mean .15, sd .05.
USUAL = [report(0.5, train=0.5 + gap) for gap in (0.10, 0.15, 0.20)]
# Of no spread at all.
ALIKE = [report(0.5, train=0.65)] * 3


@pytest.mark.parametrize(
    ("gaps", "baseline", "excess"),
    [
        # 2 * .05 * sqrt(1 + 1/3) = .11547
        pytest.param([0.266], USUAL, 0.116, id="one seed beyond two standard errors"),
        pytest.param([0.265], USUAL, None, id="one seed within two standard errors"),
        # 2 * .05 * sqrt(1/3 + 1/3) = .08165: here the least gap decides
        pytest.param([0.22, 0.25, 0.28], USUAL, 0.1, id="three seeds at the least gap"),
        pytest.param([0.22, 0.25, 0.277], USUAL, None, id="three seeds below the least gap"),
        pytest.param([0.25], ALIKE, 0.1, id="a baseline without spread: at the least gap"),
        pytest.param([0.249], ALIKE, None, id="a baseline without spread: below the least gap"),
        pytest.param([0.5], USUAL[:1], None, id="one baseline seed tells no noise"),
        pytest.param([0.5], [], None, id="no baseline"),
    ],
)
def test_minority_memorised(gaps: list[float], baseline: list[TrialReport], excess: float | None) -> None:
    diagnoses = found("minority memorised", [report(0.5, train=0.5 + gap) for gap in gaps], baseline)
    assert [one.number for one in diagnoses] == ([] if excess is None else [pytest.approx(excess)])


def test_minority_memorised_needs_fewer_sds_with_more_seeds() -> None:
    usual = [report(0.5, train=0.5 + gap) for gap in (0.0, 0.2) * 5]  # mean .1, sd .10541
    # 2 * .10541 * sqrt(1/5 + 1/10) = .11547
    assert found("minority memorised", [report(0.5, train=0.716)] * 5, usual)
    assert not found("minority memorised", [report(0.5, train=0.715)] * 5, usual)
    assert not found("minority memorised", [report(0.5, train=0.716)], usual)


def test_minority_memorised_is_measured_against_val_even_if_the_runs_end_on_test() -> None:
    fallen = [report(0.1, on_val=0.5, train=0.65)]
    assert not found("minority memorised", fallen, ALIKE, split="test")


def test_minority_memorised_says_both_differences_and_skips_records_without_them() -> None:
    (one,) = found("minority memorised", [report(0.4, train=0.9)], USUAL)
    assert one.sentence == (
        "minority recall is 0.500 higher on the training images than on val; for the baseline the "
        "difference is 0.150"
    )
    assert not found("minority memorised", [report(0.4)], USUAL)
    assert not found("minority memorised", [report(0.4, train=0.9)], [*USUAL, report(0.5)])


NEVER = "never found the minority: recall 0"
LITTLE = "found less than half of what their median finds, down to a recall of 0.000"


@pytest.mark.parametrize(
    ("recalls", "said"),
    [
        pytest.param([0.4, 0.0, 0.5], f"1 of 3 trained models {NEVER}", id="one seed of three"),
        pytest.param([0.0], f"1 of 1 trained models {NEVER}", id="the only seed"),
        pytest.param([0.6, 0.28, 0.0, 0.62, 0.58], f"2 of 5 trained models {LITTLE}", id="two of five"),
        pytest.param([0.25, 0.35, 0.45], None, id="a bad seed is no collapse"),
    ],
)
def test_minority_collapse(recalls: list[float], said: str | None) -> None:
    diagnoses = found("minority collapse", [report(recall) for recall in recalls])
    told = [(str(one.number), one.sentence) for one in diagnoses]
    assert told == ([] if said is None else [(said[0], said)])


@pytest.mark.parametrize(
    ("train", "knobs", "deficit"),
    [
        # The baseline's recall on its training images: mean .65, sd .05; 2 * .05 * sqrt(1 + 1/3) = .11547.
        pytest.param(0.534, {"augment_rest": 0.5}, 0.116, id="beyond two standard errors"),
        pytest.param(0.535, {"augment_rest": 0.5}, None, id="within two standard errors"),
        pytest.param(0.534, {"augment_minority": 0.1}, 0.116, id="either augmentation"),
        pytest.param(0.2, {"sampler_power": 1}, None, id="without augmentation it has another cause"),
        pytest.param(0.9, {"augment_rest": 0.5}, None, id="above the baseline"),
    ],
)
def test_augmentation_too_strong_by_recall_on_training_images(
    train: float, knobs: dict[str, float], deficit: float | None
) -> None:
    diagnoses = found("augmentation too strong", [report(0.5, train=train)], USUAL, knobs)
    assert [one.number for one in diagnoses] == ([] if deficit is None else [pytest.approx(deficit)])
    if diagnoses:
        assert "only 0.534 even on the training images" in diagnoses[0].sentence
        assert "for the baseline it is 0.650" in diagnoses[0].sentence
