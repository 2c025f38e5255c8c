"""A bundle as an MLflow model: it finds what was measured, whether MLflow or we call it.

What writes and reads the folder by MLflow needs mlflow-skinny, which is not in the lock, so an environment of
its own. All that is ours, the model that MLflow calls, is tested without it.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bundles import bundle_of
from tiny_detector import draw_tiles, tiny_spec
from trials import report_of

from search.export.contents.converting import MLFLOW, check_formats, convert
from search.export.contents.standalone import write_template
from spaces.errors import UsageError
from trainables.contract.predictions import DetectionPredictions, load_predictions

HAS_MLFLOW = find_spec("mlflow") is not None
PREDICT = """
import sys
from pathlib import Path
import pandas as pd
how, place, *files = sys.argv[1:]
if how == "mlflow":
    import mlflow.pyfunc
    model = mlflow.pyfunc.load_model(place)
else:
    import runpy
    model = runpy.run_path(str(Path(place) / "mlflow_model.py"))["_load_pyfunc"](place)
found = model.predict(files)
of_bytes = model.predict(pd.DataFrame({"image": [Path(file).read_bytes() for file in files]}))
assert found.equals(of_bytes)
found.to_json("found.json", orient="split")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_tiles(tmp_path_factory.mktemp("data"), {"train": 16, "val": 8}, rare_every=3)


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    report_of(tiny_spec(data, {"sampler_power": 1.0}, steps=90, eval_every=90, lr=0.01), root)
    made = bundle_of(root / "result", root / "bundle")
    write_template(made, MLFLOW, MLFLOW)
    (made / "requirements.txt").write_text("# What it needs.\nultralytics\n")
    return made


def check_found(how: str, place: Path, bundle: Path, data: Path, cwd: Path) -> None:
    measured = load_predictions(bundle / "predictions.npz")
    assert isinstance(measured, DetectionPredictions)
    shipped = measured.shipped
    assert shipped is not None
    assert len(shipped.image) > 0
    files = [str(data.parent / name) for name in measured.image.tolist()]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, how, str(place), *files],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    import pandas as pd  # noqa: PLC0415  (only here)

    found = pd.read_json(cwd / "found.json", orient="split")
    for i in range(len(files)):
        mine, wanted = found[found["image"] == i], shipped.image == i
        np.testing.assert_allclose(
            np.sort(mine["score"]), np.sort(shipped.score[wanted].astype(float)), atol=1e-4
        )
        names = measured.class_names[shipped.label[wanted]]
        assert sorted(mine["class"]) == sorted(names.tolist())


def test_what_mlflow_calls_finds_what_was_measured(bundle: Path, data: Path, tmp_path: Path) -> None:
    check_found("plain", bundle, bundle, data, tmp_path)


@pytest.mark.skipif(not HAS_MLFLOW, reason="needs mlflow-skinny, in an environment of its own")
def test_mlflow_writes_loads_and_predicts(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    convert(bundle, {"mlflow"})
    check_found("mlflow", bundle / "mlflow", bundle, data, tmp_path)


def test_without_mlflow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.export.contents.converting.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--mlflow: mlflow and pandas not installed") as raised:
        check_formats({"mlflow"})
    assert "mlflow-skinny" in raised.value.hint
