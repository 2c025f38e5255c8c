"""The parts of `gpu.py`, each carried out in a process of its own, which prints its row last.

python benchmarks/gpu_parts.py PART FOLDER SIZES …
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import image_folder
import note_size
import stock
import torch
from gpu import Row, Sizes, command_of

from spaces.strategy import PLAIN
from trainables.contract.node import GPUS, Used
from trainables.contract.trial import (
    DataSpec,
    TrainSpec,
    TrialFailure,
    TrialFolder,
    TrialReport,
    TrialSpec,
)
from trainables.worker.metering import Meter, metered
from trainables.worker.run import run_trial

NO_NODE: dict[str, float] = {}  # what `Used` says of it is not asked here


def draw_data(folder: Path, sizes: Sizes) -> Row:
    note_size.draw(folder, dict(zip(note_size.TILES, sizes.tiles, strict=True)), sizes.slides)
    image_folder.draw_data(sizes.images)
    return Row(note=f"{sizes.tiles[0]} training tiles, {sizes.images} images")


def on_gpu(share: float = 1) -> bool:
    """Whether there is a GPU; then this process's runs have so much of it, and all CPUs for as much."""
    there = torch.cuda.is_available()
    os.environ[GPUS] = f"{share:g}" if there else "0"
    os.environ["OMP_NUM_THREADS"] = str(max(1, int((os.cpu_count() or 1) * share)))
    return there


def tiles_spec(folder: Path, sizes: Sizes, model: str, *, seed: int, passes: int, gpu: bool) -> TrialSpec:
    """A plain run of `model` whose epochs are passes over the training tiles."""
    per_pass = sizes.tiles[0] // sizes.batch
    return TrialSpec(
        task="detection",
        strategy=PLAIN,
        data=DataSpec(source=str((folder / "data.yaml").resolve()), minority=("cluster",)),
        train=TrainSpec(
            model=model,
            imgsz=sizes.side,
            batch=sizes.batch,
            steps=per_pass * passes,
            eval_every=per_pass,
            amp="bf16" if gpu else "off",
        ),
        seed=seed,
    )


def network_train(sizes: Sizes, *, steps: int, gpu: bool) -> TrainSpec:
    return TrainSpec(
        model=sizes.network,
        imgsz=sizes.network_side,
        batch=image_folder.BATCH,
        steps=steps,
        eval_every=steps // 2,
        lr=0.001,
        amp="bf16" if gpu else "off",
    )


def receipt(folder: Path, sizes: Sizes) -> Row:
    """What two short runs really used; a receipt that differs from what was asked fails its run."""
    gpu = on_gpu()
    specs = [
        tiles_spec(folder, sizes, sizes.models[0], seed=0, passes=1, gpu=gpu),
        image_folder.our_spec(
            image_folder.draw_data(sizes.images), network_train(sizes, steps=2, gpu=gpu), seed=0
        ),
    ]
    reports = [trained(spec) for spec in specs]
    said = [f"{report.applied['device']} {report.applied['forward_dtype']}" for report in reports]
    return Row(note=f"{reports[0].device}: detector {said[0]}, classifier {said[1]}")


