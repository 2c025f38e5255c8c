"""A bundle as an MLflow model: MLflow loads it, and finds with it what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import alone, bundle_of
from tiny_detector import draw_tiles, tiny_spec
from trials import report_of

from search.export.contents.converting import MLFLOW, check_formats, convert
from search.export.contents.standalone import write_template
from spaces.errors import UsageError
from trainables.contract.predictions import DetectionPredictions, load_predictions

PREDICT = """
import sys
from pathlib import Path
import pandas as pd
import mlflow.pyfunc
place, *files = sys.argv[1:]
model = mlflow.pyfunc.load_model(place)
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


def test_mlflow_loads_it_and_finds_what_was_measured(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    convert(bundle, {"mlflow"})
    measured = load_predictions(bundle / "predictions.npz")
    assert isinstance(measured, DetectionPredictions)
    shipped = measured.shipped
    assert shipped is not None
    assert len(shipped.image) > 0
    files = [str(data.parent / name) for name in measured.image.tolist()]
    (tmp_path / "use.py").write_text(PREDICT)
    done = alone(tmp_path / "use.py", bundle / "mlflow", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = pd.read_json(tmp_path / "found.json", orient="split")
    for i in range(len(files)):
        mine, wanted = found[found["image"] == i], shipped.image == i
        np.testing.assert_allclose(
            np.sort(mine["score"]), np.sort(shipped.score[wanted].astype(float)), atol=1e-4
        )
        names = measured.class_names[shipped.label[wanted]]
        assert sorted(mine["class"]) == sorted(names.tolist())


def test_without_mlflow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.export.contents.converting.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--mlflow: mlflow and pandas not installed") as raised:
        check_formats({"mlflow"})
    assert ".[mlflow]" in raised.value.hint
