"""Whether a budget covers what is about to begin."""

from collections.abc import Sequence

from search.pipeline.opening import Opened, shown
from search.pipeline.planning.known import reports_of, step_seconds
from search.pipeline.planning.plan import need
from search.record.experiments import Wanted
from search.request.computing.resources import AUTO
from search.work.spending import account
from spaces.errors import UsageError


def refuse_beyond_budget(found: Opened, experiment: str, wanted: Sequence[Wanted], go_on: str) -> None:
    """What has no use unless it is finished is not begun if the budget does not cover it.

    Once begun it is finished, should its runs take longer than those before.

    Args:
        found: The study.
        experiment: Its name.
        wanted: Its runs, or those up to its next look.
        go_on: The command that runs it once there is more.

    Raises:
        UsageError: It does not.
    """
    books, step_s = account(found.study), step_seconds(reports_of(found.study))
    if books.budget is None or step_s is None:
        return
    runs = found.study.experiment(experiment).runs() if experiment in found.study.experiments() else []
    if {one.spec.key for one in wanted} <= {run.key for run in runs}:  # a look has all of its runs at once
        return
    made = {run.key for run in runs if run.outcome is not None}
    left = [one.spec for one in wanted if one.spec.key not in made]
    chosen = found.config.resources != AUTO or found.study.choice is not None
    gpu = found.study.resources.gpu if chosen else books.gpu
    seconds = step_s * sum(spec.epochs * spec.train.eval_every for spec in left)
    lacking = books.lacking(need(seconds, gpu, books.at_once)) if left else None
    if lacking is not None:
        raise UsageError(
            f"budget: the {len(left)} runs of {experiment} should take {lacking}",
            f"raise `budget` in {shown(found.folder.study_yaml)}, then: {go_on}; fewer seeds or candidates "
            "need less",
        )
