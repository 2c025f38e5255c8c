"""One training run of Ultralytics, with our data, order of draws, criterion, evaluation and checkpoint.

Everything goes through methods that Ultralytics means to be overridden; nothing of it is patched.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.contract.memory import out_of_memory
from trainables.contract.node import loader_start, own_threads
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.trial import Diverged, TrialFolder, TrialSpec
from trainables.data.boxes.listed import BoxData, BoxImage
from trainables.data.boxes.stored import Tiles, tiles_of
from trainables.detector.arguments import arguments, max_detections, own_model
from trainables.detector.copies.making import copied_tiles
from trainables.detector.copies.renewing import Renewing
from trainables.detector.criterion import build_criterion, class_losses
from trainables.detector.feeding.dataset import COUNTS, DrawOrder, TrainingTiles
from trainables.detector.measuring.evaluator import Rows, find_boxes, fold_bias, for_inference, predict
from trainables.detector.measuring.squares import Squares, square_loader
from trainables.detector.models import own_file
from trainables.detector.settled import (
    DetectionTrainer,
    InfiniteDataLoader,
    seed_worker,
    unwrap_model,
)
from trainables.detector.shipping import save_atomically
from trainables.strategy.colours import recoloured
from trainables.strategy.device import given_device
from trainables.strategy.sampling import Draws

STATE = "state.pt"
GPU_PIXELS = 32 * 640**2  # of a batch that is predicted there, at least: more does not go faster
CRITERION = "criterion.pt"  # of the same checkpoint; by itself, since the receipt reads it and nothing else


class StrategyRun(DetectionTrainer):  # type: ignore[misc]
    """One training run of Ultralytics with our data, order, criterion, evaluation and checkpoint.

    Not called a trainer on purpose: Ultralytics attaches its integrations to every class with `Trainer` in
    its name.

    Attributes:
        drawn: Image kept (its index in the training data set) -> how often it was drawn so far.
        counts: The sum of the `counts` that the samples so far carry.
        largest_batch: Images in the largest batch so far; with `accumulate`, of its parts.
        parts: Batches so far, or parts of them, that went through the network.
        tensors_loaded: How many of the model's tensors are those of the weights that it starts from.
        predictions: On val, after the last epoch trained here.
        learns: Ids of the classes that it has labels of.
        believed: Ids of the classes whose boxes are taken from it.

    Args:
        spec: Of the training.
        folder: Its files.
        data: The data set.
        told: Of each epoch, counted from 1, and the predictions on val after it.
        learns: None for all classes. Objects of others have no label.
        believed: None for those that it learns.
        prefix: Before the names of its files in a checkpoint.
    """

    def __init__(
        self,
        spec: TrialSpec,
        folder: TrialFolder,
        data: BoxData,
        told: Callable[[int, DetectionPredictions], None],
        *,
        learns: Collection[int] | None = None,
        believed: Collection[int] | None = None,
        prefix: str = "",
    ) -> None:
        self.spec, self.folder, self.yolo, self.told = spec, folder, data, told
        self.learns = sorted(range(len(data.class_names)) if learns is None else learns)
        self.believed = self.learns if believed is None else sorted(believed)
        self._state, self._criterion = f"{prefix}{STATE}", f"{prefix}{CRITERION}"
        self.minority = tuple(data.class_names.index(name) for name in spec.data.minority)
        self.drawn: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.largest_batch = self.parts = 0
        self.tensors_loaded = 0
        self.predictions: DetectionPredictions | None = None
        self._has_stepped = False
        self._pixels: dict[str, Tiles] = {}
        super().__init__(overrides=arguments(spec, folder, data, given_device()))
        # Ultralytics takes all cores but one here, whatever share of the machine this trial was given.
        torch.set_num_threads(own_threads())
        self.callbacks: dict[str, list[Callable[[Any], None]]] = defaultdict(list)
        self.add_callback("on_train_epoch_start", lambda run: run.seed_epoch())
        self.add_callback("on_fit_epoch_end", lambda run: run.report_epoch())

    @property
    def accumulate(self) -> int:
        """Iterations from one optimizer step to the next: `train.accumulate`, from the first to the last.

        Ultralytics counts them from its last step, and takes a step at iteration -1 for granted. So in a run
        that goes on from a checkpoint those before it are added until there was a step.
        """
        made = 0 if self._has_stepped else self.start_epoch * self._iterations
        return self.spec.train.accumulate + made

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        """Ignored: Ultralytics lets it grow during the warm-up."""

    @property
    def _iterations(self) -> int:
        """Of an epoch."""
        return self.spec.train.eval_every * self.spec.train.accumulate

    def optimizer_step(self) -> None:
        """An optimizer step, noted."""
        super().optimizer_step()
        self._has_stepped = True

    def _build_train_pipeline(self) -> None:
        """Make loaders and optimizer, once.

        Where memory runs out in its first epoch, Ultralytics halves the batch and calls this again: that
        would be another training, in which the order of draws begins anew.

        Raises:
            OutOfMemory: It is called again.
        """
        if self.optimizer is not None:
            raise out_of_memory(self.spec.train, sys.exception())
        super()._build_train_pipeline()

    def get_dataset(self) -> dict[str, Any]:
        """What Ultralytics wants to know of the data; its own check would look for a font on the network."""
        names = dict(enumerate(self.yolo.class_names))
        return {
            **{split: split for split in self.yolo.splits},
            "names": names,
            "nc": len(names),
            "channels": 3,
        }

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> TrainingTiles:
        """The training images, under the strategy."""
        common: dict[str, Any] = {
            "imgsz": self.args.imgsz,
            "hyp": self.args,
            "batch_size": batch,
            "stride": self.stride,
            "pad": 0.0,
            "data": self.data,
        }
        strategy, seed = self.spec.strategy, self.spec.seed
        augmentation = strategy.augmentation
        fresh = Renewing(self.yolo, self.minority, augmentation.augment_minority)
        return TrainingTiles(
            self.yolo.splits[img_path],
            self._tiles(img_path),
            learns=self.learns,
            copies=copied_tiles(self.yolo, self.minority, augmentation, seed=seed),
            renewing=fresh if augmentation.pretile_fresh else None,
            minority=self.minority,
            sampling=strategy.sampling,
            augmentation=augmentation,
            mixed_draws=self.spec.train.mixed_steps * self.spec.train.batch,
            seed=seed,
            colours_later=self.device.type == "cuda",
            **common,
        )

    def _tiles(self, split: str) -> Tiles:
        """The pixels of a split."""
        if split not in self._pixels:
            self._pixels[split] = tiles_of(self.yolo, split, self.args.imgsz)
        return self._pixels[split]

    @property
    def mapped(self) -> dict[str, bool]:
        """Split -> whether its pixels lie in the node's file; else they are decoded as they are drawn."""
        return {split: tiles.mapped for split, tiles in self._pixels.items()}

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """The loader of a split; the training loader's epoch is `eval_every` batches, in their parts.

        To be measured, of `train` the images that hold a minority object.
        """
        if mode != "train":
            images = self.yolo.splits[dataset_path]
            if dataset_path == "train":
                images = tuple(image for image in images if np.isin(image.classes, self.minority).any())
            squares = Squares(images, self._tiles(dataset_path))
            on_gpu = self.device.type == "cuda"
            fills = round(GPU_PIXELS / self.args.imgsz**2) if on_gpu else 0
            return square_loader(squares, max(batch_size, fills), self.args.workers, pin=on_gpu)
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        per_epoch = self.spec.train.eval_every * self.spec.train.batch
        order = DrawOrder(Draws(len(dataset), per_epoch, dataset.weights, self.spec.seed))
        return InfiniteDataLoader(
            dataset=dataset,
            batch_size=batch_size,
            shuffle=False,
            sampler=order,
            num_workers=self.args.workers,
            collate_fn=dataset.collate_fn,
            worker_init_fn=seed_worker,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the state that dropout draws from
            multiprocessing_context=loader_start(self.args.workers),
        )

    def setup_model(self) -> Any:
        """Build the model; one's own is read by us: Ultralytics seeks some names elsewhere."""
        file = own_file(self.spec.train.model)
        if file is None:
            return super().setup_model()
        described, weights = own_model(file)
        self.model: Any = self.get_model(cfg=described, weights=weights, verbose=False)
        return None

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """The model, with its channels last in memory: on a CPU a training step takes a third less time."""
        model = super().get_model(cfg, weights, verbose)
        if weights is not None:
            given, taken = weights.state_dict(), model.state_dict()
            self.tensors_loaded = sum(
                name in given and torch.equal(given[name], tensor) for name, tensor in taken.items()
            )
        return model.to(memory_format=torch.channels_last)

    def set_class_weights(self) -> None:
        """Put the strategy's criterion in place; called before the model is copied for the EMA."""
        model, data = unwrap_model(self.model), self.train_loader.dataset
        model.criterion = build_criterion(
            model, self.spec.strategy.loss, data.class_counts, data.sampled_counts
        )

    def seed_epoch(self) -> None:
        """Make what draws from torch's global state, such as dropout, a function of (seed, epoch)."""
        torch.manual_seed(int(np.random.SeedSequence((self.spec.seed, 5, self.epoch)).generate_state(1)[0]))

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """To the device, counted."""
        index_of = self.train_loader.dataset.index_of
        self.drawn.update(index_of[file] for file in batch["im_file"])
        self.largest_batch = max(self.largest_batch, len(batch["im_file"]))
        self.parts += 1
        for counts in batch["counts"]:
            self.counts.update(dict(zip(COUNTS, counts, strict=True)))
        if "colours" in batch:
            pixels = batch["img"].to(self.device, non_blocking=True)
            batch["img"] = recoloured(pixels, np.stack(batch.pop("colours")))
        prepared: dict[str, Any] = super().preprocess_batch(batch)
        prepared["img"] = prepared["img"].contiguous(memory_format=torch.channels_last)
        return prepared

    def validate(self) -> tuple[dict[str, float], float]:
        """Measure the EMA on val with our evaluator; Ultralytics' fitness chooses nothing here."""
        if not all(torch.isfinite(value).all() for value in self.tloss.values()):
            losses = ", ".join(f"{name} {float(value):g}" for name, value in self.tloss.items())
            raise Diverged(f"the loss of epoch {self.epoch + 1} is not finite: {losses}")
        self.predictions = self.predict_split("val")
        return {}, 0.0

    def predict_split(self, split: str) -> DetectionPredictions:
        """The EMA's predictions on a split; of `train`, on the images that hold a minority object."""
        model, loader = for_inference(self.ema.ema), self._measured_by(split)
        return predict(model, loader, self.yolo, split=split, minority=self.minority, device=self.device)

    def found_with(self, bias: npt.NDArray[np.float64], conf: float, split: str) -> Rows:
        """Fold (C,) `bias` into the EMA's class logits; (P, 7) what that finds on a split above `conf`."""
        fold_bias(self.ema.ema, bias)
        return find_boxes(
            for_inference(self.ema.ema),
            self._measured_by(split),
            conf=conf,
            max_det=max_detections(self.yolo),
            multi_label=False,
            device=self.device,
        )

    def images_of(self, split: str) -> tuple[BoxImage, ...]:
        """The images that are measured of a split."""
        images: tuple[BoxImage, ...] = self._measured_by(split).dataset.images
        return images

    def _measured_by(self, split: str) -> Any:
        return (
            self.test_loader
            if split == "val"
            else self.get_dataloader(split, 2 * self.batch_size, mode="val")
        )

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Nothing: the report is the record."""

    def save_model(self) -> bool:
        """Write all that is needed to go on exactly, in full precision, if it is time to."""
        if not self.folder.saves.due(last=self.epoch + 1 == self.epochs):
            return False
        model = unwrap_model(self.model)
        state = {
            "epochs": self.epoch + 1,
            "model": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "largest_batch": self.largest_batch,
            "parts": self.parts,
            "drawn": dict(self.drawn),
            "counts": dict(self.counts),
        }
        losses = [loss.stored() for loss in class_losses(model.criterion)]
        save_atomically(losses, self.folder.checkpoint / self._criterion)
        save_atomically(state, self.folder.checkpoint / self._state)
        return True

    def report_epoch(self) -> None:
        """Tell what came of the epoch to the caller, who may raise to stop the run."""
        assert self.predictions is not None
        self.told(self.epoch + 1, self.predictions)

    def resume_training(self, ckpt: Any) -> None:
        """Go on from the folder's checkpoint, if there is one."""
        if self.folder.resume is None:
            return
        state = torch.load(self.folder.resume / self._state, map_location=self.device, weights_only=True)
        model = unwrap_model(self.model)
        model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        stored_losses = self._losses_in(self.folder.resume)
        for loss, stored in zip(class_losses(model.criterion), stored_losses, strict=True):
            loss.restore(stored)
        self.largest_batch, self.parts = state["largest_batch"], state["parts"]
        if hasattr(model.criterion, "update"):  # the end-to-end head shifts its weights from branch to branch
            model.criterion.updates = state["epochs"] - 1
            model.criterion.update()
        self.drawn = Counter(state["drawn"])
        self.counts = Counter(state["counts"])
        self.start_epoch = self.train_loader.sampler.epoch = state["epochs"]

    def stored_losses(self) -> list[dict[str, Any]]:
        """What each class loss stores, read anew from the newest checkpoint."""
        folders = (self.folder.checkpoint, self.folder.resume)  # a finished run that is resumed writes none
        there = (folder for folder in folders if folder and (folder / self._criterion).exists())
        return self._losses_in(next(there))

    def _losses_in(self, checkpoint: Path) -> list[dict[str, Any]]:
        stored: list[dict[str, Any]] = torch.load(
            checkpoint / self._criterion, map_location=self.device, weights_only=True
        )
        return stored

    def train(self) -> None:
        """Train the epochs that are left; none are if the checkpoint is the last one."""
        if self.folder.resume is not None:
            state = torch.load(self.folder.resume / self._state, map_location="cpu", weights_only=True)
            if state["epochs"] >= self.epochs:
                self._setup_train()
                return
        super().train()

    def _clear_memory(self, threshold: float | None = None) -> None:
        """Only where it frees a GPU's memory: on a CPU it would cost a third of a second a run."""
        if self.device.type != "cpu":
            super()._clear_memory(threshold)

    def final_eval(self) -> None:
        """Nothing: Ultralytics would measure its best checkpoint, and report an epoch too many."""
