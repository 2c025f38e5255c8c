"""What is done to whole images: `rarecall tile` cuts them, `rarecall predict` finds objects on them."""

import argparse
import json
import shlex
from pathlib import Path
from typing import get_args

from search.cli.common import DONE, Commands, add_trust, command, path
from search.show.common import progress_console, wide_console
from trainables.contract.trial import TILE_OVERLAP, TILE_SIZE, Merging

TILE = "Cut whole images into tiles, split by image first: a YOLO data set with a manifest."
PREDICT = "Find objects on images of any size, as it was measured."


def add_tile(commands: Commands) -> None:
    """`rarecall tile`."""
    parser = command(commands, "tile", TILE, None, interrupted="nothing was cut yet")
    parser.add_argument(
        "images",
        type=path,
        metavar="IMAGES",
        help="a folder of images with YOLO labels and a classes.txt, a data.yaml, or a COCO json",
    )
    parser.add_argument("--out", type=path, required=True, help="folder of the data set to write")
    parser.add_argument(
        "--size", type=int, default=TILE_SIZE, metavar="PIXELS", help=f"of a tile (default: {TILE_SIZE})"
    )
    parser.add_argument(
        "--overlap",
        type=int,
        default=TILE_OVERLAP,
        metavar="PIXELS",
        help=f"of neighbours; as large as most rare objects (default: {TILE_OVERLAP})",
    )
    parser.add_argument(
        "--annotations", type=path, metavar="FILE", help="a COCO json, for a folder of images"
    )
    parser.add_argument(
        "--group-by",
        metavar="REGEX|CSV",
        help="keep images together in one split: by the first group of a pattern for file names without "
        "suffix, or by a CSV with the columns image and group",
    )
    parser.add_argument(
        "--minority", nargs="+", default=[], metavar="NAME", help="the rare classes; default: found by count"
    )
    parser.add_argument("--jpeg", action="store_true", help="JPEG of quality 95 instead of PNG without loss")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per processor)")
    parser.set_defaults(run=_tile)


def _tile(args: argparse.Namespace) -> int:
    from search.pipeline.images.tiling import Asked, tile_images  # noqa: PLC0415  (as in `common.cluster_of`)
    from trainables.data.boxes.tiling import Grid  # noqa: PLC0415

    asked = Asked(
        images=args.images,
        out=args.out,
        grid=Grid(args.size, args.overlap, jpeg=args.jpeg),
        annotations=args.annotations,
        group_by=args.group_by,
        minority=tuple(args.minority),
        workers=args.workers,
    )
    from search.show.tiling import tiling_json, tiling_table  # noqa: PLC0415

    made = tile_images(asked, progress_console(stderr=True), _typed(args))
    if args.json:
        print(json.dumps(tiling_json(made), indent=2))
        return DONE
    console = wide_console()
    console.print(tiling_table(made))
    console.print(f"-> {made.out / 'data.yaml'}", highlight=False, soft_wrap=True)
    return DONE


def _typed(args: argparse.Namespace) -> str:
    """The command once more."""
    words: list[str | Path] = ["rarecall", "tile", args.images, "--out", args.out]
    words += ["--size", str(args.size), "--overlap", str(args.overlap)]
    words += [] if args.annotations is None else ["--annotations", args.annotations]
    words += [] if args.group_by is None else ["--group-by", args.group_by]
    words += ["--minority", *args.minority] if args.minority else []
    words += ["--jpeg"] if args.jpeg else []
    words += [] if args.workers is None else ["--workers", str(args.workers)]
    return shlex.join(map(str, words))


def add_predict(commands: Commands) -> None:
    """`rarecall predict`."""
    weights = "a study's folder, an exported one, or a weights.pt"
    parser = command(commands, "predict", PREDICT, weights, interrupted="no predictions were written")
    parser.add_argument(
        "images", type=path, nargs="+", metavar="IMAGES", help="image files, and folders of them"
    )
    parser.add_argument("--out", type=path, required=True, help="folder to write, a new one")
    parser.add_argument(
        "--trial", type=int, metavar="N", help="of a study; default: as `rarecall export` chooses"
    )
    parser.add_argument(
        "--conf", type=float, metavar="P", help="boxes score more (default: what was chosen on val)"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="of a tile (default: as in training; else images stay whole)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="of neighbours (default: as in training)"
    )
    parser.add_argument("--merging", choices=get_args(Merging), help="default: as it was measured")
    parser.add_argument("--no-pictures", action="store_true", help="no pictures with the boxes")
    add_trust(parser)
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from search.export.pictures import draw_boxes  # noqa: PLC0415  (as in `_tile`)
    from search.pipeline.images.predicting import Asked, predict_images  # noqa: PLC0415

    predicted = predict_images(
        Asked(
            weights=args.study,
            images=tuple(args.images),
            out=args.out,
            trial=args.trial,
            conf=args.conf,
            size=args.size,
            overlap=args.overlap,
            merging=args.merging,
        ),
        progress_console(stderr=True),
        None if args.no_pictures else draw_boxes,
    )
    if args.json:
        print(json.dumps({"folder": str(args.out), "images": predicted.images, "boxes": predicted.boxes}))
        return DONE
    boxes = ", ".join(f"{name} {count}" for name, count in predicted.boxes.items())
    print(f"{predicted.images} images, {predicted.way}: {boxes} -> {args.out}")
    return DONE
