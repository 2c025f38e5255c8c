"""`rarecall report` and `dashboard`: a study as a page, to be sent, or live while it is worked on."""

import argparse
import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from search.cli.after.there import report_there
from search.cli.common import ANYWHERE, DONE, FOLDER, Commands, command, path, runs_path, study_path
from search.export.page.following import brought_here
from search.export.page.html import check_writable, write_page
from search.export.page.serve import Dashboard
from search.export.page.view import Asked, view
from search.record.folder import StudyFolder
from search.record.storage.address import named
from search.show.common import progress_console
from spaces.errors import UsageError
from trainables.storage.address import is_address, parsed


def add(commands: Commands) -> None:
    """`rarecall report`."""
    text = "Write a page that shows a study: report.html, one file."
    parser = command(commands, "report", text, ANYWHERE, interrupted="no page was written")
    default = "default: report.html in the study's folder, or, of one elsewhere, in one of its name here"
    parser.add_argument("--out", type=path, metavar="FILE", help=default)
    parser.add_argument("--no-pictures", action="store_true", help="no crops of images")
    parser.add_argument("--anonymous", action="store_true", help="no paths and no names of images")
    parser.set_defaults(run=_report, from_head=report_there)


def add_dashboard(commands: Commands) -> None:
    """`rarecall dashboard`."""
    text = "The same page, live while a study is worked on, for a browser on this machine."
    parser = command(commands, "dashboard", text, None)
    parser.add_argument("place", type=_place, metavar="STUDY", help=f"{FOLDER}, or a folder of studies")
    parser.epilog = (
        "optuna-dashboard opens study.db, too, but takes trials beyond a guard for feasible: it looks for "
        "constraints where Optuna 4 kept them."
    )
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="to listen at; default: this machine alone. Whoever reaches another can look, with the address",
    )
    parser.add_argument("--no-pictures", action="store_true", help="no crops of images")
    parser.set_defaults(run=_dashboard)


def _dashboard(args: argparse.Namespace) -> int:
    from search.pipeline.looking.gathering import gather  # noqa: PLC0415  (as in `common.cluster_of`)

    def more(folder: StudyFolder) -> Mapping[str, Any]:
        console = Console(quiet=True)
        return gather(
            folder, folder.open("look"), console, with_pictures=not args.no_pictures, anonymous=False
        )

    place = brought_here(args.place)
    if not place.is_dir():
        raise UsageError(f"{place}: no such folder", "a study's folder, or the one with all studies")
    try:
        server = Dashboard(place, secrets.token_urlsafe(16), more, host=args.host, port=args.port)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen at {args.host}, port {args.port}: {error}", "without --port a free one is taken"
        ) from None
    with server:
        print(json.dumps({"address": server.address}) if args.json else server.address, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return DONE


def _place(text: str) -> Path:
    """A folder of studies, or a study's; of a storage the mirror of the latter, unless it lies in nothing."""
    if is_address(text) and "http" not in text[:5] and parsed(text).is_root:
        return runs_path(text)
    place = study_path(text)
    if not isinstance(place, Path):
        raise argparse.ArgumentTypeError(
            "a dashboard is started where the folder is seen, e.g. on the head, or of a study on a storage"
        )
    return place


def _report(args: argparse.Namespace) -> int:
    from search.pipeline.looking.gathering import gather  # noqa: PLC0415  (as in `common.cluster_of`)

    folder = StudyFolder(args.study)
    file = folder.report if args.out is None else args.out
    if args.out is not None:
        check_writable(file)
    study = folder.open("look")
    more = gather(
        folder,
        study,
        progress_console(stderr=True),
        with_pictures=not args.no_pictures,
        anonymous=args.anonymous,
    )
    shown = view(folder, Asked(named(args.study), args.anonymous), more, study=study)
    file.parent.mkdir(exist_ok=True)  # of a study on a storage it is none of the study's
    write_page(shown, file)
    if args.json:
        print(json.dumps({"file": str(file)}))
    else:
        print(f"{shown['answer']['headline']} -> {file}")
    return DONE
