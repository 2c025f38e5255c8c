"""What goes to a worker and what comes back; values only, they cross processes as JSON.

An *epoch* is `eval_every` optimizer steps, for every strategy, whatever it does to the size of the data set.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from spaces.frozen import LATER, Frozen
from spaces.strategy import Strategy
from trainables.contract.merging import Merging as Merging  # a value of specs, as all that is here
from trainables.contract.tasks import Task

PROGRESS = "progress.json"  # in a checkpoint: the curve so far, seconds, restarts, what its files hold
REPORT = "report.json"  # in a result: the run's report, what its files hold
TRAIN_RECALL = "train/minority_recall"  # on the training images that hold a minority object, as they are

Split = Literal["val", "test"]
Goal = Literal["macro_f1", "balanced_accuracy", "minority_recall"]  # of tuning after training
DEFAULT_MIN_PRECISION = 0.5
SMALLEST_TILE = 32  # pixels: the coarsest grid of a detector; a smaller tile has no cell of its own there
TILE_SIZE, TILE_OVERLAP = 640, 64  # pixels, where nothing else is said

Metrics = dict[str, float | None]  # None: not measurable on this split, e.g. no object of the class
_PRECISION = re.compile(r"(?<![^/])(minority_|)precision(?=/|$)")


def valued(metrics: Mapping[str, float | None], name: str) -> float | None:
    """A metric as it is judged: a precision of nothing is 0 where its recall says that there is something.

    None of a metric that is not there, as in an older record.

    Example:
        >>> valued({"precision/cluster": None, "recall/cluster": 0.0}, "precision/cluster")
        0.0
    """
    value, recall = metrics.get(name), _PRECISION.sub(r"\1recall", name)
    of_nothing = name in metrics and value is None and recall != name and metrics.get(recall) is not None
    return 0.0 if of_nothing else value


class TileSpec(Frozen):
    """How whole images are cut into tiles.

    Attributes:
        size: Of a tile's sides, pixels.
        overlap: Of neighbours, pixels; less than `size`.
        jpeg: Whether tiles are JPEG, with loss; else PNG.
    """

    size: int = Field(TILE_SIZE, ge=SMALLEST_TILE)
    overlap: int = Field(TILE_OVERLAP, ge=0, validate_default=True)
    jpeg: bool = False

    @field_validator("overlap")
    @classmethod
    def _below_size(cls, overlap: int, info: ValidationInfo) -> int:
        size = info.data.get("size")  # not there if it is wrong itself
        if size is not None and overlap >= size:
            raise ValueError(f"should be less than size, {size} pixels, got {overlap}")
        return overlap


class WholeImages(Frozen):
    """Whole images with boxes, which are cut into tiles before anything is trained.

    Attributes:
        images: A folder, a data.yaml or a COCO json.
        annotations: A COCO json, for a folder; None for what lies beside the images.
        group_by: What is kept in one split: a CSV or a pattern; None for each image by itself.
        tile: How they are cut.
    """

    images: str = Field(min_length=1)
    annotations: str | None = None
    group_by: str | None = None
    tile: TileSpec


class DataSpec(Frozen):
    """Which data, and which of its classes are the rare ones.

    Attributes:
        source: A demo, an absolute path, or an address on a storage; of whole images `WholeImages.images`.
        minority: Names of the minority classes, at least one, as the data set spells them.
        pixel_max: The value of 16-bit images that is white; None for a detector's high bytes, and 65535 for a
            classifier.
        merging: How what is found on tiles becomes what is found on a whole image.
        tile: How the source's whole images are cut; None for a source that is trained on as it is.
        annotations: As of `WholeImages`.
        group_by: Likewise.
    """

    source: str
    minority: tuple[str, ...] = Field(min_length=1)
    pixel_max: Annotated[int | None, LATER, Field(ge=1, le=65535)] = None
    merging: Annotated[Merging, LATER] = "core"
    tile: Annotated[TileSpec | None, LATER] = None
    annotations: Annotated[str | None, LATER] = None
    group_by: Annotated[str | None, LATER] = None

    @property
    def place(self) -> str | WholeImages:
        """What a study names as its data."""
        if self.tile is None:
            return self.source
        return WholeImages(
            images=self.source, annotations=self.annotations, group_by=self.group_by, tile=self.tile
        )


class TrainSpec(Frozen):
    """Training arguments, the same for every strategy of a study.

    Attributes:
        model: `small_cnn`, a torchvision name or `timm/<name>` (classification), or a model yaml or weights
            path (detection).
        weights: Path of a file of tensors that a torchvision or timm model starts from, or None to start from
            scratch; its images are then normalised as for ImageNet. Classification only.
        imgsz: Side of the square input, pixels.
        batch: Images per optimizer step.
        steps: Optimizer steps in all; a multiple of `eval_every`.
        eval_every: Optimizer steps per epoch.
        lr: Peak learning rate of AdamW.
        lr_final: Learning rate at the end as a fraction of `lr`.
        weight_decay: AdamW's decoupled weight decay.
        close_mosaic: Share of the steps, at the end, that are made without mosaic and mixup, whatever the
            strategy says, in [0, 1]; detection only.
        patience: Stop after so many epochs in a row without a better macro-F1 on val, counted from the end of
            the learning rate's warm-up; 0 is never. Runs that stop make different numbers of steps. The last
            weights count, not the best. Classification only.
        amp: Mixed precision: bfloat16, or off. A detector's only on a GPU. On a CPU with AVX512-BF16 or AMX a
            classifier trains about twice as fast; on one without, slower.
        accumulate: Equal parts of a batch that go through the network one after the other, their gradients
            added up for one step: less memory. It divides `batch`. Batch normalisation then sees a part at a
            time, so that these are other runs than without.
        tune: What the per-class biases are tuned for on val after training; classification only.
        tune_min_precision: Precision of each minority class that `tune: minority_recall` keeps to, in (0, 1].
    """

    model: str
    weights: str | None = None
    imgsz: int = Field(32, ge=8)
    batch: int = Field(16, ge=1)
    steps: int = Field(ge=1)
    eval_every: int = Field(ge=1)
    lr: float = Field(0.004, gt=0)
    lr_final: float = Field(0.05, gt=0, le=1)
    weight_decay: float = Field(0.0005, ge=0)
    close_mosaic: float = Field(0.1, ge=0, le=1)
    patience: int = Field(0, ge=0)
    amp: Literal["off", "bf16"] = "off"
    accumulate: Annotated[int, LATER, Field(ge=1)] = 1
    tune: Goal = "macro_f1"
    tune_min_precision: float = Field(DEFAULT_MIN_PRECISION, gt=0, le=1)

    @model_validator(mode="after")
    def _whole_epochs(self) -> Self:
        if self.steps % self.eval_every:
            raise ValueError(
                f"steps must be a multiple of eval_every, got {self.steps} and {self.eval_every}"
            )
        return self

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.batch % self.accumulate:
            parts = ", ".join(str(n) for n in range(1, self.batch + 1) if self.batch % n == 0)
            raise ValueError(f"accumulate must divide batch {self.batch} ({parts}), got {self.accumulate}")
        return self

    @model_validator(mode="after")
    def _floor_is_used(self) -> Self:
        floor = self.tune_min_precision
        if floor != DEFAULT_MIN_PRECISION and self.tune != "minority_recall":
            raise ValueError(f"tune_min_precision is for tune: minority_recall, got {floor} and {self.tune}")
        return self

    @property
    def epochs(self) -> int:
        """Number of epochs, i.e. of evaluations."""
        return self.steps // self.eval_every

    @property
    def mixed_steps(self) -> int:
        """Number of steps, from the first, at which a strategy may mix images."""
        return round((1 - self.close_mosaic) * self.steps)


class FusionSpec(Frozen):
    """A second model beside a spec's own: each trained in full, each believed in its own classes.

    Attributes:
        majority: Strategy of the model that is believed in all classes but the minority's, which the spec's
            own finds.
        suppress: Share of a box of the majority that must lie within a sure box of the minority for it to be
            left out; 0 leaves none out.
    """

    majority: Strategy
    suppress: float = Field(0.0, ge=0, le=1)


class TrialSpec(Frozen):
    """One training run, completely. Two specs with the same `key` are the same run."""

    task: Task
    strategy: Strategy
    data: DataSpec
    train: TrainSpec
    seed: int = Field(ge=0)
    split: Split = "val"
    fusion: Annotated[FusionSpec | None, LATER] = None

    @property
    def epochs(self) -> int:
        """Number of epochs that it reports, over all models that it trains."""
        return self.train.epochs * (1 if self.fusion is None else 2)

    @property
    def key(self) -> str:
        """16 hex digits of the hash of the canonical JSON; names the run's folder, removes duplicates.

        A field that is added later is marked `LATER`, so that no stored run gets another name.
        """
        canonical = json.dumps(self.keyed(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class EpochMetrics(Frozen):
    """What was measured after one epoch; `epoch` counts from 1."""

    epoch: int = Field(ge=1)
    metrics: Metrics


class TrialReport(Frozen):
    """A finished run.

    Attributes:
        key: `TrialSpec.key`.
        metrics: At the end, on the spec's split; and `TRAIN_RECALL`, which no curve has.
        curve: One entry per epoch.
        applied: The receipt: what the trained objects really used, read back from them.
        exposure: Share of the drawn training images that hold a minority object, in [0, 1].
        images_seen: Training images drawn, with repeats.
        unique_images: Distinct training images drawn.
        steps: Optimizer steps really made.
        seconds: Wall time in the worker, over all attempts.
        device: `cpu`, or the GPU's name.
        restarts: How often the run was resumed from a checkpoint.
    """

    key: str
    metrics: Metrics
    curve: tuple[EpochMetrics, ...]
    applied: dict[str, Any]
    exposure: float
    images_seen: int
    unique_images: int
    steps: int
    seconds: float
    device: str
    restarts: int = 0


class TrialFailure(Frozen):
    """A run that gave no result, as a value.

    Attributes:
        kind: `diverged` (non-finite loss or metric), `receipt` (what was applied is not what was asked),
            `error` (the code raised), `lost` (worker or node gone, retries used up), `memory` (it ran out),
            `timeout` (it ran for longer than `search.trial_timeout_s`; says nothing of the strategy),
            `disk` (no space left; it ends the search, and no trial is ever told it).
        reason: One sentence; for `error` the traceback.
        retry: Whether the same spec could succeed another time; one that ran out of a share of a GPU's
            memory with a whole GPU.
        resources: What the study gave to a run when one ended as `memory`; None elsewhere, and in 0.1.0.
    """

    key: str
    kind: Literal["diverged", "receipt", "error", "lost", "memory", "timeout", "disk"]
    reason: str
    retry: bool = False
    resources: dict[str, float] | None = None


def timed_out(key: str, timeout_s: float) -> TrialFailure:
    """Of a run that was ended after `timeout_s` seconds on its worker."""
    reason = f"it ran for longer than search.trial_timeout_s, {timeout_s:g} s"
    return TrialFailure(key=key, kind="timeout", reason=reason)


Outcome = TrialReport | TrialFailure
OUTCOMES: TypeAdapter[Outcome] = TypeAdapter(Outcome)  # reads either from JSON


class Diverged(Exception):
    """The loss or a deciding metric is not finite."""


class ReceiptMismatch(Exception):
    """The trained object did not use what the spec asked for."""


class OutOfMemory(Exception):
    """The memory, of a GPU or beside it, does not suffice; says what was asked, and what would fit."""


@dataclass(frozen=True)
class Trained:
    """What a trainable hands to `run.run_trial`; meaning of the fields as in `TrialReport`."""

    metrics: Metrics
    applied: dict[str, Any]
    exposure: float
    images_seen: int
    unique_images: int
    steps: int
    device: str


# Called after each epoch, when `TrialFolder.checkpoint` has the run's state, if it is to have it.
OnEpoch = Callable[[EpochMetrics], None]


class Saves:
    """When a run's state is written: once an epoch ends `every_s` seconds of `clock` after the last time.

    Attributes:
        fresh: Whether the checkpoint holds the state after the epoch that has just ended.
    """

    def __init__(self, every_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock, self._began, self.fresh = every_s, clock, clock(), False

    def due(self, *, last: bool) -> bool:
        """Whether to write it now, as after the `last` epoch of a training; asked once after each."""
        self.fresh = last or self._clock() - self._began >= self._every_s
        return self.fresh

    def kept(self) -> None:
        """It is written, and where it stays: the time counts anew."""
        self._began = self._clock()


@dataclass(frozen=True)
class TrialFolder:
    """Where a run keeps its files on the worker.

    Attributes:
        root: Scratch folder of this run alone; exists.
        resume: A folder with the files of an earlier `checkpoint`, or None to start at step 0.
        saves: When it writes its state.
    """

    root: Path
    resume: Path | None = None
    saves: Saves = field(default_factory=Saves)

    @property
    def checkpoint(self) -> Path:
        """State after the last epoch that `saves` chose, rewritten each time: enough to go on exactly."""
        return self.root / "checkpoint"

    @property
    def result(self) -> Path:
        """What a finished run leaves: `weights.pt`, `predictions.npz` and, last, `report.json`."""
        return self.root / "result"
