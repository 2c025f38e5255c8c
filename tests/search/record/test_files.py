"""What runs leave in a study's folder, cut at a bad moment: by a full disk, a power cut, a kill."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import DATA, config
from left_by_runs import KEY, checkpoint, result
from reports import report_with
from trials import outcome_of, report_of

from search.record.files import RunFiles
from spaces.errors import UsageError
from trainables.contract.kept import disown_weights, write_result
from trainables.contract.trial import PROGRESS, REPORT, EpochMetrics, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path / "trials")


def test_a_run_resumes_from_its_furthest_checkpoint_wherever_it_lies(files: RunFiles) -> None:
    assert files.resumable(KEY) is None
    first = files.root / KEY / "checkpoint_000000"
    checkpoint(first, 3)
    aside = files.resumable(KEY)
    assert aside is not None
    assert (aside / "state.bin").read_text() == "after 3"
    # The next attempt counts its checkpoints from 0 again, and ends before its first epoch, or after it.
    assert files.resumable(KEY) == aside
    checkpoint(first, 4)
    assert files.resumable(KEY) == aside
    assert (aside / "state.bin").read_text() == "after 4"
    assert [path.name for path in (files.root / KEY).iterdir()] == ["resume"]


def test_a_finished_run_is_known_by_its_report(files: RunFiles) -> None:
    checkpoint(files.root / KEY / "checkpoint_000000", 3)
    assert files.result(KEY) is None
    assert files.report(KEY) is None
    done = result(files.root / KEY / "checkpoint_000001")
    assert files.result(KEY) == done
    report = files.report(KEY)
    assert report is not None
    assert report.metrics == {"minority_recall": 0.5}


def test_a_result_without_its_weights_is_whole_and_says_so(files: RunFiles) -> None:
    done = result(files.root / KEY / "checkpoint_000001")
    (done / "predictions.npz").write_bytes(b"predictions")
    write_result(done, report_with({"minority_recall": 0.5}, key=KEY))
    checkpoint(files.root / KEY / "resume", 3)
    aside = sum(path.stat().st_size for path in (files.root / KEY / "resume").iterdir())
    assert files.to_use(KEY, "trial 3", hashed=True) == done
    assert files.remove_weights(KEY) == 700 + aside
    assert sorted(path.name for path in done.iterdir()) == ["predictions.npz", "report.json"]
    assert [path.name for path in (files.root / KEY).iterdir()] == [done.name]
    assert files.result(KEY, hashed=True) == done
    assert files.report(KEY) is not None
    with pytest.raises(UsageError, match="weights of trial 3 were removed when the search had ended") as said:
        files.to_use(KEY, "trial 3")
    assert "confirm STUDY --trial N" in said.value.hint
    assert "keep: all" in said.value.hint
    assert files.remove_weights(KEY) == 0


def test_nothing_is_left_to_go_on_from_of_a_run_that_has_failed_for_good(files: RunFiles) -> None:
    checkpoint(files.root / KEY / "checkpoint_000003", 3)
    size = sum(path.stat().st_size for path in (files.root / KEY).rglob("*") if path.is_file())
    assert files.remove_weights(KEY) == size
    assert list((files.root / KEY).iterdir()) == []


def test_weights_go_another_time_if_the_removal_was_cut(files: RunFiles) -> None:
    done = result(files.root / KEY / "checkpoint_000001")
    (weights,) = disown_weights(done)
    assert files.to_use(KEY, "trial 3", hashed=True) == done
    assert files.remove_weights(KEY) == 700
    assert not weights.exists()


def test_a_result_that_does_not_say_what_it_holds_keeps_its_weights(files: RunFiles) -> None:
    done = result(files.root / KEY / "checkpoint_000001")
    (done / REPORT).unlink()  # as of 0.1.0
    assert files.remove_weights(KEY) == 0
    assert (done / "weights.pt").exists()


def test_a_report_of_another_run_is_not_taken(files: RunFiles) -> None:
    result(files.root / KEY / "checkpoint_000001", key="another")
    assert files.report(KEY) is None


def test_what_is_kept_replaces_what_was_kept_before(files: RunFiles, tmp_path: Path) -> None:
    for number in (0, 1):
        files.keep(KEY, checkpoint(tmp_path / "made", 1))
        assert [path.name for path in (files.root / KEY).iterdir()] == [f"checkpoint_00000{number}"]
    assert files.result(KEY) is None
    files.keep(KEY, result(tmp_path / "done"))
    assert files.result(KEY) == files.root / KEY / "checkpoint_000002"


# Copies that were cut

Cut = Callable[[Path], None]


def cut_to_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)  # as a power cut leaves what was never flushed


CUTS = [cut_to_half, emptied, zeroed, Path.unlink]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", ["state.bin", PROGRESS])
def test_a_cut_checkpoint_gives_way_to_the_one_before(files: RunFiles, name: str, cut: Cut) -> None:
    checkpoint(files.root / KEY / "checkpoint_000000", 3)
    cut(checkpoint(files.root / KEY / "checkpoint_000001", 4) / name)
    aside = files.resumable(KEY)
    assert aside is not None
    assert (aside / "state.bin").read_text() == "after 3"
    assert [path.name for path in (files.root / KEY).iterdir()] == ["resume"]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", ["state.bin", PROGRESS])
def test_where_all_are_cut_a_run_starts_afresh_into_empty_folders(
    files: RunFiles, name: str, cut: Cut
) -> None:
    cut(checkpoint(files.root / KEY / "checkpoint_000000", 3) / name)
    cut(checkpoint(files.root / KEY / "resume", 2) / name)
    assert files.resumable(KEY) is None
    assert list((files.root / KEY).iterdir()) == []


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", ["weights.pt", REPORT])
def test_a_cut_result_is_none(files: RunFiles, name: str, cut: Cut) -> None:
    checkpoint(files.root / KEY / "checkpoint_000000", 3)
    cut(result(files.root / KEY / "checkpoint_000001") / name)
    assert files.report(KEY) is None
    assert files.result(KEY, hashed=True) is None
    assert files.resumable(KEY) is not None


def test_a_copy_that_has_not_got_its_progress_is_no_result(files: RunFiles) -> None:
    done = result(files.root / KEY / "checkpoint_000000")
    (checkpoint(files.root / KEY / "checkpoint_000001", 3) / PROGRESS).unlink()
    assert files.result(KEY) == done


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_killed_at_any_moment_the_furthest_checkpoint_is_still_there(
    files: RunFiles, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(files.root / KEY / "resume", 1)
    checkpoint(files.root / KEY / "checkpoint_000000", 2)
    checkpoint(files.root / KEY / "checkpoint_000001", 3)
    moments = iter(range(1, 100))

    def dying(name: str, real: Callable[..., None]) -> None:
        def patched(*args: object, **kwargs: object) -> None:
            if next(moments) == dies_at:
                raise KeyboardInterrupt
            real(*args, **kwargs)

        monkeypatch.setattr(name, patched)

    dying("pathlib.Path.rename", Path.rename)
    dying("shutil.rmtree", shutil.rmtree)
    with pytest.raises(KeyboardInterrupt):
        files.resumable(KEY)
    monkeypatch.undo()
    aside = files.resumable(KEY)
    assert aside is not None
    assert (aside / "state.bin").read_text() == "after 3"


@pytest.mark.parametrize("cut", [cut_to_half, emptied, Path.unlink], ids=lambda cut: cut.__name__)
def test_a_checkpoint_is_not_replaced_by_one_that_was_cut(files: RunFiles, cut: Cut) -> None:
    older = checkpoint(files.root / KEY / "checkpoint_000000", 3)
    newer = checkpoint(files.root / KEY / "checkpoint_000001", 4)
    cut(newer / "state.bin")
    files.replace(str(older), str(newer))
    assert older.exists()
    files.replace(str(older), str(checkpoint(newer, 4)))
    assert not older.exists()


# 0.1.0 wrote neither sizes nor hashes


def as_before(folder: Path, epochs: int) -> Path:
    folder.mkdir(parents=True)
    curve = [{"epoch": epoch + 1, "metrics": {}} for epoch in range(epochs)]
    (folder / PROGRESS).write_text(json.dumps({"curve": curve, "seconds": 1.0, "restarts": 0}))
    (folder / "state.json").write_text(f'{{"after": {epochs}}}')
    return folder


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", ["state.json", PROGRESS])
def test_what_an_earlier_version_left_is_read_unless_it_shows_a_cut(
    files: RunFiles, name: str, cut: Cut
) -> None:
    as_before(files.root / KEY / "resume", 3)
    newer = as_before(files.root / KEY / "checkpoint_000000", 4)
    if (name, cut) != ("state.json", Path.unlink):  # which files there were it does not say
        cut(newer / name)
        aside = files.resumable(KEY)
        assert aside is not None
        assert json.loads((aside / "state.json").read_text()) == {"after": 3}


def test_a_result_of_an_earlier_version_is_known_by_lacking_progress(files: RunFiles) -> None:
    as_before(files.root / KEY / "checkpoint_000000", 4)
    done = as_before(files.root / KEY / "checkpoint_000001", 4)
    (done / PROGRESS).unlink()
    assert files.result(KEY) == done
    assert files.report(KEY) is None
    cut_to_half(done / "state.json")
    assert files.result(KEY) is None


# A real run from what is left


def spec() -> TrialSpec:
    request = config(train={"model": "toy", "steps": 4, "eval_every": 1})
    return request.spec(request.baseline_strategy, DATA, seed=3)


class _Cut(Exception):
    pass


def trained_until(files: RunFiles, epoch: int, resume: Path | None, name: str) -> None:
    """A run whose checkpoints stay in the study's folder as a cluster copies them, side by side."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = TrialFolder(Path(scratch), resume)

        def keep(measured: EpochMetrics) -> None:
            number = f"checkpoint_{measured.epoch:06d}"
            shutil.copytree(folder.checkpoint, files.root / spec().key / number)
            if measured.epoch == epoch:
                raise _Cut

        with pytest.raises(_Cut):
            run_trial(spec(), folder, keep)
    if name:
        cut_to_half(files.root / spec().key / f"checkpoint_{epoch:06d}" / name)


