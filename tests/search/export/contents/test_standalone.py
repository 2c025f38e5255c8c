"""A classifier's bundle runs on plain torch and decides as it was measured, in a process without rarecall."""

import io
import json
import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_images import draw, write_folder
from in_process import Here
from PIL import Image
from rich.console import Console

from search.export.bundle import export_run
from search.export.chosen import chosen_trial
from search.export.contents.converting import convert
from search.pipeline.searching import search
from trainables.classifier.networks import build_network
from trainables.contract.predictions import ClassificationPredictions, load_predictions
from trainables.contract.trial import TrainSpec
from trainables.data.images.decoding import decode
from trainables.data.sources import images_of

NETWORKS = ("onnx", "torchscript")
STUDY = """
name: exported
task: classification
data: {data}
minority: [{minority}]
train: {{model: {model}, imgsz: {side}, batch: 8, steps: 8, eval_every: 4, lr: 0.003, amp: '{amp}'}}
guards: [{{metric: accuracy, max_drop: 1}}]
baseline: {{strategy: plain, seeds: 1}}
search: {{trials: 1, seed: 0}}
keep: all
"""

# Runs the script as a person would, twice, and asks it for its logits; none of our packages can be imported,
# whatever is installed.
ISOLATED = """
import contextlib, io, json, runpy, sys
ours = ("rarecall", "search", "spaces", "trainables", "ultralytics", "cv2", "ray", "optuna", "pydantic")
assert not [name for name in ours if name in sys.modules]
site, lacking, script, *files = sys.argv[1:]
sys.path.append(site)  # where the extra `onnx` may be that PYTHONPATH named
sys.modules.update(dict.fromkeys([*ours, *filter(None, lacking.split(","))]))
said = {}
for name, options in (("tuned", []), ("untouched", ["--untuned"])):
    sys.argv = [script, *options, *files]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        done = runpy.run_path(script, run_name="__main__")
    said[name] = out.getvalue().splitlines()
classifier = done["Classifier"]()
images = [image for _, image in done["named_images"](files, classifier)]
said["logits"] = classifier.logits(images).tolist()
print(json.dumps(said))
"""


def exported(
    root: Path, data: str, model: str, side: int, amp: str = "off", minority: str = "dog"
) -> tuple[Path, dict[str, float | None]]:
    """The bundle of the baseline-like first trial of a study, and what was measured of it."""
    (root / "study.yaml").write_text(
        STUDY.format(data=data, model=model, side=side, amp=amp, minority=minority)
    )
    quiet = Console(file=io.StringIO())
    folder = search(root / "study.yaml", root / "runs", cluster=Here(), resume=False, console=quiet).folder
    study = folder.open()
    (trial,) = study.trials()
    assert trial.report is not None
    return export_run(folder, study, chosen_trial(study, trial.number), root / "bundle"), trial.report.metrics