def trained(spec: TrialSpec) -> TrialReport:
    """The report of a run in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_trial(spec, TrialFolder(Path(scratch)), lambda measured: None)
    if isinstance(outcome, TrialFailure):
        raise RuntimeError(f"{outcome.kind}: {outcome.reason.strip().splitlines()[-1]}")
    return outcome


def train(folder: Path, sizes: Sizes, arm: str, model: str) -> Row:
    """The training loop alone."""
    gpu = on_gpu()
    spec = tiles_spec(folder, sizes, model, seed=0, passes=stock.WARM_UP + sizes.passes, gpu=gpu)
    with tempfile.TemporaryDirectory() as scratch:
        loop = stock.our_loop(spec, Path(scratch))
        if arm == "stock":
            loop = stock.StockLoop(folder / "data.yaml", vars(loop.args) | {"cache": "ram"})
        watch, meters = stock.Stopwatch(loop), list[Meter]()

        def begin(trainer: Any) -> None:
            if trainer.epoch == stock.WARM_UP:
                meters.append(Meter())

        loop.add_callback("on_train_epoch_start", begin)
        loop.train()
        used = meters[0].used(NO_NODE)
    return row_of([used], watch.images / watch.wall)


def row_of(used: list[Used], rate: float) -> Row:
    """A row of processes that ran at once; what a GPU says is the same to each of them."""
    busy = [one.gpu_busy for one in used if one.gpu_busy is not None]
    return Row(
        rate=rate,
        busy=sum(busy) / len(busy) if busy else None,
        memory=max(one.gpu_memory for one in used) or None,
        cpus=sum(one.cpus for one in used),
    )


def trials(folder: Path, sizes: Sizes, arm: str, count: str) -> Row:
    """Trials in so many processes, from when all are ready to when the last has ended."""
    command = command_of("trial", folder, sizes, arm, count)
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([*command, str(number)], stdin=pipe, stdout=pipe, text=True)
        for number in range(int(count))
    ]
    for process in started:
        said(process, "ready")
    begun = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    used = [Used.model_validate_json(said(process)) for process in started]
    hours = (time.perf_counter() - begun) / 3600
    for process in started:
        process.communicate()
    return row_of(used, len(started) / hours)


def said(process: subprocess.Popen[str], wanted: str | None = None) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line or (wanted is not None and line != wanted):
        raise SystemExit(1)  # it has said why
    return line


def trial(folder: Path, sizes: Sizes, arm: str, count: str, number: str) -> Row:
    """One of several: an epoch, then, when it is told to, a whole training. Prints what that used."""
    gpu = on_gpu(1 / int(count))
    specs = [
        tiles_spec(folder, sizes, sizes.models[0], seed=int(number), passes=passes, gpu=gpu)
        for passes in (1, 1 + sizes.passes)
    ]
    carry_out: Callable[[TrialSpec], object] = trained if arm == "ours" else stock_trained
    with redirect_stdout(sys.stderr):  # Ultralytics shows bars
        carry_out(specs[0])
    print("ready", flush=True)
    if sys.stdin.readline() != "go\n":
        raise SystemExit("another trial failed")
    with metered(asked=True) as meter:
        assert meter is not None
        with redirect_stdout(sys.stderr):
            carry_out(specs[1])
        print(meter.used(NO_NODE).model_dump_json(), flush=True)
    return Row()


def stock_trained(spec: TrialSpec) -> None:
    """A training of stock Ultralytics, as whole as ours."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = vars(stock.our_loop(spec, Path(scratch)).args)
        stock.StockRun(Path(spec.data.source), arguments | {"cache": "ram"}).train()


def classifier(folder: Path, sizes: Sizes, arm: str) -> Row:
    """Whole processes; of ours the second, since the first of a node decodes the images."""
    gpu = on_gpu()
    data = image_folder.draw_data(sizes.images)
    train = network_train(sizes, steps=sizes.steps, gpu=gpu)
    name = f"{arm} bf16" if gpu else arm
    device = "cuda" if gpu else "cpu"
    if arm == "ours":
        short = network_train(sizes, steps=2, gpu=gpu)
        image_folder.timed(image_folder.command_of(name, data, short, seed=0, device=device))
    command = image_folder.command_of(name, data, train, seed=1, device=device)
    if arm == "plain":
        command.append(f"--workers={max(2, (os.cpu_count() or 1) // 2)}")
    done = image_folder.timed(command)
    return Row(rate=train.steps * train.batch / done.wall, cpus=done.cpu / done.wall)


PARTS: dict[str, Callable[..., Row]] = {
    "data": draw_data,
    "receipt": receipt,
    "train": train,
    "trials": trials,
    "trial": trial,
    "classifier": classifier,
}


if __name__ == "__main__":
    name, folder, sizes, *arguments = sys.argv[1:]
    print(json.dumps(asdict(PARTS[name](Path(folder), Sizes(**json.loads(sizes)), *arguments))))
