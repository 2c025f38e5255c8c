"""Train one YOLO under a strategy, exactly resumable, and give account of what was really applied.

`train_detector` is the entry; it knows nothing of Ray. An epoch is `eval_every` optimizer steps: the order of
draws, not the data set, says how long it is.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.contract.predictions import PREDICTIONS_FILE, save_predictions
from trainables.contract.trial import TRAIN_RECALL, OnEpoch, Trained, TrialFolder, TrialSpec
from trainables.data.sources import boxes_of
from trainables.detector.arguments import max_detections
from trainables.detector.copies.making import copied_tiles
from trainables.detector.copies.receipt import of_copies
from trainables.detector.criterion import class_losses
from trainables.detector.ensemble import Ensemble, train_models
from trainables.detector.feeding.dataset import COUNTS, TrainingTiles, labelled
from trainables.detector.measuring.wholes import measure_whole_images
from trainables.detector.settled import LOGGER, ultralytics_version, unset_deterministic, unwrap_model
from trainables.detector.shipping import save_atomically
from trainables.detector.strategy_run import StrategyRun
from trainables.evaluation.detection import detection_metrics
from trainables.evaluation.operating_point import OperatingPoint, fit_operating_point
from trainables.strategy.device import of_device
from trainables.strategy.loss import class_alpha, effective_prior, mixed_counts, widest
from trainables.strategy.receipt import close, common, if_so, of_lacking, of_sampling, same_weights
from trainables.strategy.sampling import draw_weights, minority_share


def train_detector(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    """Train and measure a detector; the contract is that of `run.run_trial`.

    The threshold of precision and recall is picked on val, and so is the operating point of the weights that
    ship. A test split and the training images get what val chose at the end.

    Raises:
        Diverged: The loss is not finite.
        OutOfMemory: Ultralytics would go on with smaller batches.
        ReceiptMismatch: The run was given a GPU, and torch sees none.
        UsageError: The data or the model cannot be used as asked.
    """
    data = boxes_of(spec.data.place, spec.data.pixel_max)
    with _isolated():
        models = train_models(spec, folder, data, on_epoch)
        run = models.minority_run
        val = models.val
        threshold = detection_metrics(val)["threshold"]
        assert threshold is not None, "one that was asked to be chosen always is"
        on_train = detection_metrics(models.predict_split("train"), threshold=threshold)
        point = fit_operating_point(val, _objects(run))
        if spec.split == "test":
            measured = models.predict_split("test")
            predictions = models.ship(measured, point, point.counts(measured))
        else:
            predictions = models.ship(val, point, point.tuned)
        metrics = detection_metrics(predictions, threshold=threshold)
        metrics |= measure_whole_images(predictions, data, spec.data.merging, threshold, folder.result)
        save_predictions(folder.result / PREDICTIONS_FILE, predictions)
        for name, weights in models.weights(predictions).items():
            save_atomically(weights, folder.result / name)
        drawn, images = drawn_by(models.runs)
        return Trained(
            metrics=metrics | {TRAIN_RECALL: on_train["minority_recall"]},
            applied=receipt(run, point) | of_division(models, point, fusion=spec.fusion is not None),
            exposure=exposure(models.runs),
            images_seen=drawn,
            unique_images=images,
            steps=sum(each.ema.updates for each in models.runs),
            device="cpu" if run.device.type == "cpu" else torch.cuda.get_device_name(run.device),
        )


def _objects(run: StrategyRun) -> npt.NDArray[np.float64]:
    """(C,) objects of each class in the training set."""
    labels = np.concatenate([image.classes for image in run.yolo.splits["train"]])
    return np.bincount(labels, minlength=len(run.yolo.class_names)).astype(np.float64)


@contextmanager
def _isolated() -> Iterator[None]:
    """Say nothing, and leave the process's random states and thread count as they were for the next trial."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    threads, level = torch.get_num_threads(), LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        unset_deterministic()
        LOGGER.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        torch.set_num_threads(threads)


def exposure(runs: Sequence[StrategyRun]) -> float:
    """Share of the drawn images that show a minority object with its label, in [0, 1]."""
    return sum(run.counts["minority_draws"] for run in runs) / sum(run.drawn.total() for run in runs)


def drawn_by(runs: Sequence[StrategyRun]) -> tuple[int, int]:
    """Images drawn, and different ones among them, which each run knows by positions of its own."""
    files = {run.train_loader.dataset.im_files[image] for run in runs for image in run.drawn}
    return sum(run.drawn.total() for run in runs), len(files)


