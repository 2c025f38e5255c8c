"""`rarecall confirm`: show the last confirmation, or carry one out."""

import argparse
import json

from search.cli.common import DONE, FOLDER, NOTHING_FOUND, Commands, add_cluster, cluster_of, command
from search.judging.confirmation import Asked, latest, ledger, refuse_another_plan
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.show.common import progress_console, wide_console
from search.show.confirmation import HEADS, confirmation_json, ledger_sentence, sentences, verdict_table
from search.show.fitting import say, show
from search.show.front import fused_by, fusions_table
from spaces.errors import UsageError

FUSE = "Any finished model beside any other: one for the minority, one for the rest; no training."
SHOWN = 10
TEXT = "Retrain the finalists on fresh seeds and decide, on the test split."


def add(commands: Commands) -> None:
    """`rarecall confirm`."""
    parser = command(commands, "confirm", TEXT, FOLDER)
    add_cluster(parser, "go on with an interrupted confirmation")
    parser.add_argument("--fresh", action="store_true", help="another confirmation, on seeds of its own")
    parser.add_argument(
        "--trial", type=int, action="append", default=[], metavar="N", help="confirm this trial; repeatable"
    )
    parser.add_argument(
        "--strategy", action="append", default=[], metavar="NAME", help="confirm this one; repeatable"
    )
    parser.add_argument(
        "--fusion",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="confirm this pair of `rarecall fuse`; repeatable",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="of each candidate")
    parser.add_argument("--baseline-seeds", type=int, metavar="N", help="of the baseline")
    parser.add_argument("--one-look", action="store_true", help="plan no second look")
    parser.set_defaults(run=_confirm)


def add_fuse(commands: Commands) -> None:
    """`rarecall fuse`."""
    parser = command(commands, "fuse", FUSE, FOLDER, interrupted="no ranking was kept")
    parser.add_argument(
        "--all", action="store_true", help=f"all pairs, not the first {SHOWN}; --json always has all"
    )
    parser.set_defaults(run=_fuse)


def _fuse(args: argparse.Namespace) -> int:
    from search.pipeline.fusing import fuse  # noqa: PLC0415  (as in `common.cluster_of`)

    fused = fuse(StudyFolder(args.study), progress_console(stderr=True))
    found = fused.found
    shown = found if args.all else found[:SHOWN]
    if args.json:
        print(
            json.dumps([one.model_dump(mode="json") | {"feasible": one.feasible} for one in found], indent=2)
        )
        return DONE if found[0].feasible else NOTHING_FOUND
    console = wide_console()
    show(console, fusions_table(shown, fused.baseline, fused.study.config))
    for line in (
        f"the first {len(shown)} of {len(found)} ways to set two models side by side, by val; each model at "
        "its own best confidence, so no metric is one of `pareto`",
        *fused_by(fused.merging),
        f"next: rarecall confirm {named(args.study)} --fresh --fusion {found[0].number}"
        if found[0].feasible
        else "no pair keeps every guard, so none is worth confirming",
    ):
        say(console, line)
    return DONE if found[0].feasible else NOTHING_FOUND


def _confirm(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    study = folder.open()
    confirmation = latest(study)
    asked = Asked(
        trials=tuple(args.trial),
        strategies=tuple(args.strategy),
        fusions=tuple(dict.fromkeys(args.fusion)),
        seeds=args.seeds,
        baseline_seeds=args.baseline_seeds,
        one_look=args.one_look,
    )
    if args.fresh and args.resume:
        raise UsageError("--fresh and --resume: one of them")
    if not args.fresh:
        refuse_another_plan(confirmation, asked, named(args.study))
    if confirmation is None or not confirmation.finished or args.fresh:
        from search.pipeline.confirming import confirm  # noqa: PLC0415  (as in `common.cluster_of`)

        found, confirmation = confirm(
            folder,
            asked,
            cluster=cluster_of(args),
            resume=args.resume,
            fresh=args.fresh,
            console=progress_console(stderr=args.json),
        )
        study = found.study
    uses = ledger(study)
    if args.json:
        print(json.dumps(confirmation_json(confirmation, uses), indent=2))
    else:
        console = wide_console()
        show(console, verdict_table(confirmation), HEADS)
        for line in [*sentences(confirmation, named(args.study)), ledger_sentence(uses)]:
            say(console, line)
    return DONE if confirmation.looks[-1].accepted else NOTHING_FOUND
