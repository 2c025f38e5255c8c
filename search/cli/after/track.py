"""`rarecall track`: a finished study into the books of MLflow, W&B or TensorBoard."""

import argparse
import json
from dataclasses import asdict
from typing import get_args

from search.cli.common import DONE, FOLDER, Commands, command
from search.record.folder import StudyFolder
from search.request.config import TrackerName
from search.show.common import wide_console
from search.show.fitting import say

TEXT = "Tell MLflow, W&B or TensorBoard of a study; what it knows already is not told again."


def add(commands: Commands) -> None:
    """`rarecall track`."""
    parser = command(commands, "track", TEXT, FOLDER)
    parser.add_argument("--to", required=True, choices=get_args(TrackerName), help="whom to tell")
    parser.add_argument(
        "--uri",
        help="a server, a database or, for TensorBoard, a folder; default: what the tracker's environment "
        "variables say, else in the study's folder",
    )
    parser.set_defaults(run=_track)


def _track(args: argparse.Namespace) -> int:
    from search.pipeline.tracking import track  # noqa: PLC0415  (as in `common.cluster_of`)

    told = track(StudyFolder(args.study), args.to, args.uri)
    if args.json:
        print(json.dumps({"to": args.to, **asdict(told)}, indent=2))
    else:
        say(wide_console(), f"{args.to}: {told.line}")
    return DONE
