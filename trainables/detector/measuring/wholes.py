"""The whole images of a split: where its tiles lie on them, what is found there, merged and measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.contract.predictions import MERGED_FILE, DetectionPredictions, save_predictions
from trainables.contract.trial import Merging, Metrics
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.evaluation.whole_images import Layout, compared_ways, merged, merged_metrics


def whole_images(data: BoxData, images: Sequence[BoxImage]) -> Layout:
    """Where tiles lie, and all true objects of the whole images.

    Args:
        data: The data set.
        images: Its tiles of one split, in the order of their predictions.
    """
    tiles = [image.tile for image in images if image.tile is not None]
    assert len(tiles) == len(images), "`with_tiles` refuses a data set of tiles and others"
    names = sorted({tile.source for tile in tiles})
    index = {name: i for i, name in enumerate(names)}
    sources = [data.wholes[name] for name in names]
    return Layout(
        name=np.array(names),
        source=np.array([source.group for source in sources]),
        size=np.array([(source.height, source.width) for source in sources], dtype=np.int64),
        whole=np.array([index[tile.source] for tile in tiles], dtype=np.int64),
        window=np.array([(tile.x, tile.y, tile.width, tile.height) for tile in tiles], dtype=np.int64),
        true_image=np.repeat(np.arange(len(sources)), [len(source.classes) for source in sources]),
        true_class=np.concatenate([source.classes for source in sources]),
        true_box=np.concatenate([source.boxes for source in sources]),
    )


def measure_whole_images(
    tiles: DetectionPredictions, data: BoxData, way: Merging, threshold: float, result: Path
) -> Metrics:
    """`merged/…` of a split, whose predictions are kept beside those of its tiles; nothing without tiles.

    Args:
        tiles: Predictions of the split.
        data: The data set.
        way: How predictions are merged.
        threshold: Confidence of precision and recall.
        result: Folder for what a run leaves.

    Returns:
        On val the ways of merging, too, by what each would give: the choice of one is made there.
    """
    if not data.wholes:
        return {}
    wholes = whole_images(data, data.splits[tiles.split])
    predictions = merged(tiles, wholes, way)
    save_predictions(result / MERGED_FILE, predictions)
    ways = compared_ways(tiles, wholes, threshold) if tiles.split == "val" else {}
    return merged_metrics(predictions, threshold) | ways
