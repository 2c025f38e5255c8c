"""Train these weights once more. Runs without rarecall: what it needs of it lies in `carried`.

    pip install -r requirements-train.txt
    python train.py --out again

`again` is made, with `result` (weights, predictions, a report with the metrics) and what the training needs
meanwhile. `train.json` says what is trained: data, strategy, arguments and seed. On a CPU, with the versions
of `requirements-train.txt`, the same comes out as was measured; on a GPU about the same. At the end both are
set side by side. The new weights are used by `predict.py --weights again/result/weights.pt`.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "carried"))
START = HERE / "start"  # a model or weights that the training starts from, if they were a person's own

Settings = dict[str, Any]


def arguments() -> argparse.Namespace:
    """What is typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, a new one")
    parser.add_argument("--data", help="where the data are now (default: where they were)")
    parser.add_argument("--seed", type=int, help="another one (default: as it was)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: as it was")
    parser.add_argument("--trust-weights", action="store_true", help="load pickled weights that can run code")
    args = parser.parse_args()
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"--out: {args.out} is there and not empty; choose a new folder")
    return args


def settle(out: Path, settings: Settings, device: str) -> None:
    """Threads, device and caches; read when torch and Ultralytics are loaded, so before they are."""
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    os.environ["RARECALL_GPUS"] = "1" if device == "cuda" else "0"
    os.environ["RARECALL_CACHE"] = str(out / "cache")


def asked(settings: Settings, args: argparse.Namespace) -> Settings:
    """What is trained: as it was, but for what a person says otherwise, and where the bundle is."""
    spec: Settings = settings["spec"]
    if args.data is not None:
        elsewhere = args.data.startswith("demo:") or "://" in args.data
        spec["data"]["source"] = args.data if elsewhere else str(Path(args.data).resolve())
    if args.seed is not None:
        spec["seed"] = args.seed
    for name in ("model", "weights"):
        own = START / Path(spec["train"].get(name) or "").name
        if own.is_file():
            spec["train"][name] = str(own)
    return spec


def main() -> None:
    """Train, and say how it went."""
    args = arguments()
    settings = json.loads((HERE / "train.json").read_text())
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out.resolve()
    settle(out, settings, args.device or settings["device"])
    # After the environment is settled, which they read.
    from spaces.errors import RarecallError  # noqa: PLC0415
    from trainables.contract.trial import (  # noqa: PLC0415
        EpochMetrics,
        TrialFailure,
        TrialFolder,
        TrialSpec,
    )
    from trainables.contract.trust import trusting_weights  # noqa: PLC0415
    from trainables.data.sources import boxes_of, describe  # noqa: PLC0415
    from trainables.worker.run import run_trial  # noqa: PLC0415

    spec = TrialSpec.model_validate(asked(settings, args))
    shown: list[str] = settings["shown"]

    def told(measured: EpochMetrics) -> None:
        values = ", ".join(
            f"{name} {value:.3f}" for name in shown if (value := measured.metrics.get(name)) is not None
        )
        print(f"epoch {measured.epoch} of {spec.epochs}: {values}", flush=True)

    try:
        data = spec.data
        if data.tile is None:
            same = describe(data.source, spec.task, data.pixel_max).is_that(settings["data_fingerprint"])
        else:
            same = boxes_of(data.place).fingerprint == settings["data_fingerprint"]
    except RarecallError as error:
        raise SystemExit(str(error)) from None
    if not same:
        print("note: these are not the data that it was trained on: their fingerprint differs")
    with trusting_weights(args.trust_weights):
        outcome = run_trial(spec, TrialFolder(out), told)
    if isinstance(outcome, TrialFailure):
        raise SystemExit(f"{outcome.kind}: {outcome.reason}")
    compared(settings, outcome.metrics)
    print(f"-> {args.out / 'result'}")


def compared(settings: Settings, metrics: dict[str, float | None]) -> None:
    """Print what was measured beside what the bundle's weights have, and the largest difference of all."""
    before = json.loads((HERE / "metrics.json").read_text())["metrics"]
    pairs = [(name, before[name], value) for name, value in metrics.items() if before.get(name) is not None]
    apart = {name: abs(value - was) for name, was, value in pairs if value is not None}
    print(f"{'on ' + settings['spec']['split']:<28}{'before':>9}{'now':>9}")
    for name, was, value in pairs:
        if name in settings["shown"] and value is not None:
            print(f"{name:<28}{was:>9.4f}{value:>9.4f}")
    most = max(apart, key=apart.__getitem__, default=None)
    if most is not None:
        print(f"the largest difference of {len(apart)} metrics: {apart[most]:.2g}, of {most}")


if __name__ == "__main__":
    main()
