"""Comparing: named strategies side by side, each with several seeds; exploratory, in a study's record."""

from pathlib import Path

from rich.console import Console

from search.export.trackers.told import check_installed
from search.judging.choosing import choose_merging
from search.judging.compare import compare
from search.judging.comparison import ComparePlan, Comparison, Conclusion
from search.judging.measured import Measurer
from search.pipeline.allotting import asked_of
from search.pipeline.experimenting import run_experiment
from search.pipeline.opening import (
    Opened,
    Request,
    continued,
    make,
    make_ready,
    nothing_to_resume,
    opened,
    read_request,
)
from search.pipeline.planning.covering import refuse_beyond_budget
from search.pipeline.tracking import tell_all
from search.record.experiments import COMPARISON
from search.record.stored import packed, unpacked
from search.request.arms import matched_pairs
from search.show.common import write_csv
from search.show.comparison import as_rows
from search.show.pictures.comparison import comparison_picture, draw_comparison
from search.work.protocol import Cluster
from spaces.errors import UsageError
from spaces.strategy import Strategy
from trainables.contract.tasks import TASKS, metric_names, on_whole_images


def compare_strategies(
    path: Path, runs: Path, *, cluster: Cluster, resume: bool, console: Console
) -> tuple[Opened, Comparison]:
    """Train every arm of a study file's `compare:` with its seeds, and set them side by side.

    The study is made if it does not exist. Runs that the record has are not made again, so an arm can be
    added later. The result also goes to `compare.csv` and `compare.svg` in the study's folder.

    Args:
        path: A study file or a study's folder.
        runs: Folder of all studies.
        cluster: Where the runs are made.
        resume: Go on with a comparison that was interrupted.
        console: For the live screen.

    Raises:
        UsageError: The study file, the data or the folders are not as they must be, or with `resume` nothing
            was begun.
        RunError: The cluster is out of reach, or a seed crashed every time.
        Interrupted: By Ctrl-C; nothing finished is lost.
    """
    request = read_request(path, runs, console)
    check_installed(request.config.tracking)
    plan = _plan(request, console)
    if request.folder.study_yaml.exists():
        request = continued(request, path)
    elif resume:
        raise nothing_to_resume(f"there is no study in {request.where}", f"rarecall compare {path}")
    else:
        make(request)
    with opened(request, "compared") as found:
        try:
            comparison = _compared(found, plan, cluster, resume=resume, console=console)
        finally:
            found.study.flush()
            if found.study.empty:
                found.folder.discard()  # it could not start, and will be asked for differently
        _write(found, comparison)  # also of a stored one: the files may be another's
        tell_all(found, console)
    return found, comparison


def _plan(request: Request, console: Console) -> ComparePlan:
    """Every arm with its strategy on these data; of those that nobody named, the ones that they allow.

    Raises:
        UsageError: The split is empty, or the data allow no such strategy.
    """
    settings = request.config.compare
    if settings.split not in request.summary.splits:
        raise UsageError(f"compare.split: the data has no {settings.split} split")
    asked = settings.strategies or TASKS[request.config.task].arms
    names = dict.fromkeys([settings.reference, *asked])
    if len(names) < 2:
        raise UsageError(f"compare.strategies: nothing beside the reference '{settings.reference}'")
    arms: dict[str, Strategy] = {}
    left_out: dict[str, list[str]] = {}
    for name in names:
        try:
            arms[name] = request.strategy(name)
        except UsageError as error:
            if name in settings.strategies or name == settings.reference:
                raise
            left_out.setdefault(error.message.removeprefix(f"{name}: "), []).append(name)
    for why, left in left_out.items():
        console.print(f"note: left out: {', '.join(left)}: {why}", highlight=False, soft_wrap=True)
    return ComparePlan(
        settings=settings,
        arms=arms,
        whole_images=bool(request.summary.whole_images),
    )


def _compared(
    found: Opened, plan: ComparePlan, cluster: Cluster, *, resume: bool, console: Console
) -> Comparison:
    """The comparison, from the record if it has finished there."""
    config, record = found.config, found.study.begin(COMPARISON)
    done = [unpacked(Conclusion, text) for text in record.conclusions]
    begun = None if record.plan is None else unpacked(ComparePlan, record.plan)
    # What was compared before was merged so, and is not made again.
    merging = choose_merging(found.study) if begun is None else begun.merging
    plan = plan.model_copy(update={"merging": merging})
    known = next((one for one in done if one.plan == plan), None)
    if known is not None:
        return known.read()
    if resume and begun != plan:
        raise nothing_to_resume(
            f"no comparison of these strategies was begun in {found.where}",
            f"rarecall compare {found.where}",
        )
    if begun == plan and not resume:
        raise UsageError(
            f"{COMPARISON} in {found.where} is not finished",
            f"go on with it: rarecall compare {found.where} --resume",
        )
    wanted = plan.wanted(config, found.data)
    refuse_beyond_budget(found, COMPARISON, wanted, found.go_on)
    names, whole = found.summary.class_names, plan.whole_images
    metrics = metric_names(config.task, names, whole_images=whole)
    deciding = on_whole_images(config.objectives[0]) if whole else config.objectives[0]
    make_ready(found, cluster, sorted({"train", "val", plan.settings.split}), console)
    with cluster.connected(asked_of(found, console), found.reads) as launch:
        record.set_plan(packed(plan))
        arms = run_experiment(
            f"{config.name}, {COMPARISON}",
            record,
            found.folder.files,
            wanted,
            Measurer(found.folder.files, config.task, metrics),
            launch,
            clock=cluster.clock,
            limits=config.search,
            go_on=found.go_on,
            console=console,
        )
    comparison = compare(
        [arms[name] for name in plan.arms],
        plan.settings.reference,
        metrics,
        deciding=deciding,
        split=plan.settings.split,
        pairs=matched_pairs(list(plan.arms)),
    )
    record.conclude(packed(Conclusion.of(plan, comparison)))
    return comparison


def _write(found: Opened, comparison: Comparison) -> None:
    folder = found.folder.path
    with (folder / "compare.csv").open("w", newline="") as file:
        write_csv(as_rows(comparison), file)
    shown = comparison.with_whole_images(found.config.shown_metrics)
    draw_comparison(comparison_picture(shown), folder / "compare.svg")