@pytest.mark.parametrize("name", ["state.json", PROGRESS])
def test_a_run_measures_the_same_from_the_checkpoint_before_a_cut_one(
    files: RunFiles, name: str, tmp_path: Path
) -> None:
    undisturbed = report_of(spec(), tmp_path / "alone")
    trained_until(files, 3, None, name)
    report = report_of(spec(), tmp_path / "resumed", files.resumable(spec().key))
    assert (report.metrics, report.curve) == (undisturbed.metrics, undisturbed.curve)
    assert report.restarts == 1


def test_a_run_leaves_its_report_beside_its_result(files: RunFiles, tmp_path: Path) -> None:
    outcome = outcome_of(spec(), tmp_path / "run")
    assert isinstance(outcome, TrialReport)
    files.keep(spec().key, tmp_path / "run" / "result")
    assert files.report(spec().key) == outcome


def test_a_curve_is_read_from_what_a_run_left_and_else_from_the_record(files: RunFiles) -> None:
    whole = report_with({}, key=KEY, curve=tuple(EpochMetrics(epoch=i, metrics={}) for i in (1, 2, 3, 4)))
    stored = whole.model_copy(update={"curve": whole.curve[2:]})
    assert files.curve(stored) == stored.curve
    folder = files.root / KEY / "checkpoint_000000"
    folder.mkdir(parents=True)
    (folder / "weights.pt").write_bytes(b"weights")
    write_result(folder, whole)
    (folder / "weights.pt").unlink()  # to save space
    assert files.curve(stored) == whole.curve
    assert files.curve(stored.model_copy(update={"key": "other"})) == stored.curve
