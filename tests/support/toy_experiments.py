"""Confirmations and comparisons of the toy in this process, for tests."""

import io
from pathlib import Path
from typing import Any

import yaml
from in_process import Bench, Here, config, failure
from rich.console import Console

from search.judging.comparison import Comparison
from search.judging.confirmation import Asked, Confirmation, Result
from search.pipeline.comparing import compare_strategies
from search.pipeline.confirming import confirm
from search.record.folder import StudyFolder

# The first of these lifts the toy's recall at no cost, the second costs more than may be lost.
GOOD, COSTLY = "undersampled_40_augmented", "filtered"
SMALL = {"strategies": [GOOD, COSTLY], "finalists": 1, "seeds": 4, "baseline_seeds": 4, "more_seeds": 2}
AS_PLANNED = Asked()


def quiet() -> Console:
    return Console(file=io.StringIO())


def search_with_a_failure(folder: Path) -> Path:
    """A searched study whose trial 2 failed."""
    bench = Bench(folder, config(search={"trials": 6, "sampler": "tpe"}, confirm=SMALL))
    bench.run(at_most=5)  # the baseline's seeds and trials 0 and 1
    bench.run(failure, at_most=1)
    bench.run()
    return bench.folder.path


def confirmed_here(
    path: Path,
    asked: Asked = AS_PLANNED,
    here: Here | None = None,
    *,
    resume: bool = False,
    fresh: bool = False,
) -> Confirmation:
    cluster = Here() if here is None else here
    return confirm(StudyFolder(path), asked, cluster=cluster, resume=resume, fresh=fresh, console=quiet())[1]


def outcomes(confirmation: Confirmation) -> dict[str, str]:
    return {result.candidate.name: result.verdict.outcome for result in confirmation.looks[-1].results}


def write_request(folder: Path, **changes: Any) -> Path:
    """A study file that compares two seeds of `COSTLY` with three of the reference."""
    compared = {"strategies": [COSTLY], "seeds": 2, "reference_seeds": 3}
    request = config(**{"search": {"trials": 2, "sampler": "random"}, "compare": compared} | changes)
    (folder / "study.yaml").write_text(yaml.safe_dump(request.model_dump(mode="json")))
    return folder / "study.yaml"


def compared_here(folder: Path, here: Here, *, resume: bool = False) -> Comparison:
    """What `folder`'s study file compares, as a study in its `runs`."""
    _, comparison = compare_strategies(
        folder / "study.yaml", folder / "runs", cluster=here, resume=resume, console=quiet()
    )
    return comparison


def request_of(folder: Path, **changes: object) -> str:
    """A study file of one trial, for the command line."""
    request = config().model_dump(mode="json") | {"baseline": {"seeds": 1}, "search": {"trials": 1}}
    (folder / "study.yaml").write_text(yaml.safe_dump(request | changes))
    return str(folder / "study.yaml")


TWO_ARMS = {"strategies": ["filtered"], "seeds": 2, "reference_seeds": 3}


def carry_out_comparison(request: str, runs: Path, here: Here, *, resume: bool = False) -> None:
    """As the command does, in this process."""
    compare_strategies(Path(request), runs, cluster=here, resume=resume, console=quiet())


def timeless(confirmation: Confirmation) -> list[list[Result]]:
    """The results of its looks, but for how long runs took."""
    return [
        [result.model_copy(update={"seconds": None}) for result in look.results]
        for look in confirmation.looks
    ]
