"""Whether an exported detector finds under plain Ultralytics what its metrics say, to the object.

rarecall export runs/cytology --out bundle && python -m benchmarks.parity bundle

Predicts the study's val images with `YOLO(weights.pt).predict(image, **predict.yaml)` and counts the objects
of the minority that are found at IoU .5; beside it, what other ways of calling it find.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import trainables.detector.settled  # noqa: F401  (before Ultralytics is imported)

# isort: split
from ultralytics import YOLO

from trainables.contract.trial import WholeImages
from trainables.data.boxes.listed import BoxData
from trainables.data.sources import boxes_of
from trainables.evaluation.matching import match


def main() -> None:
    """Predict, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="what `rarecall export` wrote")
    bundle = parser.parse_args().bundle
    use = yaml.safe_load((bundle / "predict.yaml").read_text())
    trained = yaml.safe_load((bundle / "config.yaml").read_text())
    metrics = json.loads((bundle / "metrics.json").read_text())["metrics"]
    data = boxes_of(named if isinstance(named := trained["data"], str) else WholeImages(**named))
    minority = [data.class_names.index(name) for name in trained["minority"]]
    print(f"the bundle: deployed {metrics['deployed/minority_recall']:.4f}, ", end="")
    print(f"untouched {metrics['minority_recall']:.4f} at {metrics['threshold']:.4f}")
    ways = {
        "as predict.yaml says": use,
        "without rect=False": use | {"rect": True},
        "without anything": {"imgsz": use["imgsz"]},
    }
    for way, arguments in ways.items():
        hits, objects = counted(YOLO(bundle / "weights.pt"), data, minority, arguments)
        recall = np.mean([hits[c] / objects[c] for c in minority])
        told = ", ".join(f"{hits[c]} of {objects[c]} {data.class_names[c]}" for c in minority)
        print(f"predict, {way}: {recall:.4f} ({told})")


def counted(
    model: Any, data: BoxData, minority: list[int], arguments: dict[str, Any]
) -> tuple[dict[int, int], dict[int, int]]:
    """Objects found and objects there, by class."""
    hits, objects = dict.fromkeys(minority, 0), dict.fromkeys(minority, 0)
    for image in data.splits["val"]:
        (result,) = model.predict(image.path, verbose=False, **arguments)
        found, n = result.boxes.data.numpy(), len(image.classes)
        centre, half = image.boxes[:, :2], image.boxes[:, 2:] / 2
        corners = np.hstack([centre - half, centre + half]) * np.tile(result.orig_shape[::-1], 2)
        label = found[:, 5].astype(int)
        alone = np.zeros(len(found), int), np.zeros(n, int)
        truth = alone[1], image.classes, corners.astype(np.float32)
        matched = match(alone[0], label, found[:, 4], found[:, :4], *truth)[:, 0]
        for c in minority:
            hits[c] += int(matched[label == c].sum())
            objects[c] += int((image.classes == c).sum())
    return hits, objects


if __name__ == "__main__":
    main()
