"""What a notebook shows of a study, and the shipped notebook itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import rarecall

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_study_shows_its_answer_and_its_front(searched_study: Path) -> None:
    study = rarecall.open(searched_study)
    html = study._repr_html_()
    assert "Not confirmed yet: in the search trial" in html
    assert html.count("<tr") >= 1 + len(study.front())
    for figure in (study.plot_front(), study.plot_curves()):
        assert isinstance(figure, Figure)
        assert figure.axes


@pytest.mark.slow
def test_the_tour_runs_from_its_first_cell_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLES / "digits.yaml", tmp_path)
    text = (tmp_path / "digits.yaml").read_text().replace("trials: 30", "trials: 4")
    (tmp_path / "digits.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in json.loads((EXAMPLES / "tour.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # as a kernel does, one cell after the other
    assert len(names["trials"]) == 4
    assert (tmp_path / "runs" / "digits" / "study.yaml").is_file()