def of_division(models: Ensemble, point: OperatingPoint, *, fusion: bool) -> dict[str, Any]:
    """For a receipt: what each of two models has seen, and what holds for both; of one model that it is one.

    The other entries of the receipt are the minority model's.
    """
    runs = models.runs
    steps = [run.ema.updates for run in runs]
    if len(runs) == 1:
        return {"dual_share": 0.0}
    drawn, _ = drawn_by(runs)
    names = runs[0].yolo.class_names
    seen = {
        model: {
            "labels": dict(zip(names, run.train_loader.dataset.class_counts.tolist(), strict=True)),
            "steps": run.ema.updates,
            "exposure": exposure([run]),
            "sampler_power": run.train_loader.dataset.sampling.sampler_power,
            "images_kept": len(run.train_loader.dataset),
            "seed": run.train_loader.dataset.seed,
        }
        for model, run in zip(("majority_model", "minority_model"), runs, strict=True)
    }
    if fusion:  # the majority's is a whole training, whose receipt must be as asked, too
        seen["majority_model"] |= receipt(runs[0], point) | {"dual_share": 0.0}
    lr = common(max(group["initial_lr"] for group in run.optimizer.param_groups) for run in runs)
    return {
        "dual_share": 0.0 if fusion else steps[-1] / sum(steps),
        "steps": sum(steps),
        "batch": drawn / sum(steps),
        "accumulate": sum(run.parts for run in runs) / sum(steps),
        "largest_batch": max(run.largest_batch for run in runs),
        "lr": lr,
        "seed": runs[0].train_loader.dataset.seed,
        **({} if models.way is None else vars(models.way)),
        **seen,
    }


def exposure_by_class(run: StrategyRun) -> dict[str, float]:
    """`exposure/<class>` -> share of the drawn images that hold the class, in [0, 1], as they are stored."""
    held: Counter[int] = Counter()
    for image, times in run.drawn.items():
        held.update(dict.fromkeys(run.train_loader.dataset.classes[image], times))
    total = run.drawn.total()
    return {f"exposure/{name}": held[c] / total for c, name in enumerate(run.yolo.class_names)}


def receipt(run: StrategyRun, point: OperatingPoint) -> dict[str, Any]:
    """What was applied, read from the objects that the training used.

    Draws and alpha are computed anew from the strategy and held against those used; None where they differ.
    """
    sampling, asked = run.spec.strategy.sampling, run.spec.strategy.loss
    augmentation = run.spec.strategy.augmentation
    dataset: TrainingTiles = run.train_loader.dataset
    weights = run.train_loader.sampler.draws.weights
    losses = class_losses(unwrap_model(run.model).criterion)  # of each branch of the head
    loss, stored = losses[0], run.stored_losses()
    wanted = draw_weights(
        dataset.classes,
        power=sampling.sampler_power,
        repeat_threshold=sampling.repeat_threshold,
        max_repeat=sampling.max_repeat,
    )
    counts = mixed_counts(dataset.class_counts, dataset.sampled_counts, share=asked.alpha_prior)
    alpha = class_alpha(counts, power=asked.alpha_power, cap=asked.alpha_cap)
    alpha_holds = all(close(each.alpha, alpha) for each in losses)
    prior = effective_prior(loss.alpha.cpu().numpy(), dataset.sampled_counts)
    drawn = run.drawn.total()
    copied = copied_tiles(run.yolo, run.minority, augmentation, seed=run.spec.seed)
    return {
        **of_sampling(
            sampling,
            rare=dataset.rare,
            majority_images=dataset.majority_images,
            drawn_as_asked=same_weights(weights, wanted),
        ),
        "images_kept": len(dataset),
        "minority_share": minority_share(dataset.rare, weights),
        "largest_repeat": 1.0 if weights is None else float(weights.max() * len(dataset)),
        "focal_gamma": common([*(each.gamma for each in losses), *(each["gamma"] for each in stored)]),
        "focal_scale": widest(each.focal_scale for each in losses),
        "alpha_scale": widest(each.alpha_scale for each in losses),
        **if_so(alpha_holds, {"alpha_power": loss.power, "alpha_prior": loss.prior, "alpha_cap": loss.cap}),
        "alpha": loss.alpha.tolist(),
        "checkpoint": {"focal_gamma": stored[0]["gamma"], "alpha": stored[0]["alpha"].tolist()},
        "effective_prior": dict(zip(run.yolo.class_names, prior.tolist(), strict=True)),
        **of_lacking("detection"),
        **of_copies(
            dataset.images,
            [labelled(tile, run.learns) for tile in copied],
            augmentation,
            at_draws=dataset.strengths[True],
        ),
        "pixels": "mapped" if run.mapped["train"] else "decoded as drawn",
        "pretile_fresh": int(dataset.renewing is not None),
        "augment_variants": dataset.variants,
        "augment_rest": dataset.strengths[False],
        "copy_paste": dataset.copy_paste,
        **dataset.mixing(),
        "mixed_steps": dataset.mixed_draws // run.spec.train.batch,
        **{count: run.counts[count] for count in COUNTS},
        **of_device(unwrap_model(run.model), (each.forward_dtype for each in losses)),
        "steps": run.ema.updates,
        "accumulate": run.parts / run.ema.updates,
        "batch": drawn / run.ema.updates,
        "largest_batch": run.largest_batch,
        **exposure_by_class(run),
        "lr": max(group["initial_lr"] for group in run.optimizer.param_groups),
        "optimizer": type(run.optimizer).__name__,
        "seed": dataset.seed,
        "imgsz": run.args.imgsz,
        "max_det": max_detections(run.yolo),
        "operating_point": point.way,
        "class_bias": dict(zip(run.yolo.class_names, point.bias.tolist(), strict=True)),
        "tensors_loaded": run.tensors_loaded,
        "tensors": len(unwrap_model(run.model).state_dict()),
        "parameters": sum(p.numel() for p in unwrap_model(run.model).parameters()),
        "ultralytics": ultralytics_version,
    }
