"""`rarecall check` and `rarecall strategies`: what can be known before anything is spent."""

import argparse
import json
from functools import partial

from rich.console import Console

from search.cli.common import DONE, FILE, Commands, add_runs, add_trust, cluster_of, command
from search.export.trackers.told import check_installed
from search.judging.diagnostics import few_objects, lines
from search.request.config import StudyConfig
from search.request.reading import load_config
from search.show.arms import arms_json, arms_table
from search.show.common import progress_console, wide_console
from search.show.fitting import show
from trainables.contract.tasks import TASKS
from trainables.contract.trial import DataSpec, Split
from trainables.data.summary import DataSummary

CHECK = "Validate a study file and its data, and plan it; spends nothing, unless with --probe."
STRATEGIES = "The strategies that have a name: their knobs, what they are, which `compare` runs unasked."
SPLITS: tuple[Split, ...] = ("val", "test")
SHOWN = ("detection", "classification")  # the toy is for our own tests


def add_strategies(commands: Commands) -> None:
    """`rarecall strategies`."""
    parser = command(commands, "strategies", STRATEGIES, None)
    parser.add_argument("--task", choices=SHOWN, help="default: all tasks")
    parser.set_defaults(run=_strategies)


def add(commands: Commands) -> None:
    """`rarecall check`."""
    parser = command(commands, "check", CHECK, FILE, interrupted="nothing of it is kept")
    add_runs(parser)
    parser.add_argument("--address", help="plan for a running Ray cluster, e.g. auto; default: this machine")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="make some runs of three epochs each, to tell how long one takes",
    )
    add_trust(parser)
    parser.set_defaults(run=_check, here=False)


def _strategies(args: argparse.Namespace) -> int:
    tasks = [task for task in TASKS if task in (SHOWN if args.task is None else (args.task,))]
    if args.json:
        print(json.dumps(arms_json(tasks), indent=2))
    else:
        show(wide_console(), arms_table(tasks))
    return DONE


def _check(args: argparse.Namespace) -> int:
    config = load_config(args.study)
    check_installed(config.tracking)
    # What reads data and counts resources; loaded only here, as reading results needs neither torch nor ray.
    from search.cluster.launch import places  # noqa: PLC0415
    from search.cluster.room import impossible_here  # noqa: PLC0415
    from search.pipeline.allotting import least  # noqa: PLC0415
    from search.pipeline.opening import data_of  # noqa: PLC0415
    from search.pipeline.planning.known import known, occupied  # noqa: PLC0415
    from search.pipeline.planning.plan import plan  # noqa: PLC0415
    from search.pipeline.planning.probing import probe  # noqa: PLC0415
    from search.pipeline.planning.saying import plan_json, plan_lines  # noqa: PLC0415

    data, summary = data_of(config, args.study.name, Console(stderr=True))
    lacking = impossible_here(least(config)) if args.address is None else []
    if args.probe:
        room = partial(places, address=args.address)
        probe(config, data, args.runs, cluster_of(args), room, progress_console(stderr=args.json))
    found = known(config, args.runs)
    planned = plan(config, found, places(occupied(config, found), args.address))
    images = {split: counted.images for split, counted in summary.splits.items()}
    labels = {split: counted.objects for split, counted in summary.splits.items()}
    notes = [*summary.notes(), *_few_objects(config, data, summary)]
    shown = {
        "study": config.name,
        "minority": list(data.minority),
        "images": images,
        "objects": {split: summary.true_objects(split) for split in summary.splits},
        "pieces_on_tiles": labels if summary.whole_images else {},
        "whole_images": summary.whole_images,
        "sources": {split: counted.sources for split, counted in summary.splits.items()},
        "one_piece": summary.one_piece,
        "test_from_val": summary.test_from_val,
        "shared_sources": summary.shared_sources,
        "mended": summary.mended,
        "notes": notes,
        "fingerprint": summary.fingerprint,
        "impossible_here": lacking,
        "plan": plan_json(planned),
    }
    if args.json:
        print(json.dumps(shown, indent=2))
        return DONE
    rare = ", ".join(_how_rare(name, summary) for name in data.minority)
    print(f"{args.study}: fine. {config.search.trials} trials after {config.baseline.seeds} baseline seeds.")
    of = "tiles" if summary.whole_images else "images"
    print(f"minority: {rare}; {of}: {', '.join(f'{split} {count}' for split, count in images.items())}")
    for note in notes:
        print(note)
    for line in plan_lines(planned):
        print(line)
    for what in lacking:
        print(f"warning: {what}; run it on one that has, or on a cluster (--address)")
    return DONE


def _how_rare(name: str, summary: DataSummary) -> str:
    """`cluster (22 of 3820 in train)`; of tiles their objects, and how many pieces of these are labelled."""
    train, labels = summary.true_objects("train"), summary.splits["train"].objects
    said = f"{train[name]} of {sum(train.values())} in train"
    if summary.whole_images:
        said += f", as {labels[name]} of {sum(labels.values())} pieces on its tiles"
    return f"{name} ({said})"


def _few_objects(config: StudyConfig, data: DataSpec, summary: DataSummary) -> list[str]:
    """What the search will note of val, and the confirmation of test, if they hold few rare objects."""
    found = []
    for split in SPLITS:
        if split in summary.splits:
            counts = summary.true_objects(split)
            support = sum(counts[name] for name in data.minority)
            found.append(few_objects(support, split=split, min_gain=config.confirm.min_gain))
    return [f"warning: {line}" for line in lines([one for one in found if one is not None])]