def isolated(bundle: Path, files: list[str], cwd: Path, lacking: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the bundle's script says elsewhere, without PYTHONPATH and without packages that are `lacking`."""
    onnx = find_spec("onnx")
    extra = "" if onnx is None or onnx.origin is None else str(Path(onnx.origin).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", ISOLATED, extra, ",".join(lacking), str(bundle / "predict.py"), *files],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def check_parity(
    bundle: Path, said: dict[str, Any], files: list[str], metrics: dict[str, float | None]
) -> None:
    """Decisions are the stored ones, image by image, and so is the accuracy."""
    stored = load_predictions(bundle / "predictions.npz")
    assert isinstance(stored, ClassificationPredictions)
    np.testing.assert_allclose(said["logits"], stored.logits, atol=1e-4)
    scaled = stored.logits / stored.temperature
    shares = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    for name, bias in (("tuned", stored.bias), ("untouched", 0.0)):
        decided = (stored.logits + bias).argmax(axis=1)
        lines = [line.split("\t") for line in said[name]]
        assert [line[0] for line in lines] == files
        assert [line[1] for line in lines] == stored.class_names[decided].tolist()
        chosen = shares[np.arange(len(decided)), decided]
        np.testing.assert_allclose([float(line[2]) for line in lines], chosen, atol=1e-4)
    right = [line.split("\t")[1] for line in said["untouched"]] == stored.class_names[stored.label]
    assert np.average(right, weights=stored.weight) == pytest.approx(metrics["accuracy"], abs=1e-12)


def write_odd_files(folder: Path, grey: bool) -> None:
    """What a phone, a microscope and a drawing program leave."""
    rotated = Image.Exif()
    rotated[274] = 6  # to be turned by 90 degrees
    mode = "L" if grey else "RGB"
    draw(90, 120, mode=mode).save(folder / "turned.jpg", exif=rotated, quality=95)
    deep = np.random.default_rng(91).integers(0, 65536, (14, 20), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    draw(94, 100, mode="L").convert("LA").save(folder / "grey_with_alpha.png")
    if not grey:
        draw(92, 90).quantize(16).save(folder / "palette.png")
        draw(95, 90).quantize(16).save(folder / "see_through.png", transparency=3)
        clear = draw(93, 150).convert("RGBA")
        clear.putalpha(draw(96, 100, mode="L"))
        clear.save(folder / "alpha.png")


def image_folder(root: Path, mode: str) -> Path:
    counts = {"train/cat": 16, "train/dog": 5, "val/cat": 9, "val/dog": 4, "test/cat": 2, "test/dog": 2}
    data = write_folder(root / "data", counts, mode)
    write_odd_files(data / "val" / "cat", grey=mode == "L")
    return data


@pytest.mark.parametrize(
    ("model", "mode", "side", "amp"),
    [
        pytest.param("small_cnn", "RGB", 12, "off", id="small_cnn on RGB images"),
        pytest.param("small_cnn", "L", 12, "bf16", id="small_cnn on grey images, in bfloat16"),
        pytest.param("resnet18", "RGB", 32, "off", id="torchvision's resnet18"),
        pytest.param("resnet18", "L", 32, "off", id="resnet18, whose three channels see one grey plane"),
    ],
)
def test_the_exported_script_decides_as_the_stored_predictions(
    tmp_path: Path, model: str, mode: str, side: int, amp: str
) -> None:
    data = image_folder(tmp_path, mode)
    bundle, metrics = exported(tmp_path, str(data), model, side, amp)
    assert (bundle / "model.py").exists() == (model == "small_cnn")
    stored = load_predictions(bundle / "predictions.npz")
    files = [str(data / name) for name in stored.image.tolist()]
    assert len(files) == 13 + (3 if mode == "L" else 6)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    check_parity(bundle, isolated(bundle, files, elsewhere), files, metrics)
    if amp == "off":  # what is written computes in float32
        convert(bundle, NETWORKS)
        (bundle / "weights.pt").unlink()
        for kind in NETWORKS:  # the one of ONNX is the first that is used
            lacking = ("torch", "torchvision") if kind == "onnx" else ("torchvision",)
            check_parity(bundle, isolated(bundle, files, elsewhere, lacking), files, metrics)
            (bundle / f"weights.{kind}").unlink()


def test_the_digits_which_are_no_files_are_predicted_from_arrays(tmp_path: Path) -> None:
    bundle, metrics = exported(tmp_path, "demo:digits", "small_cnn", 8, minority='"1"')
    images = images_of("demo:digits", 8).splits["val"].images
    np.save(tmp_path / "val.npy", images)
    file = str(tmp_path / "val.npy")
    said = isolated(bundle, [file], tmp_path)
    check_parity(bundle, said, [f"{file}[{i}]" for i in range(len(images))], metrics)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle of RGB images, and what its script defines."""
    root = tmp_path_factory.mktemp("script")
    bundle, _ = exported(root, str(image_folder(root, "RGB")), "small_cnn", 12)
    return bundle, runpy.run_path(str(bundle / "predict.py"))


@pytest.mark.parametrize(
    ("model", "side"),
    [
        pytest.param("vit_b_16", 32, id="made for one image size"),
        pytest.param("maxvit_t", 224, id="made for another"),
        pytest.param("squeezenet1_1", 32, id="for any"),
    ],
)
def test_a_model_of_torchvision_is_built_as_it_was_trained(
    script: tuple[Path, dict[str, Any]], tmp_path: Path, model: str, side: int
) -> None:
    train = TrainSpec(model=model, imgsz=side, batch=2, steps=1, eval_every=1, lr=0.001)
    with torch.device("meta"):
        trained = build_network(train, channels=3, n_classes=4)
        stored = {"model": model, "class_names": list("abcd"), "arguments": trained.arguments}
        rebuilt = script[1]["network_of"](stored, tmp_path)
    shapes = [
        {name: value.shape for name, value in module.state_dict().items()}
        for module in (trained.module, rebuilt)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_script_reads_files_as_the_training_does(
    script: tuple[Path, dict[str, Any]], tmp_path: Path, channels: int
) -> None:
    write_odd_files(tmp_path, grey=False)
    draw(1, 100).save(tmp_path / "plain.bmp")
    Image.fromarray(np.full((9, 9), 300, np.int32)).save(tmp_path / "deep.tif")
    for file in tmp_path.iterdir():
        ours, its = decode(file, 8, channels), script[1]["decode"](file, 8, channels)
        np.testing.assert_array_equal(its, ours, err_msg=file.name)


def test_floating_point_pixels_are_refused(script: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point"):
        script[1]["decode"](tmp_path / "float.tif", 8, 3)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros((2, 12, 12), np.uint8), id="grey instead of RGB"),
        pytest.param(np.zeros((2, 8, 12, 3), np.uint8), id="another side"),
        pytest.param(np.zeros((2, 12, 12, 3), np.float32), id="already divided by 255"),
    ],
)
def test_arrays_that_are_not_as_the_trainings_are_refused(
    script: tuple[Path, dict[str, Any]], images: np.ndarray
) -> None:
    bundle, defined = script
    with pytest.raises(ValueError, match=r"images of shape \(2, 12, 12, 3\), uint8, are wanted"):
        defined["Classifier"](bundle).predict(images)


def test_biases_decide_and_the_temperature_says_how_surely(
    script: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    bundle, defined = script
    stored = torch.load(bundle / "weights.pt", weights_only=True)
    images = np.zeros((1, 12, 12, 3), np.uint8)
    logits = defined["Classifier"](bundle).logits(images)[0]
    loser = int(logits.argmin())
    stored["bias"][loser] = 1 + float(logits.max() - logits.min())
    stored["temperature"] = 2.0
    torch.save(stored, tmp_path / "weights.pt")
    (tmp_path / "model.py").write_text((bundle / "model.py").read_text())
    changed = defined["Classifier"](tmp_path)
    ((name, share),) = changed.predict(images)
    assert name == stored["class_names"][loser]
    assert share == pytest.approx(float(torch.softmax(torch.as_tensor(logits) / 2, 0)[loser]))
    assert changed.predict(images, tuned=False)[0][0] == stored["class_names"][int(logits.argmax())]


def test_weights_of_an_earlier_version_are_read(script: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    bundle, defined = script
    stored = torch.load(bundle / "weights.pt", weights_only=True)
    for later in ("arguments", "image_channels", "amp"):
        del stored[later]
    torch.save(stored, tmp_path / "weights.pt")
    (tmp_path / "model.py").write_text((bundle / "model.py").read_text())
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    assert defined["Classifier"](tmp_path).predict(images) == defined["Classifier"](bundle).predict(images)
