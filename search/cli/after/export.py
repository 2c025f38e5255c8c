"""`rarecall export`: a run's bundle, as a folder."""

import argparse
import json

from search.cli.common import DONE, FOLDER, Commands, command, path
from search.export.bundle import as_yaml, configuration, export_run
from search.export.chosen import Chosen, chosen_baseline, chosen_confirmed, chosen_trial
from search.export.contents.converting import FORMATS
from search.judging.diagnostics import lines, ships_poorly
from search.record.folder import StudyFolder
from search.record.study import Study
from search.show.common import in_words, wide_console
from search.show.fitting import say

TEXT = "Write a run's configuration, metrics and weights, with all that it takes to use them."


def add(commands: Commands) -> None:
    """`rarecall export`."""
    parser = command(commands, "export", TEXT, FOLDER, interrupted="no bundle was written")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="default: the surest of the accepted, else the recommended one",
    )
    which.add_argument("--baseline", action="store_true", help="the baseline's first finished seed")
    which.add_argument(
        "--confirmed",
        action="store_true",
        help="of the last confirmation: the first run of the candidate it accepted (of several the surest)",
    )
    parser.add_argument(
        "--out", type=path, help="folder to write; default: export/trial-N in the study's folder"
    )
    parser.add_argument("--force", action="store_true", help="take the place of another bundle")
    parser.add_argument(
        "--onnx", action="store_true", help="weights as ONNX, too; predict.py then needs no torch"
    )
    parser.add_argument(
        "--torchscript", action="store_true", help="weights as TorchScript, too; torch alone loads them"
    )
    parser.add_argument(
        "--mlflow", action="store_true", help="as an MLflow model, too: a folder for mlflow.pyfunc"
    )
    parser.add_argument(
        "--best-config", action="store_true", help="print the configuration alone; nothing is written"
    )
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    folder = StudyFolder(args.study)
    study = folder.open()
    chosen = _chosen(study, args)
    if args.best_config:
        plain = configuration(study, chosen)
        print(json.dumps(plain, indent=2) if args.json else as_yaml(plain), end="\n" if args.json else "")
        return DONE
    formats = [name for name in FORMATS if getattr(args, name)]
    bundle = export_run(folder, study, chosen, args.out, force=args.force, formats=formats)
    poorly = ships_poorly(chosen.report)
    notes = [] if poorly is None else lines([poorly])
    if args.json:
        said = {"of": chosen.name, "trial": chosen.trial, "folder": str(bundle), "notes": notes}
        print(json.dumps(said))
    else:
        print(f"{chosen.name} ({in_words(chosen.strategy)}), {_judged(chosen)} -> {bundle}")
        for note in notes:
            say(wide_console(), f"note: {note}")
    return DONE


def _chosen(study: Study, args: argparse.Namespace) -> Chosen:
    if args.baseline:
        return chosen_baseline(study)
    return chosen_confirmed(study) if args.confirmed else chosen_trial(study, args.trial)


def _judged(chosen: Chosen) -> str:
    said = chosen.judged
    judged = "not confirmed" if said is None else f"{said.result.verdict.outcome} in {said.experiment}"
    broken = [metric for metric, violation in chosen.violations.items() if violation > 0]
    return judged + (f"; it breaks its guard on {', '.join(broken)}" if broken else "")
