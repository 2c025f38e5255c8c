"""A classification trial on JPEGs beside the plain torch script, and what trials at once take of memory.

    python benchmarks/image_folder.py                                     hours on two idle cores
    python benchmarks/image_folder.py --steps 200 --pairs 3               half an hour
    python benchmarks/image_folder.py --images 1000 --steps 12 --pairs 1  a minute or two

The data are drawn, once, below the cache folder: JPEGs of 256 px in five classes of noisy gratings, of which
`rare` (2 %) differs least from another. The arms train the same network with the same sizes, steps, rates
and number of validations, class-balanced draws and as many torch threads, each in a fresh process. By default
an arm has the machine to itself, with a thread per core: what torch takes unless told otherwise, and a trial
with all cores in `resources.cpu`. With `--threads 1` a trial is one of several on the machine.

- ours: `run_trial`, one process. It also averages the weights, writes a checkpoint at each
  validation, tunes thresholds and stores predictions; all of that is timed.
- plain: `plain_classifier.py`, which decodes each image whenever it is drawn, in two worker processes.
- cached: the same, that decodes all images once, in two workers, and keeps them in memory.
- ours bf16, plain bf16: ours and plain in mixed precision; a CPU with AVX512-BF16 or AMX computes in it.

Timed is the whole process, from its start to its end; files are in the system's cache. Throughput is the
number of training images drawn over that time (and over the CPU time of all processes of an arm, which other
work on the machine changes less). The first of our trials on a node decodes the images and is shown by
itself; the ratios are of those after it, as nearly all in a study are. The arms take turns; a ratio is the
median over the pairs.

Memory is the proportional set size (PSS) of the mapped file of decoded images, summed over processes that
have each read all of it: pages that three processes share count once. Any small network does for that.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from spaces.strategy import NAMED, PLAIN
from trainables.contract.node import cache_folder
from trainables.contract.trial import DataSpec, EpochMetrics, TrainSpec, TrialFolder, TrialReport, TrialSpec
from trainables.worker.run import run_trial

DRAWN_SIDE, SIDE, BATCH = 256, 64, 64
RARE = "rare"
SHARES = {"a": 0.245, "b": 0.245, "c": 0.245, "d": 0.245, RARE: 0.02}
ANGLES = {"a": 0.0, "b": 45.0, "c": 90.0, "d": 135.0, RARE: 152.0}  # degrees, of the gratings
ANGLE_SD, PERIODS, CONTRASTS, NOISE_SD = 6.0, (20.0, 40.0), (15.0, 60.0), 40.0  # px; of 255
SPLITS = {"train": 0.7, "val": 0.28, "test": 0.02}
PIXELS = "pixels.npy"  # the end of the path of the file of `images.cache`
SMALL = "shufflenet_v2_x0_5"  # where the network does not matter
HERE = Path(__file__)
PLAIN_SCRIPT = HERE.with_name("plain_classifier.py")
OURS, PEERS = ("ours", "ours bf16"), ("plain", "plain bf16", "cached")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--validations", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", default="resnet18", help="of torchvision")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, in each arm")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trial is not None:
        run_one(TrialSpec.model_validate_json(args.trial), hold=args.hold)
        return
    data = draw_data(args.images)
    train = TrainSpec(
        model=args.model,
        imgsz=SIDE,
        batch=BATCH,
        steps=args.steps,
        eval_every=args.steps // args.validations,
        lr=0.001,
    )
    with tempfile.TemporaryDirectory(prefix="rarecall-images-") as scratch:
        os.environ["RARECALL_CACHE"] = scratch  # for the trials: empty at first
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
        print_times(*time_arms(data, train, args.pairs), images=args.steps * BATCH)
        print_memory(data)


@dataclass(frozen=True)
class Timed:
    """One process: its recall of the rare class on val, and what it took, in seconds."""

    recall: float
    wall: float
    cpu: float


def time_arms(data: Path, train: TrainSpec, pairs: int) -> tuple[Timed, dict[str, list[Timed]]]:
    """Our cold trial, and the trials of each arm, one per pair."""
    cold = timed(our_command(our_spec(data, train, seed=0)))
    print(f"cold: ours {shown(cold)}", flush=True)
    arms: dict[str, list[Timed]] = {arm: [] for arm in (*OURS, *PEERS)}
    for pair in range(pairs):
        for arm in list(arms) if pair % 2 else reversed(arms):
            done = timed(command_of(arm, data, train, seed=1 + pair))
            arms[arm].append(done)
            print(f"pair {pair}: {arm} {shown(done)}", flush=True)
    return cold, arms


def command_of(arm: str, data: Path, train: TrainSpec, *, seed: int, device: str = "cpu") -> list[str]:
    name, _, precision = arm.partition(" ")
    train = train.model_copy(update={"amp": precision or "off"})
    if name == "ours":
        return our_command(our_spec(data, train, seed=seed))
    return [*plain_command(data, train, seed, cached=name == "cached"), f"--device={device}"]


def our_spec(data: Path, train: TrainSpec, *, seed: int) -> TrialSpec:
    return TrialSpec(
        task="classification",
        strategy=NAMED["weighted"],
        data=DataSpec(source=str(data), minority=(RARE,)),
        train=train,
        seed=seed,
    )


def our_command(spec: TrialSpec) -> list[str]:
    return [sys.executable, str(HERE), "--trial", spec.model_dump_json()]


def plain_command(data: Path, train: TrainSpec, seed: int, *, cached: bool) -> list[str]:
    sizes = {name: getattr(train, name) for name in ("model", "imgsz", "batch", "steps")}
    settings = sizes | {
        "eval-every": train.eval_every,
        "lr": train.lr,
        "lr-final": train.lr_final,
        "weight-decay": train.weight_decay,
        "seed": seed,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    switches = {"--cached": cached, "--bf16": train.amp == "bf16"}
    flags += [switch for switch, on in switches.items() if on]
    return [sys.executable, str(PLAIN_SCRIPT), str(data), RARE, *flags]


def timed(command: list[str]) -> Timed:
    """Run a command that prints its recall last; its CPU time is that of its workers, too."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall, after = time.perf_counter() - started, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Timed(float(done.stdout.splitlines()[-1]), wall, cpu)


