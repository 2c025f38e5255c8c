"""`rarecall export`: a trial's bundle, as a folder."""

import argparse
import json

from search.cli.common import DONE, FOLDER, Commands, command, path
from search.export.bundle import export_trial
from search.judging.choosing import choose
from search.judging.confirmation import verdicts
from search.record.folder import StudyFolder
from search.show.common import in_words


def add(commands: Commands) -> None:
    """`rarecall export`."""
    text = "Write a trial's strategy, training arguments and weights."
    parser = command(commands, "export", text, FOLDER)
    parser.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="default: the surest of the accepted, else the recommended one",
    )
    parser.add_argument(
        "--out", type=path, help="folder to write; default: export/trial-N in the study's folder"
    )
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    study = folder.open()
    trial = choose(study, args.trial)
    bundle = export_trial(folder, study, trial, args.out)
    if args.json:
        print(json.dumps({"trial": trial.number, "folder": str(bundle)}))
    else:
        said = verdicts(study).get(trial.number)
        judged = "not confirmed" if said is None else f"{said.result.verdict.outcome} in {said.experiment}"
        broken = [metric for metric, violation in trial.violations.items() if violation > 0]
        beyond = f"; it breaks its guard on {', '.join(broken)}" if broken else ""
        print(f"trial {trial.number} ({in_words(trial.strategy)}), {judged}{beyond} -> {bundle}")
    return DONE
