"""What matching boxes to truth costs: CPU seconds and memory, on drawn tiles as full as the cytology note's.

python benchmarks/matching.py                               1,831 tiles of 80 objects, the fullest of 300
python benchmarks/matching.py --tiles 300 --objects 80
"""

import argparse
import resource
import time

import numpy as np

from trainables.evaluation.matching import match

SIDE = 640
FULLEST = 300


def main() -> None:
    """Draw, match, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=1831)
    parser.add_argument("--objects", type=int, default=80, help="mean per tile")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    counts = rng.poisson(args.objects, args.tiles)
    counts[0] = FULLEST
    true_image = np.repeat(np.arange(args.tiles), counts)
    true_class = (rng.random(len(true_image)) < 0.008).astype(np.int64)
    corner = rng.uniform(0, SIDE - 40, (len(true_image), 2))
    true_box = np.hstack([corner, corner + rng.uniform(15, 40, (len(true_image), 1))])
    # As many as are kept per image: copies of the truth, some of the other class, and inventions.
    copies = np.repeat(np.arange(len(true_image)), 4)
    pred_box = true_box[copies] + rng.normal(0, 4, (len(copies), 4))
    pred_class = np.where(rng.random(len(copies)) < 0.1, 1 - true_class[copies], true_class[copies])
    score = rng.random(len(copies))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = match(true_image[copies], pred_class, score, pred_box, true_image, true_class, true_box)
    spent = time.process_time() - started
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(f"{len(score)} predictions, {len(true_image)} objects, {args.tiles} tiles: {spent:.1f} s of CPU,")
    print(f"{more:.2f} GiB more, {found[:, 0].sum()} true positives at IoU .5, checksum {found.sum()}")


if __name__ == "__main__":
    main()