def run_one(spec: TrialSpec, *, hold: bool) -> None:
    """A trial in this process; `hold`: after its last epoch it says so, and goes on when it is told to."""

    def on_epoch(measured: EpochMetrics) -> None:
        if hold and measured.epoch == spec.train.epochs:
            print("holding", flush=True)
            sys.stdin.readline()

    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_trial(spec, TrialFolder(Path(scratch)), on_epoch)
    if not isinstance(outcome, TrialReport):
        raise SystemExit(outcome.reason)
    print(outcome.metrics["minority_recall"])


def shown(one: Timed) -> str:
    return f"{one.wall:.1f} s, {one.cpu:.1f} CPU s, recall {one.recall:.3f}"


def print_times(cold: Timed, arms: dict[str, list[Timed]], *, images: int) -> None:
    load = os.getloadavg()[1]
    print(f"\nload average of the last 5 minutes: {load:.1f} on {os.cpu_count()} cores")
    for arm, trials in arms.items():
        speed, recalls = statistics.median(images / one.wall for one in trials), [t.recall for t in trials]
        spread = f"{min(recalls):.3f} to {max(recalls):.3f}"
        print(f"{arm}: {speed:.1f} images/s, recall mean {statistics.fmean(recalls):.3f}, {spread}")
    warm = statistics.median(seconds(arms["ours"], "wall"))
    print(f"ours, the first trial of a node: {cold.wall:.1f} s, one after it {warm:.1f} s")
    for clock in ("CPU", "wall"):
        for mine, peer in product(OURS, PEERS):
            ours, theirs = seconds(arms[mine], clock), seconds(arms[peer], clock)
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            middle, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{clock} time: images/s of {mine} over {peer}: {middle:.2f} ({spread})")


def seconds(trials: list[Timed], clock: str) -> list[float]:
    return [one.cpu if clock == "CPU" else one.wall for one in trials]


def print_memory(data: Path) -> None:
    """PSS of the mapped images, of one trial and of three at once."""
    one, three = (mapped_bytes(data, trials) for trials in (1, 3))
    print(f"PSS of the images: one trial {one / 2**20:.1f} MiB, three {three / 2**20:.1f} MiB")
    print(f"memory_ratio {three / one:.2f}")


def mapped_bytes(data: Path, trials: int) -> int:
    """Summed over trials that are all alive and have each read all training and val images."""
    n_train = sum(1 for _ in (data / "train").glob("*/*"))
    steps = -(-n_train // BATCH)  # one pass, of every image
    train = TrainSpec(model=SMALL, imgsz=SIDE, batch=BATCH, steps=steps, eval_every=steps)
    specs = [our_spec(data, train, seed=k).model_copy(update={"strategy": PLAIN}) for k in range(trials)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([*our_command(spec), "--hold"], stdin=pipe, stdout=pipe, text=True) for spec in specs
    ]
    for process in started:
        assert process.stdout is not None
        if process.stdout.readline() != "holding\n":
            raise RuntimeError("a trial ended before it could be measured")
    total = sum(
        region.pss
        for process in started
        for region in psutil.Process(process.pid).memory_maps(grouped=True)
        if region.path.endswith(PIXELS)
    )
    for process in started:
        process.communicate("go on\n")
        if process.returncode:
            raise RuntimeError("a trial failed")
    return total


def draw_data(n_images: int) -> Path:
    """The folder of a drawn data set; the same images for the same number."""
    folder = cache_folder() / "benchmarks" / f"gratings-{n_images}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            root = Path(scratch) / "data"
            for label, (name, share) in enumerate(SHARES.items()):
                for part, (split, of) in enumerate(SPLITS.items()):
                    (root / split / name).mkdir(parents=True)
                    for i in range(max(1, round(n_images * share * of))):
                        image = draw(name, np.random.default_rng((label, part, i)))
                        image.save(root / split / name / f"{i:04}.jpg", quality=90)
            root.rename(folder)
    return folder


def draw(name: str, rng: np.random.Generator) -> Image.Image:
    """A grating in noise; only its angle depends on the class."""
    angle = np.radians(rng.normal(ANGLES[name], ANGLE_SD))
    wave, contrast = 2 * np.pi / rng.uniform(*PERIODS), rng.uniform(*CONTRASTS)
    x = np.arange(DRAWN_SIDE, dtype=np.float32)
    phase = wave * (np.cos(angle) * x[None] + np.sin(angle) * x[:, None]) + rng.uniform(0, 2 * np.pi)
    grating = (contrast * np.sin(phase))[..., None] * rng.uniform(0.5, 1, 3)
    noise = NOISE_SD * rng.standard_normal((DRAWN_SIDE, DRAWN_SIDE, 3), dtype=np.float32)
    return Image.fromarray(np.clip(128 + grating + noise, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
