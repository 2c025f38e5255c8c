"""All that a report shows beside the record; what cannot be had is said on the page, and not left out."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from search.pipeline.looking.before_after import before_after
from search.pipeline.looking.by_class import by_class
from search.pipeline.looking.knob_effects import knob_effects
from search.pipeline.looking.pictures import pictures
from search.pipeline.opening import described
from search.record.folder import StudyFolder
from search.record.study import Study
from search.request.data_check import check_data
from spaces.errors import RunError, UsageError
from spaces.strategy import PLAIN
from trainables.contract.trial import DataSpec
from trainables.data.summary import DataSummary, without_names
from trainables.storage.reading import StorageAway

MOST_CLASSES = 6  # with a column of their own


def gather(
    folder: StudyFolder, study: Study, console: Console, *, with_pictures: bool, anonymous: bool
) -> Mapping[str, Any]:
    """`data`, `effects`, `classes` and `pictures` of a page; None for what is not there.

    Args:
        folder: The study's.
        study: Its record.
        console: For a bar, while the data are looked at.
        with_pictures: Whether pictures are wanted.
        anonymous: Whether no name of an image may be shown.

    Raises:
        RunError: The record is damaged.
    """
    data, shown = _data(folder, study, console, anonymous)
    more: dict[str, Any] = {
        "data": shown,
        "effects": knob_effects(study.trials(), study.config, PLAIN.knobs()),
        "classes": None,
        "pictures": None,
    }
    pair = before_after(folder, study)
    if pair is None:
        return more
    try:
        more["classes"] = by_class(pair)
        if with_pictures and data is not None:
            more["pictures"] = pictures(pair, data, study.config.train.imgsz, anonymous=anonymous)
    except RunError as error:
        why = "they are damaged" if anonymous else error.message
        shown["notes"].append(f"The predictions of {pair.name} or the baseline are not shown: {why}.")
    return more


def _data(
    folder: StudyFolder, study: Study, console: Console, anonymous: bool
) -> tuple[DataSpec | None, dict[str, Any]]:
    """The data set, unless it is gone or another one, and what the page says of it."""
    try:
        summary = described(study.config, console)
        data = check_data(study.config, summary)
    except (UsageError, StorageAway) as error:
        why = "it cannot be read here" if anonymous else str(error).splitlines()[0]
        return None, {"heads": [], "rows": [], "notes": [f"The data set is not shown: {why}."]}
    if not summary.is_that(folder.provenance.data_fingerprint):
        said = "The data set has changed since the study was made, so no pictures of it are shown."
        return None, {"heads": [], "rows": [], "notes": [said]}
    notes = [without_names(note) if anonymous else note for note in summary.notes()]
    return data, _counted(summary, study.minority) | {"notes": notes}


def _counted(summary: DataSummary, minority: tuple[str, ...]) -> dict[str, Any]:
    """Heads, and a row for each split: images, sources, objects of the rare classes and of all others.

    Of tiles the whole images are counted, and the objects in these, not the pieces of them on tiles.
    """
    named = [*minority[:MOST_CLASSES], *(name for name in summary.class_names if name not in minority)]
    shown = named if len(named) <= MOST_CLASSES else named[: len(minority[:MOST_CLASSES])]
    rest = [name for name in summary.class_names if name not in shown]
    whole = summary.whole_images
    heads = ["split", *(["tiles", "whole images"] if whole else ["images"]), f"{summary.unit}s"]
    rows = []
    for name, split in summary.splits.items():
        objects = summary.true_objects(name)
        others = [sum(objects[one] for one in rest)] if rest else []
        counts = [split.images, *([whole[name]] if whole else []), split.sources]
        rows.append([name, *counts, *(objects[one] for one in shown), *others])
    return {"heads": [*heads, *shown, *([f"{len(rest)} others"] if rest else [])], "rows": rows}
