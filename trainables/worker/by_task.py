"""What to call for each task: the one entry per task that is code.

A task's modules are imported when they are called for: a classifier's worker never loads Ultralytics, and
whoever checks a study file loads neither it nor torch unless the network asks for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spaces.augmentation import Augmentation
from trainables.contract.tasks import Task
from trainables.contract.trial import DataSpec, OnEpoch, Trained, TrainSpec, TrialFolder, TrialSpec


@dataclass(frozen=True)
class TaskFunctions:
    """What a task's trainable can do.

    Attributes:
        train: Trains and measures a run; its contract is that of `run.run_trial`.
        check_model: Refuses a model that no worker could build, by its name; raises UsageError.
        check_network: Refuses one that cannot learn from the data: training arguments, number of classes, and
            whether it will train on a GPU; raises UsageError.
        copied: Class ids in each image that an augmentation adds to the training images, for seed 0, which
            stands for all; raises UsageError.
        make_ready: Decodes the images of some splits for the runs on this machine to find them; returns what
            is to be said; raises UsageError, and RunError where nothing can be written.
    """

    train: Callable[[TrialSpec, TrialFolder, OnEpoch], Trained]
    check_model: Callable[[str], None] = lambda model: None
    check_network: Callable[[TrainSpec, int, bool], None] = lambda train, n_classes, on_gpu: None
    copied: Callable[[DataSpec, Augmentation], Sequence[frozenset[int]]] = lambda data, augmentation: ()
    make_ready: Callable[[DataSpec, TrainSpec, Sequence[str]], Sequence[str]] = lambda data, train, splits: ()


def _train_toy(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    from trainables.worker.toy import train_toy  # noqa: PLC0415

    return train_toy(spec, folder, on_epoch)


def _train_classifier(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    from trainables.classifier.trainer import train_classifier  # noqa: PLC0415

    return train_classifier(spec, folder, on_epoch)


def _check_classifier_name(model: str) -> None:
    from trainables.classifier.models import check_name  # noqa: PLC0415

    check_name(model)


def _check_classifier(train: TrainSpec, n_classes: int, on_gpu: bool) -> None:
    from trainables.classifier.models import SMALL_CNN, check_small_cnn  # noqa: PLC0415

    if train.model == SMALL_CNN:  # torch takes seconds to load, which it need not wait for
        check_small_cnn(train)
    else:
        from trainables.classifier.networks import check_network  # noqa: PLC0415

        check_network(train, n_classes, on_gpu=on_gpu)


def _train_detector(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    from trainables.detector.trainer import train_detector  # noqa: PLC0415

    return train_detector(spec, folder, on_epoch)


def _check_detector(model: str) -> None:
    from trainables.detector.models import check_detector  # noqa: PLC0415

    check_detector(model)


def _check_detector_itself(train: TrainSpec, n_classes: int, on_gpu: bool) -> None:
    from trainables.detector.models import own_file  # noqa: PLC0415

    file = own_file(train.model)
    if file is not None:  # what is shipped is known, and Ultralytics takes seconds to load
        from trainables.detector.arguments import own_model  # noqa: PLC0415

        own_model(file)


def _copied_tiles(data: DataSpec, augmentation: Augmentation) -> Sequence[frozenset[int]]:
    if augmentation.pretile_copies == 0:
        return ()
    from trainables.data.sources import boxes_of  # noqa: PLC0415
    from trainables.detector.copies.planning import copied_classes  # noqa: PLC0415

    boxes = boxes_of(data.place, data.pixel_max)
    minority = [boxes.class_names.index(name) for name in data.minority]
    return copied_classes(boxes, minority, augmentation, seed=0)


def _images_ready(data: DataSpec, train: TrainSpec, splits: Sequence[str]) -> Sequence[str]:
    from trainables.data.sources import images_of  # noqa: PLC0415

    images_of(data.source, train.imgsz, data.pixel_max)
    return ()


def _tiles_ready(data: DataSpec, train: TrainSpec, splits: Sequence[str]) -> Sequence[str]:
    from trainables.data.boxes.stored import make_ready  # noqa: PLC0415
    from trainables.data.sources import boxes_of  # noqa: PLC0415

    return make_ready(boxes_of(data.place, data.pixel_max), splits, train.imgsz)


BY_TASK: dict[Task, TaskFunctions] = {
    "toy": TaskFunctions(_train_toy),
    "classification": TaskFunctions(
        _train_classifier, _check_classifier_name, _check_classifier, make_ready=_images_ready
    ),
    "detection": TaskFunctions(
        _train_detector, _check_detector, _check_detector_itself, _copied_tiles, _tiles_ready
    ),
}
