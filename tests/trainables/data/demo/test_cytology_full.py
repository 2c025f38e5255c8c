from pathlib import Path

import pytest
from places import EXAMPLES
from tiled_data import draw_tiled

from search.cli.main import main
from search.pipeline.opening import data_of
from search.request.reading import load_config

STUDY = EXAMPLES / "cytology_full.yaml"
PLACEHOLDER = "/path/to/your/tiles/data.yaml"


def test_the_note_asks_for_what_it_says() -> None:
    config = load_config(STUDY)
    assert config.train.model == "yolov5s.yaml"
    assert config.train.epochs == 100
    assert config.train.imgsz == 640
    assert config.guards[0].metric == "map50_95"
    assert config.confirm.min_gain == 0.05


def test_it_runs_once_the_data_is_there(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.read_text().replace(PLACEHOLDER, str(draw_tiled(tmp_path, 20))))
    data, summary = data_of(load_config(study), study.name)
    assert data.minority == ("cluster",)
    assert summary.splits["train"].objects["cluster"] > 0
    assert summary.whole_images == {"train": 14, "val": 3, "test": 3}


def test_check_says_plainly_that_the_data_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(STUDY)]) == 2
    printed = capsys.readouterr()
    assert PLACEHOLDER in printed.err
    assert "no such file" in printed.err
    assert "Traceback" not in printed.out + printed.err
