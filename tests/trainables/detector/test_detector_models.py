import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import FOCAL_ALPHA_WEIGHTED, tiny_spec, weights_in
from trials import outcome_of, report_of
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from spaces.errors import UsageError
from trainables.contract.trial import TrialFailure
from trainables.detector.arguments import resolve_model
from trainables.detector.models import check_detector

ONE_EPOCH = {"steps": 2, "eval_every": 2}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        pytest.param("yolo26n.yaml", 2.6e6, id="yolo26n.yaml"),
        *[
            pytest.param(model, parameters, id=model, marks=pytest.mark.slow)
            for model, parameters in {
                "yolov3-tiny.yaml": 12e6,
                "yolov5n.yaml": 2.6e6,
                "yolov6n.yaml": 4.5e6,
                "yolov8n.yaml": 3.2e6,
                "yolov9t.yaml": 2.1e6,
                "yolov10n.yaml": 2.8e6,
                "yolo11n.yaml": 2.6e6,
                "yolo11s.yaml": 9.4e6,
                "yolo12n.yaml": 2.6e6,
                "yolov8n-p2.yaml": 3e6,
            }.items()
        ],
    ],
)
def test_a_strategy_is_applied_to_every_family(
    model: str, parameters: float, tiles: Path, tmp_path: Path
) -> None:
    applied = report_of(tiny_spec(tiles, FOCAL_ALPHA_WEIGHTED, model=model, **ONE_EPOCH), tmp_path).applied
    assert applied["parameters"] == pytest.approx(parameters, rel=0.3)
    assert {knob: applied[knob] for knob in FOCAL_ALPHA_WEIGHTED} == FOCAL_ALPHA_WEIGHTED
    assert applied["alpha"][1] > 1 > applied["alpha"][0]
    assert 1 < applied["focal_scale"][0] <= applied["focal_scale"][1]
    assert applied["tensors_loaded"] == 0


def stored(model: torch.nn.Module, path: Path, names: list[str]) -> Path:
    """A checkpoint as Ultralytics' own training writes it: half precision, the class names with it."""
    model.names = dict(enumerate(names))
    torch.save({"model": None, "ema": model.half(), "train_args": {"task": model.task}}, path)
    return path


def tiny_detector(n_classes: int) -> DetectionModel:
    torch.manual_seed(3)
    model = DetectionModel(resolve_model("yolo_tiny.yaml"), nc=n_classes, verbose=False)
    model.task = "detect"
    for tensor in model.state_dict().values():  # no tensor is what a fresh model has by chance
        tensor += torch.rand_like(tensor) if tensor.is_floating_point() else 1
    return model


@pytest.mark.parametrize(
    ("names", "fresh"),
    [
        pytest.param(["cell", "cluster"], 0, id="the same classes: all of it"),
        # The last layer of the classes at each of the two strides: a weight and a bias.
        pytest.param(["dog", "cat", "cow"], 4, id="another number of classes: all but the class layers"),
        pytest.param(["cluster", "cell"], 4, id="the classes in another order: their rows are moved"),
    ],
)
def test_weights_from_a_path_are_where_a_run_starts(
    names: list[str], fresh: int, tiles: Path, tmp_path: Path
) -> None:
    # Ultralytics would look for a yolov5su.pt instead, and then on the network.
    path = stored(tiny_detector(len(names)), tmp_path / "yolov5s.pt", names)
    given = torch.load(path, weights_only=False)["ema"].float().state_dict()
    spec = tiny_spec(tiles, FOCAL_ALPHA_WEIGHTED, model=str(path), lr=1e-9, **ONE_EPOCH)
    report = report_of(spec, tmp_path / "t")
    assert report.applied["tensors"] == len(given)
    assert report.applied["tensors_loaded"] == len(given) - fresh
    trained = weights_in(tmp_path / "t")
    first = "model.0.conv.weight"
    np.testing.assert_allclose(trained[first].float(), given[first], atol=1e-4)
    if set(names) == {"cell", "cluster"}:
        bias = "model.14.cv3.0.2.bias"
        order = [names.index("cell"), names.index("cluster")]
        np.testing.assert_allclose(trained[bias].float(), given[bias][order], atol=1e-4)


def test_a_runs_own_weights_start_another_run(tiles: Path, tmp_path: Path) -> None:
    report_of(tiny_spec(tiles, {}, **ONE_EPOCH), tmp_path / "first")
    path = tmp_path / "first" / "result" / "weights.pt"
    applied = report_of(tiny_spec(tiles, {}, model=str(path), **ONE_EPOCH), tmp_path / "then").applied
    assert applied["tensors_loaded"] == applied["tensors"] == len(weights_in(tmp_path / "first"))


def test_a_model_of_ones_own_is_a_yaml_by_its_path(tiles: Path, tmp_path: Path) -> None:
    own = shutil.copy(resolve_model("yolo_tiny.yaml"), tmp_path / "mine.yaml")
    report_of(tiny_spec(tiles, {}, model=str(own), **ONE_EPOCH), tmp_path / "t")


