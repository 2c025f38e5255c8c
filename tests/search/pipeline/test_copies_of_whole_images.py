"""Arms and knobs that copy whole images: on which data they are, and what they are matched to."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiled_data import GRID, draw_slides

from search.judging.comparison import ComparePlan
from search.pipeline.comparing import _plan
from search.pipeline.opening import Request, read_request
from search.request.reading import load_config
from spaces.errors import UsageError
from spaces.strategy import NAMED, Strategy
from trainables.contract.tasks import TASKS
from trainables.data.boxes.data_set import detection_once
from trainables.data.boxes.whole import load_whole
from trainables.data.tiled import cut_into
from trainables.detector.copies.planning import copied_classes
from trainables.strategy.sampling import expected_exposure

COPYING = ["pretile_3", "pretile_fresh_3", "augmented_as_pretile_3", "augmented_frozen_as_pretile_3"]
WITH_CLUSTERS = 5  # of 20 slides


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 20 slides, some with a cluster; only to be read."""
    root = tmp_path_factory.mktemp("tiled")
    for name in list(draw_slides(root / "slides", 20, clusters=1))[WITH_CLUSTERS:]:
        label = (root / "slides" / name).with_suffix(".txt")
        label.write_text("".join(f"{line}\n" for line in label.read_text().splitlines() if line[0] == "0"))
    whole = load_whole(root / "slides")
    cut_into(root / "tiles", whole, GRID, workers=1, watch=lambda done, total: None)
    return root / "tiles" / "data.yaml"


def study(root: Path, data: Any, **changes: Any) -> Path:
    described = {
        "name": "copies",
        "task": "detection",
        "data": str(data) if isinstance(data, Path) else data,
        "minority": ["cluster"],
        "train": {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 6, "eval_every": 2},
    }
    root.mkdir(exist_ok=True)
    (root / "study.yaml").write_text(yaml.safe_dump(described | changes))
    return root / "study.yaml"


def asked(root: Path, data: Any, **changes: Any) -> Request:
    return read_request(study(root, data, **changes), root / "runs", Console(file=io.StringIO()))


def planned(request: Request) -> tuple[ComparePlan, str]:
    """The plan, and what was said of it."""
    said = io.StringIO()
    return _plan(request, Console(file=said, width=200)), said.getvalue()


def exposure_of(strategy: Strategy, request: Request) -> float:
    """What is expected with seed 0."""
    data = detection_once(Path(request.data.source))
    rare = data.class_names.index("cluster")
    classes = [frozenset(image.classes.tolist()) for image in data.splits["train"]]
    return expected_exposure(
        [*classes, *copied_classes(data, (rare,), strategy.augmentation, seed=0)],
        {rare},
        retention=strategy.sampling.retention,
        power=strategy.sampling.sampler_power,
        max_repeat=strategy.sampling.max_repeat,
    )


def test_tiles_of_whole_images_are_compared_by_where_they_are_augmented(tiled: Path, tmp_path: Path) -> None:
    request = asked(tmp_path, tiled)
    plan, said = planned(request)
    assert list(plan.arms) == list(TASKS["detection"].arms)
    assert said == ""
    exposures = [exposure_of(plan.arms[name], request) for name in COPYING]
    assert exposures == pytest.approx([exposures[0]] * len(COPYING), abs=1e-4)
    assert exposures[0] > 2 * exposure_of(plan.arms["plain"], request)
    fresh, frozen = (plan.arms[name].changed() for name in COPYING[2:])
    assert fresh == {"sampler_power": fresh["sampler_power"], "augment_minority": 0.5}
    assert frozen == fresh | {"augment_variants": 3}


def test_other_data_are_compared_without_and_it_is_said(tiles: Path, tmp_path: Path) -> None:
    plan, said = planned(asked(tmp_path, tiles))
    assert list(plan.arms) == [name for name in TASKS["detection"].arms if name not in COPYING]
    assert said.count("\n") == 1
    names = ", ".join(COPYING)
    assert f"note: left out: {names}: it augments whole images before they are cut, and these data" in said


