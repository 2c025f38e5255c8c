"""The commands as functions: each returns the opened study, prints nothing, raises `RarecallError`.

What trains is loaded when one is called.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rarecall.study import Study
from search.judging.confirmation import Asked
from search.record.folder import StudyFolder
from search.record.storage.address import runs_folder, study_folder
from spaces.errors import UsageError
from trainables.contract.trust import trusting_weights

if TYPE_CHECKING:
    from search.work.protocol import Cluster

RUNS = Path("runs")


def search(
    study: str | Path,
    *,
    runs: str | Path = RUNS,
    address: str | None = None,
    here: bool = False,
    resume: bool = False,
    trust_weights: bool = False,
) -> Study:
    """Run a search, as `rarecall search` does.

    Args:
        study: A study file, or with `resume` also a study's folder.
        runs: Folder of all studies, or where they are on a storage, e.g. `s3://bucket/runs`.
        address: Of a running Ray cluster, e.g. `auto`; None starts a local one.
        here: Without Ray, one run at a time in this process.
        resume: Go on with an existing study.
        trust_weights: Load pickled weights that can run code. It is not stored: say it at each call.

    Raises:
        RarecallError: The request is not as it must be, a run or the cluster failed, or it was interrupted.
    """
    from search.pipeline.searching import search as run  # noqa: PLC0415

    with trusting_weights(trust_weights):
        found = run(
            _folder(study),
            runs_folder(str(runs)),
            cluster=_cluster(address, here=here),
            resume=resume,
            console=_nowhere(),
        )
    return Study(found.folder.path)


def confirm(
    study: str | Path,
    *,
    trials: Sequence[int] = (),
    strategies: Sequence[str] = (),
    fusions: Sequence[int] = (),
    seeds: int | None = None,
    baseline_seeds: int | None = None,
    one_look: bool = False,
    fresh: bool = False,
    address: str | None = None,
    here: bool = False,
    resume: bool = False,
    trust_weights: bool = False,
) -> Study:
    """Confirm a study's finalists on fresh seeds and the test split, as `rarecall confirm` does.

    A confirmation that has finished is not made again, unless `fresh`.

    Args:
        study: A study's folder.
        trials: Numbers of trials to confirm instead of the finalists.
        strategies: Named strategies likewise.
        fusions: Numbers of pairs that `rarecall fuse` has ranked, likewise.
        seeds: Of each candidate; None as in the study file.
        baseline_seeds: Of the baseline; None as in the study file.
        one_look: Plan no second look.
        fresh: Another confirmation, on seeds of its own.
        address: As of `search`.
        here: As of `search`.
        resume: Go on with an interrupted confirmation.
        trust_weights: As of `search`.

    Raises:
        RarecallError: As of `search`.
    """
    from search.pipeline.confirming import confirm as run  # noqa: PLC0415

    with trusting_weights(trust_weights):
        found, _ = run(
            StudyFolder(_folder(study)),
            Asked(tuple(trials), tuple(strategies), tuple(fusions), seeds, baseline_seeds, one_look),
            cluster=_cluster(address, here=here),
            resume=resume,
            fresh=fresh,
            console=_nowhere(),
        )
    return Study(found.folder.path)


def compare(
    study: str | Path,
    *,
    runs: str | Path = RUNS,
    address: str | None = None,
    here: bool = False,
    resume: bool = False,
    trust_weights: bool = False,
) -> Study:
    """Set a study file's named strategies side by side, as `rarecall compare` does.

    Args:
        study: A study file, or a study's folder.
        runs: As of `search`.
        address: As of `search`.
        here: As of `search`.
        resume: Go on with an interrupted comparison.
        trust_weights: As of `search`.

    Raises:
        RarecallError: As of `search`.
    """
    from search.pipeline.comparing import compare_strategies as run  # noqa: PLC0415

    with trusting_weights(trust_weights):
        found, _ = run(
            _folder(study),
            runs_folder(str(runs)),
            cluster=_cluster(address, here=here),
            resume=resume,
            console=_nowhere(),
        )
    return Study(found.folder.path)


def _folder(study: str | Path) -> Path:
    """A study file, or a study's folder; of one on a storage, its mirror."""
    folder = study_folder(str(study))
    StudyFolder(folder).bring()
    return folder


def _cluster(address: str | None, *, here: bool) -> "Cluster":
    if here and address is not None:
        raise UsageError("here and address: one of them")
    if here:
        from search.cluster.here import Here  # noqa: PLC0415

        return Here()
    from search.cluster.launch import RayCluster  # noqa: PLC0415

    return RayCluster(address)


def _nowhere() -> Console:
    """Where nothing is printed."""
    return Console(file=io.StringIO())
