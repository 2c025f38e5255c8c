"""`rarecall status`: where a study stands, and what to type next."""

import argparse
import json

from search.cli.common import DONE, FOLDER, Commands, command
from search.record.folder import StudyFolder
from search.show.status import status_json, status_lines, study_status


def add(commands: Commands) -> None:
    """`rarecall status`."""
    parser = command(commands, "status", "Where a study stands, and what to type next.", FOLDER)
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    status = study_status(folder.open("look"), folder.being(), args.study)
    if args.json:
        print(json.dumps(status_json(status), indent=2))
    else:
        print("\n".join(status_lines(status)))
    return DONE