def test_too_few_epochs_for_two_models_are_said(tiled: Path, tmp_path: Path) -> None:
    train = {"model": "yolo_tiny.yaml", "imgsz": 64, "batch": 4, "steps": 4, "eval_every": 2}
    plan, said = planned(asked(tmp_path, tiled, train=train))
    assert {"dual_model", "dual_model_weighted"} == set(TASKS["detection"].arms) - set(plan.arms)
    assert said == "note: left out: dual_model, dual_model_weighted: two models need at least 3 epochs\n"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"compare": {"strategies": ["pretile_3"]}}, "compare.strategies: 'pretile_3': it augments whole"),
        ({"compare": {"reference": "pretile_3_plain"}}, "compare.reference: 'pretile_3_plain': it augm"),
        (
            {"compare": {"strategies": ["augmented_as_pretile_3"]}},
            "compare.strategies: 'augmented_as_pretile_3': it aug",
        ),
        (
            {"confirm": {"strategies": ["undersampled_40_pretile"]}},
            "confirm.strategies: 'undersampled_40_pre",
        ),
        ({"baseline": {"strategy": "pretile_3"}}, "baseline.strategy: 'pretile_3': it augments whole images"),
        (
            {"space": {"preset": "detection", "pretile_copies": {"choices": [0, 2]}}},
            "space.pretile_copies: it augments whole images before they are cut, and these data are no tiles",
        ),
    ],
)
def test_other_data_refuse_by_name_what_copies(
    changes: dict[str, Any], says: str, tiles: Path, tiled: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refusal:
        asked(tmp_path, tiles, **changes)
    assert says in refusal.value.message
    asked(tmp_path, tiled, **changes)


def test_a_strategy_that_a_command_names_is_refused_too(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pretile_3: it augments whole images before they are cut"):
        asked(tmp_path, tiles).strategy("pretile_3")


def test_whole_images_that_are_gone_are_told_before_anything_trains(tmp_path: Path) -> None:
    draw_slides(tmp_path / "slides", 10)
    whole = load_whole(tmp_path / "slides")
    cut_into(tmp_path / "tiles", whole, GRID, workers=1, watch=lambda done, total: None)
    data = tmp_path / "tiles" / "data.yaml"
    copying = {"compare": {"strategies": ["pretile_3"]}}
    asked(tmp_path / "a", data, **copying)
    for file in (tmp_path / "slides").glob("*.png"):
        file.unlink()
    with pytest.raises(UsageError, match=r"'pretile_3': it needs the whole images, and 7 are gone, e\.g\. /"):
        asked(tmp_path / "a", data, **copying)
    plan, said = planned(asked(tmp_path / "a", data, compare={"reference": "weighted"}))
    assert not set(COPYING) & set(plan.arms)
    assert f"left out: {', '.join(COPYING)}: it needs the whole images, and 7 are gone" in said


def test_whole_images_that_a_study_names_can_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))
    draw_slides(tmp_path / "slides", 10)
    data = {"images": str(tmp_path / "slides"), "tile": {"size": 64, "overlap": 32}}
    request = asked(tmp_path, data, compare={"strategies": ["pretile_3"]})
    assert request.strategy("pretile_3") == NAMED["pretile_3"]


def test_a_classifier_has_no_copies(tmp_path: Path) -> None:
    described = {
        "name": "digits",
        "task": "classification",
        "data": "demo:digits",
        "train": {"model": "small_cnn", "imgsz": 8, "steps": 4, "eval_every": 2},
    }
    file = tmp_path / "study.yaml"
    for knob in ("pretile_copies", "pretile_fresh", "augment_variants"):
        searched = {"space": {"preset": "classification", knob: {"choices": [0, 1]}}}
        file.write_text(yaml.safe_dump(described | searched))
        with pytest.raises(UsageError, match=rf"space\.{knob}: not for classification"):
            load_config(file)


def test_a_number_of_copies_is_searched_by_choices_alone(tmp_path: Path, tiled: Path) -> None:
    ranged = study(tmp_path, tiled, space={"preset": "detection", "pretile_copies": [0, 3]})
    with pytest.raises(UsageError, match=r"pretile_copies: whole numbers only, e\.g\. {choices: "):
        load_config(ranged)
    too_many = study(tmp_path, tiled, space={"preset": "detection", "pretile_copies": 9})
    with pytest.raises(UsageError, match="pretile_copies: should be less than or equal to 8, got 9"):
        load_config(too_many)
    chosen = study(tmp_path, tiled, space={"preset": "detection", "pretile_copies": {"choices": [0, 3]}})
    assert load_config(chosen).space.point_of(NAMED["pretile_3"]) is not None
