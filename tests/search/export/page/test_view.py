"""What stands on the page of a study: the answer first, every trial, and nothing that should not leave."""

import json
from pathlib import Path

import pytest
from in_process import Bench, config, failure
from told_trials import trial
from toy_experiments import SMALL, confirmed_here, search_with_a_failure

from search.export.page.answer import question
from search.export.page.curves import MOST_POINTS, line
from search.export.page.html import as_html, as_json, check_writable, write_page
from search.export.page.view import Asked, view
from search.record.folder import StudyFolder
from search.request.config import StudyConfig
from spaces.errors import UsageError
from trainables.contract.trial import EpochMetrics


def shown(path: Path, *, anonymous: bool = False) -> dict:
    """As a browser reads it."""
    return json.loads(as_json(view(StudyFolder(path), Asked(path, anonymous))))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_with_a_failure(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = search_with_a_failure(tmp_path_factory.mktemp("confirmed"))
    confirmed_here(path)
    return path


def test_before_anything_is_finished_it_says_so(tmp_path: Path) -> None:
    page = shown(Bench(tmp_path, config()).folder.path)
    assert page["answer"]["outcome"] == "unfinished"
    assert page["trials"] == []
    assert page["baseline"] is None
    assert page["curves"]["trials"] == {}
    assert page["confirmation"] is page["comparison"] is None


def test_after_a_search_each_trial_is_there_and_nothing_is_claimed(searched: Path) -> None:
    page = shown(searched)
    asked = StudyFolder(searched).open().trials()
    assert [one["number"] for one in page["trials"]] == [one.number for one in asked]
    assert [one["failure"] for one in page["trials"] if one["group"] == "failed"] == [
        "error: told to end as error"
    ]
    answer = page["answer"]
    assert answer["outcome"] == "unconfirmed"
    assert answer["headline"].startswith(f"Not confirmed yet: in the search trial {answer['trial']} did best")
    assert [one["number"] for one in page["trials"] if one["chosen"]] == [answer["trial"]]
    assert any("partly luck" in one for one in answer["sentences"])
    assert page["next"][0]["command"] == f"rarecall confirm {searched}"
    assert len(page["baseline"]["seeds"]) == len(StudyFolder(searched).open().baseline_trials())
    assert set(page["curves"]["baseline"]) == set(page["curves"]["metrics"])


def test_the_limit_is_where_the_baselines_mean_and_the_guard_put_it(searched: Path) -> None:
    page = shown(searched)
    limits = {one["metric"]: one["limit"] for one in page["guards"]}
    assert limits["map50_95"] == pytest.approx(page["baseline"]["mean"]["map50_95"] - 0.03, abs=1e-5)


def test_a_verdict_is_the_answer_with_its_bound_its_price_and_its_error(confirmed: Path) -> None:
    page = shown(confirmed)
    best = next(one for one in page["confirmation"]["candidates"] if one["outcome"] == "accepted")
    answer = page["answer"]
    assert answer["outcome"] == "accepted"
    assert answer["headline"].startswith(f"Yes: {best['name']} finds more of the rare class (rare)")
    gain = best["rows"][0]
    assert f"at least {gain['bound']:+.3f}" in answer["sentences"][0]
    assert any("in at most 5% of all cases" in one for one in answer["sentences"])
    assert all(row["holds"] for row in best["rows"])
    costly = next(one for one in page["confirmation"]["candidates"] if one["outcome"] == "rejected")
    assert costly["reasons"]
    assert "confirm/1" in page["ledger"]


def test_an_interrupted_search_and_a_failed_baseline_are_no_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "interrupted", config())
    bench.run(at_most=2)
    said = shown(bench.folder.path)["answer"]
    assert (said["outcome"], said["headline"]) == ("unfinished", "The search is not finished.")
    assert said["sentences"] == ["2 seeds of the baseline and 0 of 14 trials are finished."]
    bench = Bench(tmp_path / "failed", config())
    bench.run(failure, at_most=1)
    said = shown(bench.folder.path)["answer"]
    assert said["outcome"] == "failed"
    assert said["sentences"] == ["error: told to end as error"]


