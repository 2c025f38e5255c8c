"""`rarecall search`, `status`, `stop` and `pareto`: run a search, see where it stands and what it found."""

import argparse
import json
import sys
from pathlib import Path

from search.cli.after.there import read_there
from search.cli.common import (
    ANYWHERE,
    DONE,
    FILE,
    FOLDER,
    NOTHING_FOUND,
    Commands,
    OnHead,
    add_cluster,
    add_runs,
    cluster_of,
    command,
    one_format,
    path,
)
from search.judging.choosing import Recommended, choose_merging, recommended
from search.judging.front import Front, front
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.record.study import Study
from search.show.common import progress_console, wide_console, write_csv
from search.show.fitting import say, show
from search.show.front import (
    NONE_MEASURED,
    as_json,
    as_rows,
    baseline_rows,
    caption,
    none_recommended,
    on_whole_images_line,
    pareto_table,
    recommendation,
    strategies,
)
from search.show.pictures.characters import front_in_characters
from search.show.pictures.front import front_picture
from search.show.status import status_json, status_lines, study_status
from spaces.errors import UsageError

KINDS = ("png", "svg")  # of pictures


def add(commands: Commands) -> None:
    """`rarecall search`."""
    parser = command(commands, "search", "Run a search.", f"{FILE}, or with --resume also {FOLDER}")
    add_cluster(parser, "go on with an existing study")
    add_runs(parser)
    parser.set_defaults(run=_search, csv=False, all=False, plot=False)


def add_status(commands: Commands) -> None:
    """`rarecall status`."""
    parser = command(commands, "status", "Where a study stands, and what to type next.", ANYWHERE)
    parser.set_defaults(run=_status, from_head=lambda args, head: read_there(args, head, "status", ("json",)))


def add_stop(commands: Commands) -> None:
    """`rarecall stop`."""
    text = "Ask whoever works on a study, on whatever machine, to end cleanly, as Ctrl-C does."
    parser = command(commands, "stop", text, FOLDER, interrupted="nobody was asked")
    parser.set_defaults(run=_stop)


def add_pareto(commands: Commands) -> None:
    """`rarecall pareto`."""
    parser = command(commands, "pareto", "The Pareto front, against the baseline.", ANYWHERE)
    parser.add_argument(
        "--all", action="store_true", help="also dominated, infeasible, stopped and failed trials"
    )
    parser.add_argument(
        "--csv", action="store_true", help="print the baseline and each trial as a line of CSV"
    )
    parser.add_argument("--plot", action="store_true", help="also the front, drawn in characters")
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}",
            type=path,
            metavar="DIR",
            help=f"also write pictures there, as .{kind}: front, curves, and what else there is",
        )
    parser.set_defaults(run=_pareto, from_head=_pareto_there)


def _search(args: argparse.Namespace) -> int:
    from search.pipeline.searching import search  # noqa: PLC0415  (as in `common.cluster_of`)

    found = search(
        args.study,
        args.runs,
        cluster=cluster_of(args),
        resume=args.resume,
        console=progress_console(stderr=args.json),
    )
    if _show_front(found.study, args, found.where, being_searched=False) is None:
        why = none_recommended(found.study.trials(), found.config.objectives[0])
        print(why, file=sys.stderr)
        if why != NONE_MEASURED:
            print(f"hint: rarecall pareto {found.where} --all shows by how much", file=sys.stderr)
        return NOTHING_FOUND
    return DONE


def _status(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    status = study_status(folder.open("look"), folder.being(), named(args.study))
    if args.json:
        print(json.dumps(status_json(status), indent=2))
    else:
        console = wide_console()
        for line in status_lines(status):
            say(console, line)
    return DONE


def _stop(args: argparse.Namespace) -> int:
    being = StudyFolder(args.study).ask_to_stop()
    if args.json:
        print(json.dumps({"being": being}))
    else:
        print(
            f"it is being {being}, and was asked to end; whether it has: rarecall status {named(args.study)}"
        )
    return DONE


def _pareto(args: argparse.Namespace) -> int:
    one_format(args)
    if args.plot and (args.json or args.csv):
        raise UsageError("--plot: for a person to read, so with neither --json nor --csv")
    folder = StudyFolder(args.study)
    study = folder.open("look")
    _show_front(study, args, named(args.study), being_searched=folder.being() == "searched")
    written = [one for kind in KINDS for one in _pictures(folder, study, getattr(args, kind), kind)]
    if written:
        said = f"pictures: {', '.join(map(str, written))}"
        if args.json or args.csv:
            print(said, file=sys.stderr)
        else:
            say(wide_console(), said)
    return DONE


def _pareto_there(args: argparse.Namespace, head: OnHead) -> int:
    if any(getattr(args, kind) is not None for kind in KINDS):
        raise UsageError(
            "--png, --svg: not of a study on a cluster's head", "`rarecall report` brings its page"
        )
    return read_there(args, head, "pareto", ("all", "csv", "plot", "json"))


def _pictures(folder: StudyFolder, study: Study, where: Path | None, kind: str) -> list[Path]:
    if where is None:
        return []
    from search.export.figures import draw_study  # noqa: PLC0415  (loads matplotlib)

    return draw_study(folder, study, where, kind)


def _show_front(
    study: Study, args: argparse.Namespace, where: str, *, being_searched: bool
) -> Recommended | None:
    """Print the front; returns the trial that is recommended."""
    trials, baseline = study.trials(), study.baseline()
    found = front(trials, study.config.objectives, baseline)
    best = recommended(trials, study.config, baseline)
    if args.json:
        print(json.dumps(as_json(found, best, baseline, study.config, study.minority), indent=2))
    elif args.csv:
        write_csv([*baseline_rows(baseline, study.config), *as_rows(found, study.config.task)], sys.stdout)
    else:
        _print_front(study, found, best, args, where, being_searched=being_searched)
    return best


def _print_front(
    study: Study,
    found: Front,
    best: Recommended | None,
    args: argparse.Namespace,
    where: str,
    *,
    being_searched: bool,
) -> None:
    """What a person reads of a front."""
    config, baseline, console = study.config, study.baseline(), wide_console()
    show(console, pareto_table(found, baseline, config, everything=args.all))
    lines: list[str] = []
    if args.plot:
        drawn, lines = front_in_characters(front_picture(found, best, baseline, config), console.width)
        for row in drawn:
            console.print(row, soft_wrap=True)
    lines += strategies(found, baseline, config, study.minority, everything=args.all)
    lines.append(caption(found, being_searched=being_searched))
    if baseline is not None:
        if best is not None:
            lines.append(recommendation(best, baseline, config))
        wholes = on_whole_images_line(best, baseline, choose_merging(study))
        lines += [] if wholes is None else [wholes]
        lines += [] if study.choice is None else [study.choice.line()]
        lines += [] if best is None else [f"next: rarecall confirm {where}"]
    for line in lines:
        say(console, line)
