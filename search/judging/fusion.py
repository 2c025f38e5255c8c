"""Any finished model beside any other: what the two would find together, by their stored predictions.

A pair is believed by class: one model in the minority, the other in the rest, at the confidence that is best
for each over its own classes. So a pair costs no training and, but for suppression, no new counting: a
class's curve is that of its own model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from search.request.config import StudyConfig
from search.request.guards import Guard, violations
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import MERGED, on_whole_images
from trainables.contract.trial import FusionSpec, Merging, Metrics
from trainables.evaluation.detection import ClassCurves, RankedPredictions, best_threshold
from trainables.evaluation.fusion import only
from trainables.evaluation.matching import Bools
from trainables.evaluation.overlaps import Placed

# Shares of a majority box inside a sure minority box that are tried; 0 leaves none out.
SUPPRESS = (0.0, 0.8)


class Fusion(Frozen):
    """A pair, and what it would do on val.

    Attributes:
        number: By which a confirmation names it.
        majority: Name of the trial whose boxes of the majority count; `baseline` is its first seed.
        minority: Likewise of the minority.
        strategies: Of the two.
        suppress: As of `FusionSpec`.
        metrics: On val.
        violations: Guarded metric -> violation; of whole images where there are any.
        seconds: Of both trainings.
        merging: How what is found on tiles becomes what is found on whole images; None without these.
    """

    number: int
    majority: str
    minority: str
    strategies: tuple[Strategy, Strategy]
    suppress: float
    metrics: Metrics
    violations: dict[str, float]
    seconds: float
    merging: Merging | None = None

    @property
    def feasible(self) -> bool:
        """Whether it keeps every guard."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def spec(self) -> FusionSpec:
        """What a run beside the minority's strategy needs to know."""
        return FusionSpec(majority=self.strategies[0], suppress=self.suppress)


@dataclass(frozen=True)
class Seen:
    """What a model finds on val, on tiles or on whole images, and what is derived from that once."""

    found: DetectionPredictions

    @cached_property
    def ranked(self) -> RankedPredictions:
        """Sorted by score."""
        return RankedPredictions(self.found)

    @cached_property
    def curves(self) -> dict[int, ClassCurves]:
        """Class -> curves."""
        return self.ranked.curves(self._all)

    def curves_without(self, gone: Bools) -> dict[int, ClassCurves]:
        """Class -> curves, without some of the predictions, (P,)."""
        return self.ranked.curves(self._all, without=gone)

    @property
    def _all(self) -> Bools:
        return np.ones(len(self.found.image), dtype=bool)

    @cached_property
    def placed(self) -> Placed:
        """Where its boxes of the majority lie."""
        rest = np.flatnonzero(~np.isin(self.found.pred_class, self.found.minority))
        return Placed(self.found.pred_image, self.found.pred_box, rest)

    def sure(self, least: float) -> DetectionPredictions:
        """The boxes of the minority that reach a confidence."""
        rare = np.isin(self.found.pred_class, self.found.minority)
        return only(self.found, rare & (self.found.pred_score >= least))


@dataclass(frozen=True)
class Model:
    """A finished model.

    Attributes:
        name: Of its trial.
        strategy: That it was trained with.
        seconds: Of its training.
        tiles: Its predictions on val, of tiles or of images as they are.
        merge: Its predictions of the whole images by a way of merging; None without whole images.
    """

    name: str
    strategy: Strategy
    seconds: float
    tiles: DetectionPredictions
    merge: Callable[[Merging], DetectionPredictions] | None = None
    _seen: dict[Merging | None, Seen] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        names: list[str] = self.tiles.class_names.tolist()
        return names

    @property
    def rare(self) -> list[int]:
        """Ids of the minority."""
        rare: list[int] = self.tiles.minority.tolist()
        return rare

    @property
    def rest(self) -> list[int]:
        """Ids of the majority."""
        return [c for c in range(len(self.names)) if c not in self.rare]

    def seen(self, way: Merging | None) -> Seen:
        """What it finds on whole images by a way of merging; on tiles if that is None."""
        if way not in self._seen:
            if way is None:
                found = self.tiles
            else:
                assert self.merge is not None, "a way of merging is asked of whole images alone"
                found = self.merge(way)
            self._seen[way] = Seen(found)
        return self._seen[way]

    @cached_property
    def best(self) -> tuple[float, float]:
        """The best confidence over the majority's classes, and over the minority's; found on tiles."""
        own = self.seen(None).curves
        of_rest, of_rare = ({c: own[c] for c in ids if c in own} for ids in (self.rest, self.rare))
        return best_threshold(of_rest), best_threshold(of_rare)