@pytest.mark.parametrize(
    "model",
    ["yolo_tiny.yaml", "yolov5s.yaml", "yolov8x-p6.yaml", "yolov9e.yaml", "yolov10b.yaml", "yolo12.yaml"],
)
def test_detectors_that_are_shipped_are_known_by_name(model: str) -> None:
    check_detector(model)


def test_models_are_files_on_this_machine_and_never_downloaded() -> None:
    assert Path(resolve_model("yolo_tiny.yaml")).is_file()
    assert resolve_model("yolo11n.yaml") == "yolo11n.yaml"
    for name in ("yolo11n.pt", "yolo11n", "nothing.yaml"):
        with pytest.raises(UsageError, match=r"train\.model"):
            resolve_model(name)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param("yolo11n-seg.yaml", "has the head Segment", id="segments"),
        pytest.param("yolo26n-pose.yaml", "has the head Pose26", id="poses"),
        pytest.param("yolov8n-cls.yaml", "has the head Classify", id="classifies"),
        pytest.param("yolo12s-obb.yaml", "has the head OBB", id="turns boxes"),
        pytest.param(
            "rtdetr-l.yaml", "has the head RTDETRDecoder", id="a transformer with a loss of its own"
        ),
        pytest.param("yolov8s-world.yaml", "has the head WorldDetect", id="takes words"),
        pytest.param("yolov8s-worldv2.yaml", "has the head WorldDetect", id="takes words, second version"),
        pytest.param("yolov3n.yaml", "no such file", id="a scale that this yaml lacks"),
        pytest.param("yolo11q.yaml", "no such file", id="a scale that no yaml has"),
        pytest.param("yolo11n.pt", "no such file", id="weights that would be downloaded"),
        pytest.param("yolo11n", "no such file", id="no suffix"),
        pytest.param("https://example.org/yolo11n.pt", "no such file", id="an address"),
        pytest.param("dataset.py", "no such file", id="another file of ours"),
    ],
)
def test_other_names_are_refused_before_anything_is_loaded(model: str, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"train\.model: .*{reason}"):
        check_detector(model)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("yolo11m.yml", "yolo11m.yaml"),
        ("yolov11n.yaml", "yolo11n.yaml"),
        ("yolo11n", "yolo11n.yaml"),
        ("YOLO11s.yaml", "yolo11s.yaml"),
        ("yolov8n-p2.yml", "yolov8n-p2.yaml"),
        ("yolo_tinny.yaml", "yolo_tiny.yaml"),
        ("my_own_weights.pt", None),
    ],
)
def test_the_nearest_model_is_suggested(typed: str, meant: str | None) -> None:
    with pytest.raises(UsageError) as refused:
        check_detector(typed)
    assert refused.value.hint.startswith(f"did you mean '{meant}'?") == (meant is not None)
    assert ("did you mean" in refused.value.hint) == (meant is not None)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        pytest.param("x.onnx", b"\x08", "neither a model yaml nor weights", id="an exported model"),
        pytest.param("x.pt", b"no weights", "no weights of an Ultralytics detector", id="a text"),
        pytest.param("x.yaml", b"train: images", "describes no model", id="a data set's yaml"),
        pytest.param("x.yaml", b"a: [", "not readable as yaml", id="a broken yaml"),
        pytest.param("y.yaml", b"\xff\xfe\x00", "not readable as yaml", id="no text at all"),
    ],
)
def test_other_files_are_refused_by_what_is_in_them(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        check_detector(str(tmp_path / name))


def test_weights_of_another_task_are_refused_without_running_their_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SegmentationModel("yolo11n-seg.yaml", nc=2, verbose=False)
    model.task = "segment"
    path = stored(model, tmp_path / "segments.pt", ["cell", "cluster"])
    torch.save({"state": {}}, tmp_path / "state.pt")
    (tmp_path / "models").mkdir()  # the YOLOv5 repository pickles its own `models.yolo.Model`
    (tmp_path / "models" / "yolo.py").write_text("class Model: pass")
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        from models.yolo import Model  # noqa: PLC0415

        torch.save({"model": Model()}, tmp_path / "anchors.pt")
    for file, reason in {
        path: "weights of a SegmentationModel",
        tmp_path / "state.pt": "no weights of an Ultralytics detector",
        tmp_path / "anchors.pt": "weights of the YOLOv5 repository",
    }.items():
        with pytest.raises(UsageError, match=reason):
            check_detector(str(file))


def test_a_yaml_that_no_model_can_be_built_from_fails_at_the_start_of_its_trial(
    tiles: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.yaml").write_text(
        "nc: 2\nbackbone: [[-1, 1, Convolution, [8, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]"
    )
    outcome = outcome_of(tiny_spec(tiles, {}, model=str(tmp_path / "odd.yaml")), tmp_path / "t")
    assert isinstance(outcome, TrialFailure)
    assert outcome.kind == "error"
    assert "Convolution" in outcome.reason
    assert not (tmp_path / "t" / "checkpoint" / "state.pt").exists()
