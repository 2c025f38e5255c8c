import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from search.request.space import PRESETS, expand_space
from spaces.errors import UsageError
from spaces.ranges import Choice, Dimension, FloatRange
from spaces.strategy import FAMILY_OF, NAMED, PLAIN, SearchSpace, Strategy

DIMENSION: TypeAdapter[FloatRange | Choice] = TypeAdapter(Dimension)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param([0.3, 0.5], FloatRange(low=0.3, high=0.5), id="two numbers are a range"),
        pytest.param(0.4, Choice(choices=(0.4,)), id="one number is fixed"),
        pytest.param({"choices": [0.3, 0.4]}, Choice(choices=(0.3, 0.4)), id="choices are written out"),
        pytest.param(
            {"low": 0.1, "high": 1, "log": True}, FloatRange(low=0.1, high=1, log=True), id="a log range"
        ),
    ],
)
def test_a_dimension_reads_as_a_person_writes_it(written: object, meant: object) -> None:
    assert DIMENSION.validate_python(written) == meant


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        pytest.param([0.5, 0.3], "low must be below high", id="upside down"),
        pytest.param([1, 2, 3], "for 3 single values", id="three numbers are no range"),
        pytest.param("fast", "a number, a range", id="a word"),
        pytest.param(True, "a number, a range", id="a switch"),
        pytest.param({"low": 0, "high": 1, "log": True}, "starts above 0", id="a log range from zero"),
        pytest.param({"low": 0, "hihg": 1}, "high", id="a misspelt key"),
    ],
)
def test_a_dimension_refuses(written: object, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DIMENSION.validate_python(written)


def test_knobs_and_families_are_the_same_thing() -> None:
    for strategy in NAMED.values():
        assert Strategy.from_knobs(strategy.knobs()) == strategy
    assert set(PLAIN.knobs()) == set(FAMILY_OF)
    assert PLAIN.changed() == {}


def test_the_notes_arms_are_there() -> None:
    assert NAMED["all_tiles"] == PLAIN
    assert NAMED["filtered_weighted"].changed() == {"retention": 0, "sampler_power": 1}
    for percent in (30, 40, 50):
        changed = NAMED[f"undersampled_{percent}_augmented"].changed()
        assert changed == {"retention": percent / 100, "augment_minority": 0.5}


def test_an_unknown_knob_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no such knob 'retentoin'"):
        Strategy.from_knobs({"retentoin": 0.5})


def test_a_strategy_is_immutable_and_ignores_no_key() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PLAIN.sampling.retention = 0.5
    with pytest.raises(ValidationError, match="Extra inputs"):
        Strategy.model_validate({"sampling": {"retention": 0.5, "other": 1}})


@pytest.mark.parametrize("preset", [path.stem for path in PRESETS.glob("*.yaml")])
def test_a_preset_holds_the_baseline_and_asks_its_named_strategies_first(preset: str) -> None:
    space = SearchSpace.model_validate(expand_space(preset))
    assert space.point_of(PLAIN) is not None
    assert len(space.first_points()) == len(space.first) >= 5
    asked = [point["retention"] for point in space.first_points()]
    assert {0.3, 0.4, 0.5} <= set(asked)


def test_one_line_narrows_retention_to_the_notes_range() -> None:
    space = SearchSpace.model_validate(expand_space({"preset": "detection", "retention": [0.3, 0.5]}))
    assert space.dimensions["retention"] == FloatRange(low=0.3, high=0.5)
    assert space.point_of(PLAIN) is None
    assert {point["retention"] for point in space.first_points()} <= {0.3, 0.4, 0.5}


def test_package_data_is_what_the_tests_read() -> None:
    assert yaml.safe_load((PRESETS / "detection.yaml").read_text())["dimensions"]["retention"] == [0.3, 1.0]


def test_a_detectors_class_weights_are_not_searched_beyond_the_root() -> None:
    # Alpha weights positives only; with 162 cells to a cluster, power 1 would all but silence the cells.
    power = SearchSpace.model_validate(expand_space("detection")).dimensions["alpha_power"]
    assert max(power.ends()) == 0.5


def test_repeat_factors_have_a_name_and_a_dimension() -> None:
    space = SearchSpace.model_validate(expand_space("detection"))
    assert NAMED["repeat_factor"].changed().keys() == {"repeat_threshold"}
    assert space.point_of(NAMED["repeat_factor"]) is not None


def test_the_notes_default_still_corrects_twice() -> None:
    assert NAMED["focal_alpha"].changed() == {"focal_gamma": 2, "alpha_power": 1, "sampler_power": 1}


def test_a_classifiers_space_is_small_and_asks_for_logit_adjustment_early() -> None:
    space = SearchSpace.model_validate(expand_space("classification"))
    assert len(space.dimensions) <= 8
    assert space.point_of(NAMED["logit_adjusted"]) in space.first_points()[:3]


@pytest.mark.parametrize(
    "knob", ["class_balance", "repeat_threshold", "label_smoothing", "defer", "alpha_prior"]
)
def test_one_line_adds_what_a_classifiers_preset_leaves_out(knob: str) -> None:
    space = SearchSpace.model_validate(expand_space({"preset": "classification", knob: [0, 0.3]}))
    assert knob not in SearchSpace.model_validate(expand_space("classification")).dimensions
    assert space.dimensions[knob] == FloatRange(low=0, high=0.3)


@pytest.mark.parametrize(
    "knobs", [{"logit_tau": 2.1}, {"class_balance": 1.01}, {"label_smoothing": 0.31}, {"defer": -0.1}]
)
def test_a_knob_beyond_its_range_is_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="equal to"):
        Strategy.from_knobs(knobs)