@dataclass(frozen=True)
class Rules:
    """What a pair must keep, and by what pairs are ranked.

    Attributes:
        guards: Of the study; on whole images where there are any, as a confirmation has them.
        objectives: Likewise.
        baseline: Means over its seeds.
    """

    guards: tuple[Guard, ...]
    objectives: tuple[str, str]
    baseline: Metrics

    @classmethod
    def of(cls, config: StudyConfig, baseline: Metrics, *, whole_images: bool) -> "Rules":
        """Of a study."""
        if not whole_images:
            return cls(config.guards, config.objectives, baseline)
        guards = tuple(
            guard.model_copy(update={"metric": on_whole_images(guard.metric)}) for guard in config.guards
        )
        first, second = config.objectives
        return cls(guards, (on_whole_images(first), on_whole_images(second)), baseline)


def fusions(majority: Model, minority: Model, rules: Rules, way: Merging | None = None) -> list[Fusion]:
    """A pair of models, with and without suppression.

    Args:
        majority: Model that is believed in the majority's classes.
        minority: In the minority's; measured on the same images.
        rules: Of the study.
        way: How tiles are merged; None without whole images.

    Raises:
        MissingMetric: A guard is on a metric that is not known of a pair.
    """
    found = []
    for suppress in SUPPRESS:
        metrics = together(majority, minority, suppress, way)
        found.append(
            Fusion(
                number=0,
                majority=majority.name,
                minority=minority.name,
                strategies=(majority.strategy, minority.strategy),
                suppress=suppress,
                metrics=metrics,
                violations=violations(rules.guards, metrics, rules.baseline),
                seconds=majority.seconds + minority.seconds,
                merging=way,
            )
        )
    return found


def ranked(found: Sequence[Fusion], objectives: tuple[str, str]) -> list[Fusion]:
    """The feasible first, by the first objective and then the second; numbered so from 0."""

    def rank(one: Fusion) -> tuple[bool, float, float]:
        first, second = (one.metrics.get(name) for name in objectives)
        return not one.feasible, -(first or 0.0), -(second or 0.0)

    return [one.model_copy(update={"number": i}) for i, one in enumerate(sorted(found, key=rank))]


def together(majority: Model, minority: Model, suppress: float, way: Merging | None = None) -> Metrics:
    """What two models find on val, each believed in its own classes at its own best confidence.

    Returns:
        The metrics that `detection_metrics` has by the same names, but for those of `tuned/`, `deployed/` and
        `ultralytics/` and those that hang on one confidence for all classes; with a way of merging those of
        whole images, too.
    """
    metrics: Metrics = {}
    at = (majority.best[0], minority.best[1])
    for seen in (None,) if way is None else (None, way):
        one, other = majority.seen(seen), minority.seen(seen)
        of_rest = one.curves if not suppress else _left(one, other.sure(at[1]), suppress)
        curves = {c: other.curves[c] for c in minority.rare if c in other.curves}
        curves |= {c: of_rest[c] for c in majority.rest if c in of_rest}
        measured = _metrics(majority.names, curves, set(minority.rare), at)
        metrics |= (
            measured if seen is None else {f"{MERGED}{name}": value for name, value in measured.items()}
        )
    return metrics


def _left(majority: Seen, sure: DetectionPredictions, suppress: float) -> dict[int, ClassCurves]:
    """Curves of the majority's classes, without its boxes in what the other is sure to be of the minority."""
    gone = majority.placed.inside(sure.pred_image, sure.pred_box, suppress)
    return majority.curves_without(gone) if gone.any() else majority.curves


def _metrics(
    names: Sequence[str],
    curves: Mapping[int, ClassCurves],
    rare: set[int],
    at: tuple[float, float],
) -> Metrics:
    points = {c: curve.at(at[c in rare]) for c, curve in curves.items()}
    of_rare = [curves[c] for c in sorted(rare) if c in curves]
    recalls = [points[c][1] for c in sorted(rare) if c in points]
    precisions = [p for c in sorted(rare) if c in points and (p := points[c][0]) is not None]
    metrics: Metrics = {
        "minority_recall": _mean(recalls),
        "minority_recall_worst": min(recalls, default=None),
        "minority_precision": _mean(precisions),
        "minority_ap50": _mean([float(curve.ap[0]) for curve in of_rare]),
        "minority_froc": _mean([curve.froc for curve in of_rare]),
        "map50": _mean([float(curve.ap[0]) for curve in curves.values()]),
        "map50_95": _mean([float(curve.ap.mean()) for curve in curves.values()]),
    }
    for c, name in enumerate(names):
        curve, (precision, recall) = curves.get(c), points.get(c, (None, None))
        metrics[f"precision/{name}"], metrics[f"recall/{name}"] = precision, recall
        metrics[f"ap50/{name}"] = float(curve.ap[0]) if curve else None
        metrics[f"map50_95/{name}"] = float(curve.ap.mean()) if curve else None
        metrics[f"froc/{name}"] = curve.froc if curve else None
    return metrics


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