def test_a_reason_that_names_files_does_not_leave_the_house(searched: Path) -> None:
    page = shown(searched, anonymous=True)
    assert {one["failure"] for one in page["trials"] if one["failure"]} == {"error"}


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("page.txt", id="no page"),
        pytest.param("missing/page.html", id="no folder"),
        pytest.param("folder.html", id="a folder"),
        pytest.param("link.html", id="a link"),
        pytest.param(".", id="this folder"),
    ],
)
def test_what_is_no_place_for_a_page_is_refused_and_stays(file: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="--out: "):
        check_writable(tmp_path / file)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_page({"title": "x"}, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_rejected_strategy_is_no_yes(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, config(search={"trials": 2, "sampler": "random"}, confirm=SMALL | {"finalists": 0})
    )
    bench.run()
    path = bench.folder.path
    confirmed_here(path, asked_for("filtered"))
    answer = shown(path)["answer"]
    assert answer["outcome"] == "rejected"
    assert answer["headline"] == "No: filtered does not do what was asked."
    assert answer["trial"] is None


def asked_for(strategy: str):
    from search.judging.confirmation import Asked as AskedOfConfirmation  # noqa: PLC0415  (two of a name)

    return AskedOfConfirmation(strategies=(strategy,))


def test_a_page_that_leaves_the_house_has_no_path(confirmed: Path) -> None:
    text = as_html(view(StudyFolder(confirmed), Asked(confirmed, anonymous=True)))
    assert str(confirmed) not in text
    assert str(confirmed.parent) not in text
    assert str(confirmed) in as_html(view(StudyFolder(confirmed), Asked(confirmed)))


def test_the_question_names_the_rare_class_and_every_limit() -> None:
    guards = [{"metric": "map50_95", "max_drop": 0.02}, {"metric": "minority_ap50", "floor": 0.4}]
    asked = question(config(guards=guards), ("cluster",))
    assert asked == (
        "Which training strategy finds more of the rare class (cluster), while overall mAP@50-95 falls by no "
        "more than 0.02, and ranking of the rare class (AP50) stays at 0.4 or better?"
    )


def test_the_question_says_which_way_is_worse() -> None:
    guards = [{"metric": "ece", "max_drop": 0.05}, {"metric": "accuracy", "max_drop": 0}]
    digits = {
        "name": "d",
        "task": "classification",
        "data": "demo:digits",
        "minority": ["1"],
        "guards": guards,
    }
    train = {"model": "small_cnn", "steps": 1, "eval_every": 1}
    asked = question(StudyConfig.model_validate(digits | {"train": train}), ("1",))
    assert asked.endswith("while calibration error rises by no more than 0.05, and accuracy does not fall?")


def test_a_long_curve_keeps_its_ends_and_few_points() -> None:
    curve = [EpochMetrics(epoch=i, metrics={"map50_95": i / 1000}) for i in range(1, 501)]
    short = line(curve, "map50_95")
    assert len(short) == MOST_POINTS
    assert (short[0][0], short[-1][0]) == (1, 500)
    assert line(curve[:5], "map50_95") == [[i, i / 1000] for i in range(1, 6)]
    assert line([EpochMetrics(epoch=1, metrics={"map50_95": None})], "map50_95") == []


def test_what_a_user_wrote_cannot_end_the_script() -> None:
    page = {"title": "</script><script>alert(1)</script>", "sentences": ["</script>"]}
    text = as_html(page)
    assert text.count("</script>") == 3  # the page's own
    assert "alert(1)</script>" not in text
    assert "{{" not in text


def test_what_no_json_holds_is_null() -> None:
    assert (
        as_json({"a": float("inf"), "b": [float("nan"), 1.5], 3: ("x",)})
        == '{"a":null,"b":[null,1.5],"3":["x"]}'
    )


def test_a_thousand_trials_stay_under_a_megabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, config(search={"trials": 3, "sampler": "random"}))
    bench.run()
    rng_free = [trial(i, (i * 37 % 1000) / 1000, (i * 91 % 1000) / 1000) for i in range(1000)]
    monkeypatch.setattr("search.record.study.Study.trials", lambda study: rng_free)
    text = as_html(view(bench.folder, Asked(bench.folder.path)))
    assert len(text) < 1_000_000
