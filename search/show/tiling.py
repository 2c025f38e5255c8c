"""What `rarecall tile` made: counts per split, as a table or as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from trainables.data.boxes.tiles import Counts


@dataclass(frozen=True)
class Tiling:
    """A data set of tiles, counted.

    Attributes:
        out: Its folder.
        class_names: In class-id order.
        minority: The rare classes.
        counts: Split -> what is in it.
        found: Images whose tiles were there before.
        notes: What a person should know, a sentence each.
    """

    out: Path
    class_names: tuple[str, ...]
    minority: tuple[str, ...]
    counts: dict[str, Counts]
    found: int
    notes: tuple[str, ...]


def thousands(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def tiling_json(tiling: Tiling) -> dict[str, Any]:
    """Everything that was counted."""
    names = tiling.class_names

    def of(counts: Counts) -> dict[str, Any]:
        held = {"objects": counts.objects, "labels": counts.labelled}
        held |= {"dropped": counts.dropped, "unseen": counts.unseen}
        plain: dict[str, Any] = {
            "images": counts.images,
            "images_without_objects": counts.without,
            "tiles": counts.tiles,
            "tiles_without_labels": counts.empty,
        }
        return plain | {key: dict(zip(names, value.tolist(), strict=True)) for key, value in held.items()}

    return {
        "data": str(tiling.out / "data.yaml"),
        "minority": list(tiling.minority),
        "splits": {split: of(counts) for split, counts in tiling.counts.items()},
        "images_found_done": tiling.found,
        "notes": list(tiling.notes),
    }


def tiling_table(tiling: Tiling) -> Table:
    """A row per split, and one for each rare class in it."""
    table = Table()
    table.add_column("split")
    for title in ("images", "tiles", "without labels", "objects", "labels", "dropped pieces", "in no tile"):
        table.add_column(title, justify="right")
    for split, counts in tiling.counts.items():
        held = (counts.objects, counts.labelled, counts.dropped, counts.unseen)
        numbers = (counts.images, counts.tiles, counts.empty, *(int(values.sum()) for values in held))
        table.add_row(split, *map(thousands, numbers))
        for name in tiling.minority:
            class_id = tiling.class_names.index(name)
            table.add_row(f"  {name}", "", "", "", *(thousands(int(values[class_id])) for values in held))
    return table
