"""What a GPU gives: one command, unattended, nine minutes; every figure beside stock's.

    RARECALL_CACHE=/tmp/cache python benchmarks/gpu.py
    RARECALL_CACHE=/tmp/cache python benchmarks/gpu.py --tiny    minutes on a CPU; no figure means anything

Each part is a process of its own with a time limit. One that fails says why in its row, the rest goes on, and
the exit status is 1. The parts:

- receipt: a run of a detector and of a classifier; the device and the precision that their receipts state.
- train: the training loop alone, ours and stock Ultralytics', as `stock.py` has them; images per second after
  a first pass, the share of the time in which the GPU computed, the peak of its memory, CPUs kept busy.
- trials: whole trials in as many processes at once, each with its part of the GPU and of the CPUs, beside one
  training of stock's after another, which validates and saves after each epoch, too. Each process has trained
  an epoch before: a search reuses its workers. Busy and memory are the whole GPU's.
- classifier: a trial, the second of its node, and `plain_classifier.py`; whole processes, from start to end.

Detectors train on tiles like those of the cytology note (`note_size.py`), classifiers on `image_folder.py`'s.
A GPU's precision is bf16; on a CPU nothing is mixed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

MINUTES = 9.0
CARRY_OUT = Path(__file__).with_name("gpu_parts.py")
GIB = 2**30


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        models: Detectors; the first is that of the trials.
        side: Of what they see, pixels.
        batch: Of theirs.
        tiles: Of train, val and test.
        slides: That these are windows on.
        passes: Over the training tiles after the first.
        at_once: How many trials.
        network: A classifier of torchvision.
        images: For it, drawn.
        steps: It makes.
        network_side: Of what it sees, pixels.
        patience: What the parts' time limits are multiplied with.
    """

    models: tuple[str, ...] = ("yolo11n.yaml", "yolov5s.yaml")
    side: int = 640
    batch: int = 16
    tiles: tuple[int, int, int] = (512, 64, 16)
    slides: int = 2
    passes: int = 3
    at_once: tuple[int, ...] = (1, 2, 4, 8)
    network: str = "resnet18"
    images: int = 2000
    steps: int = 300
    network_side: int = 224
    patience: float = 1


TINY = Sizes(
    models=("yolo_tiny.yaml",),
    side=64,
    batch=4,
    tiles=(16, 8, 4),
    slides=1,
    passes=1,
    at_once=(1, 2),
    network="shufflenet_v2_x0_5",
    images=100,
    steps=4,
    network_side=32,
    patience=5,
)


@dataclass(frozen=True)
class Row:
    """What one part has measured; None where it does not apply, or failed.

    Attributes:
        rate: Images per second; of trials, trials per hour.
        busy: Share of the time in which the GPU computed.
        memory: Of the GPU, at the peak, bytes.
        cpus: Kept busy, on average.
        note: In words; of a failed part why.
    """

    rate: float | None = None
    busy: float | None = None
    memory: int | None = None
    cpus: float | None = None
    note: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Part:
    """A part, by the arguments that make a process carry it out, and the part of stock's beside it."""

    name: str
    limit_s: float
    arguments: tuple[str, ...]
    beside: str = ""


def parts_of(sizes: Sizes) -> list[Part]:
    """All parts, what matters most first."""
    found = [Part("receipt", 60, ("receipt",))]
    for model in sizes.models:
        stock = f"train {model}, stock"
        found.append(Part(stock, 60, ("train", "stock", model)))
        found.append(Part(f"train {model}, ours", 60, ("train", "ours", model), stock))
    stock = "trials, stock, one after another"
    found.append(Part(stock, 75, ("trials", "stock", "1")))
    for count in sizes.at_once:
        found.append(Part(f"trials, ours, {count} at once", 90, ("trials", "ours", str(count)), stock))
    plain = "classifier, plain script"
    found.append(Part(plain, 75, ("classifier", "plain")))
    found.append(Part("classifier, ours", 75, ("classifier", "ours"), plain))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU and a test")
    parser.add_argument("--models", nargs="+", help="of the detectors; the first is that of the trials")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    args = parser.parse_args()
    sizes = TINY if args.tiny else Sizes()
    if args.models:
        sizes = replace(sizes, models=tuple(args.models))
    ends = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="rarecall-gpu-") as scratch:
        rows: dict[str, Row] = {}
        parts = [Part("data", 120, ("data",)), *parts_of(sizes)]
        for part in parts:
            command = command_of(part.arguments[0], Path(scratch), sizes, *part.arguments[1:])
            limit_s = min(part.limit_s * sizes.patience, ends - time.monotonic())
            rows[part.name] = carried_out(command, limit_s)
            print(f"{part.name}: {rows[part.name].note or 'done'}", file=sys.stderr, flush=True)
    print("\n".join(table(parts, rows)))
    return int(any(row.failed for row in rows.values()))


def command_of(part: str, folder: Path, sizes: Sizes, *arguments: str) -> list[str]:
    """What carries out a part in a process of its own."""
    return [sys.executable, str(CARRY_OUT), part, str(folder), json.dumps(asdict(sizes)), *arguments]


def carried_out(command: list[str], limit_s: float) -> Row:
    """What a process that prints a row last has measured; why it has not, if it fails or takes too long."""
    if limit_s <= 0:
        return Row(note="no time was left", failed=True)
    # A session of its own: what it started ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Row(note=f"not done within {limit_s:.0f} s", failed=True)
    if process.returncode:
        said = [line for line in err.strip().splitlines() if not line.startswith("hint:")]
        return Row(note=said[-1] if said else f"it ended with {process.returncode}", failed=True)
    return Row(**json.loads(out.splitlines()[-1]))


def table(parts: list[Part], rows: dict[str, Row]) -> list[str]:
    """A line for each part."""
    wide = max(len(part.name) for part in parts)
    lines = [f"{'':{wide}} {'rate':>10} {'x stock':>8} {'busy':>5} {'GPU GiB':>8} {'CPUs':>5}"]
    for part in parts:
        row, beside = rows[part.name], rows.get(part.beside, Row())
        over = row.rate / beside.rate if row.rate is not None and beside.rate else None
        memory = None if row.memory is None else row.memory / GIB
        cells = [
            cell(row.rate, "10.1f"),
            cell(over, "8.2f"),
            cell(row.busy, "5.0%"),
            cell(memory, "8.1f"),
            cell(row.cpus, "5.1f"),
        ]
        note = f"FAILED: {row.note}" if row.failed else row.note
        lines.append(f"{part.name:{wide}} {' '.join(cells)} {note}".rstrip())
    return [*lines, "rate: images per second; of trials, trials per hour"]


def cell(value: float | None, form: str) -> str:
    return " " * int(form.split(".")[0]) if value is None else f"{value:{form}}"


if __name__ == "__main__":
    raise SystemExit(main())
