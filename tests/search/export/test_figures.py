"""Pictures of whole studies: which files there are, and when there are none."""

from pathlib import Path

import pytest
from in_process import Bench, config
from places import ROOT

from search.cli.main import main
from search.export.figures import draw_study
from search.record.folder import StudyFolder
from spaces.errors import UsageError


def drawn(study: Path, where: Path, kind: str = "svg") -> list[str]:
    folder = StudyFolder(study)
    written = draw_study(folder, folder.open("look"), where, kind)
    assert all(path.parent == where and path.stat().st_size > 1000 for path in written)
    return [path.name for path in written]


def test_a_compared_classifier_has_all_four(tmp_path: Path) -> None:
    study = ROOT / "tests" / "studies" / "0.1.0" / "finished"  # only the files of trial 0 are kept
    assert drawn(study, tmp_path / "a" / "b") == ["front.svg", "curves.svg", "compare.svg", "confusion.svg"]


def test_a_search_that_is_under_way_has_what_there_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 3, "sampler": "random"}))
    with pytest.raises(UsageError, match="nothing is measured yet"):
        drawn(bench.folder.path, tmp_path / "pictures")
    assert not (tmp_path / "pictures").exists()
    bench.run(at_most=1)
    assert drawn(bench.folder.path, tmp_path / "pictures") == ["front.svg", "curves.svg"]


def test_the_command_says_what_it_wrote(
    searched_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "paper"
    assert main(["pareto", str(searched_study), "--png", str(out), "--svg", str(out)]) == 0
    assert (
        f"pictures: {out / 'front.png'}, {out / 'curves.png'}, {out / 'front.svg'}" in capsys.readouterr().out
    )
    assert main(["pareto", str(searched_study), "--csv", "--png", str(out)]) == 0
    said = capsys.readouterr()
    assert "pictures" not in said.out
    assert f"pictures: {out / 'front.png'}" in said.err


def test_a_folder_that_cannot_be_made_is_the_persons_error(
    searched_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["pareto", str(searched_study), "--png", str(tmp_path / "file" / "pictures")]) == 2
    assert "cannot write" in capsys.readouterr().err