BUSY = {
    "sampler_power": 0.8,
    "repeat_threshold": 0.4,
    "alpha_power": 0.6,
    "class_balance": 0.2,
    "logit_tau": 1.0,
    "retention": 0.5,
    "focal_gamma": 2.0,
}


@pytest.mark.parametrize(
    ("defer", "progress", "draws", "loss"),
    [
        pytest.param(1.0, 0.0, 1.0, 0.0, id="at first only the draws correct"),
        pytest.param(1.0, 0.25, 0.75, 0.25, id="linear between"),
        pytest.param(1.0, 1.0, 0.0, 1.0, id="in the end only the loss"),
        pytest.param(0.5, 0.0, 1.0, 0.5, id="half: the loss starts with half"),
        pytest.param(0.5, 1.0, 0.5, 1.0, id="half: the draws end with half"),
        pytest.param(0.0, 0.3, 1.0, 1.0, id="off: both all the time"),
    ],
)
def test_what_is_in_force_over_time_by_hand(defer: float, progress: float, draws: float, loss: float) -> None:
    factors = dict.fromkeys(("sampler_power", "repeat_threshold"), draws)
    factors |= dict.fromkeys(("alpha_power", "class_balance", "logit_tau"), loss)
    expected = {knob: value * factors.get(knob, 1) for knob, value in BUSY.items()}
    in_force = Strategy.from_knobs(BUSY | {"defer": defer}).at(progress).knobs()
    assert in_force == pytest.approx(PLAIN.knobs() | expected)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_is_handed_over_keeps_its_sum(power: float, defer: float, progress: float) -> None:
    knobs = Strategy.from_knobs({"sampler_power": power, "alpha_power": power, "defer": defer})
    in_force = knobs.at(progress)
    total = in_force.sampling.sampler_power + in_force.loss.alpha_power
    assert total == pytest.approx(power * (2 - defer))
    assert in_force.at(0.7) == in_force


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("sampled", Choice(choices=(1,)), id="a word"),
        pytest.param("train", Choice(choices=(0,)), id="the other word"),
        pytest.param(["train", "sampled"], FloatRange(low=0, high=1), id="a range of words"),
        pytest.param({"choices": ["train", "sampled"]}, Choice(choices=(0, 1)), id="choices of words"),
        pytest.param(0.5, Choice(choices=(0.5,)), id="a number between"),
    ],
)
def test_the_prior_of_alpha_may_be_written_as_a_word(written: object, meant: object) -> None:
    space = SearchSpace.model_validate(expand_space({"preset": "detection", "alpha_prior": written}))
    assert space.dimensions["alpha_prior"] == meant


@pytest.mark.parametrize("given", [{"alpha_prior": "smapled"}, {"alpha_power": "sampled"}])
def test_a_word_that_means_no_value_of_the_knob_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="a number, a range"):
        SearchSpace.model_validate(expand_space(given))
