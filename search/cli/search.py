"""`rarecall search`, `status` and `pareto`: run a search, see where it stands and what it found."""

import argparse
import json
import sys
from pathlib import Path

from search.cli.common import (
    DONE,
    FILE,
    FOLDER,
    NOTHING_FOUND,
    Commands,
    add_cluster,
    add_runs,
    cluster_of,
    command,
    one_format,
)
from search.judging.choosing import Recommended, choose_merging, recommended
from search.judging.front import front
from search.record.folder import StudyFolder
from search.record.study import Study
from search.show.common import progress_console, wide_console, write_csv
from search.show.front import (
    as_json,
    as_rows,
    caption,
    none_recommended,
    on_whole_images_line,
    pareto_table,
    recommendation,
    strategies,
)
from search.show.status import status_json, status_lines, study_status


def add(commands: Commands) -> None:
    """`rarecall search`."""
    parser = command(commands, "search", "Run a search.", f"{FILE}, or with --resume also {FOLDER}")
    add_cluster(parser, "go on with an existing study")
    add_runs(parser)
    parser.set_defaults(run=_search, csv=False, all=False)


def add_status(commands: Commands) -> None:
    """`rarecall status`."""
    parser = command(commands, "status", "Where a study stands, and what to type next.", FOLDER)
    parser.set_defaults(run=_status)


def add_pareto(commands: Commands) -> None:
    """`rarecall pareto`."""
    parser = command(commands, "pareto", "The Pareto front, against the baseline.", FOLDER)
    parser.add_argument(
        "--all", action="store_true", help="also dominated, infeasible, stopped and failed trials"
    )
    parser.add_argument("--csv", action="store_true", help="print one line per trial as CSV")
    parser.set_defaults(run=_pareto)


def _search(args: argparse.Namespace) -> int:
    from search.pipeline.searching import search  # noqa: PLC0415  (as in `common.cluster_of`)

    found = search(
        args.study,
        args.runs,
        cluster=cluster_of(args),
        resume=args.resume,
        console=progress_console(stderr=args.json),
    )
    if _show_front(found.study, args, Path(found.where), being_searched=False) is None:
        print(none_recommended(found.study.trials(), found.config.objectives[0]), file=sys.stderr)
        print(f"hint: rarecall pareto {found.where} --all shows by how much", file=sys.stderr)
        return NOTHING_FOUND
    return DONE


def _status(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    status = study_status(folder.open("look"), folder.being(), args.study)
    if args.json:
        print(json.dumps(status_json(status), indent=2))
    else:
        print("\n".join(status_lines(status)))
    return DONE


def _pareto(args: argparse.Namespace) -> int:
    one_format(args)
    folder = StudyFolder(args.study)
    _show_front(folder.open("look"), args, args.study, being_searched=folder.being() == "searched")
    return DONE


def _show_front(
    study: Study, args: argparse.Namespace, where: Path, *, being_searched: bool
) -> Recommended | None:
    """Print the front; returns the trial that is recommended."""
    trials, baseline = study.trials(), study.baseline()
    found = front(trials, study.config.objectives, baseline)
    best = recommended(trials, study.config, baseline)
    if args.json:
        print(json.dumps(as_json(found, best, baseline, study.config, study.minority), indent=2))
    elif args.csv:
        write_csv(as_rows(found), sys.stdout)
    else:
        console = wide_console()
        console.print(pareto_table(found, baseline, study.config, everything=args.all))
        for line in strategies(found, baseline, study.config, study.minority, everything=args.all):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(caption(found, being_searched=being_searched), highlight=False, soft_wrap=True)
        if best is not None and baseline is not None:
            console.print(recommendation(best, baseline, study.config), highlight=False, soft_wrap=True)
        wholes = None if baseline is None else on_whole_images_line(best, baseline, choose_merging(study))
        if wholes is not None:
            console.print(wholes, highlight=False, soft_wrap=True)
        if best is not None and baseline is not None:
            console.print(f"next: rarecall confirm {where}", highlight=False, soft_wrap=True)
    return best
