"""Any finished model beside any other: what the two would find together, by their stored predictions.

A pair is believed by class: one model in the minority, the other in the rest, at the confidence that is best
for each over its own classes. So a pair costs no training and, but for suppression, no new counting: a
class's curve is that of its own model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.request.config import StudyConfig
from search.request.guards import violations
from spaces.frozen import Frozen
from spaces.strategy import Strategy
from trainables.contract.predictions import DetectionPredictions
from trainables.contract.tasks import MERGED
from trainables.contract.trial import FusionSpec, Metrics
from trainables.evaluation.detection import ClassCurves, RankedPredictions, best_threshold
from trainables.evaluation.fusion import Placed, only
from trainables.evaluation.matching import Bools

SUPPRESS = (
    0.0,
    0.8,
)  # shares of a majority box inside a sure minority box that are tried; 0 is none left out


class Fusion(Frozen):
    """A pair, and what it would do on val.

    Attributes:
        number: By which a confirmation names it.
        majority: Name of the trial whose boxes of the majority count; `baseline` is its first seed.
        minority: Likewise of the minority.
        strategies: Of the two.
        suppress: As of `FusionSpec`.
        metrics: On val.
        violations: Guarded metric -> violation.
        seconds: Of both trainings.
    """

    number: int
    majority: str
    minority: str
    strategies: tuple[Strategy, Strategy]
    suppress: float
    metrics: Metrics
    violations: dict[str, float]
    seconds: float

    @property
    def feasible(self) -> bool:
        """Whether it keeps every guard."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def spec(self) -> FusionSpec:
        """What a run beside the minority's strategy needs to know."""
        return FusionSpec(majority=self.strategies[0], suppress=self.suppress)


@dataclass(frozen=True)
class Model:
    """A finished model.

    Attributes:
        name: Of its trial.
        strategy: That it was trained with.
        seconds: Of its training.
        found: Prefix of metrics -> its predictions on val: of tiles, or of images as they are, under ``;
            where there are whole images also of these, under `merged/`.
    """

    name: str
    strategy: Strategy
    seconds: float
    found: Mapping[str, DetectionPredictions]

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        names: list[str] = self.found[""].class_names.tolist()
        return names

    @property
    def rare(self) -> list[int]:
        """Ids of the minority."""
        rare: list[int] = self.found[""].minority.tolist()
        return rare

    @property
    def rest(self) -> list[int]:
        """Ids of the majority."""
        return [c for c in range(len(self.names)) if c not in self.rare]

    @cached_property
    def ranked(self) -> dict[str, RankedPredictions]:
        """Prefix -> its predictions, sorted once."""
        return {prefix: RankedPredictions(found) for prefix, found in self.found.items()}

    @cached_property
    def curves(self) -> dict[str, dict[int, ClassCurves]]:
        """Prefix -> class -> curves."""
        return {prefix: ranked.curves(self._all(prefix)) for prefix, ranked in self.ranked.items()}

    def curves_without(self, prefix: str, gone: Bools) -> dict[int, ClassCurves]:
        """Class -> curves, of some predictions alone."""
        return self.ranked[prefix].curves(self._all(prefix), without=gone)

    def _all(self, prefix: str) -> Bools:
        return np.ones(len(self.found[prefix].image), dtype=bool)

    @cached_property
    def placed(self) -> dict[str, Placed]:
        """Prefix -> where its boxes of the majority lie."""
        return {
            prefix: Placed(
                found.pred_image, found.pred_box, np.flatnonzero(np.isin(found.pred_class, self.rest))
            )
            for prefix, found in self.found.items()
        }

    @cached_property
    def best(self) -> tuple[float, float]:
        """The best confidence over the majority's classes, and over the minority's."""
        own = self.curves[""]
        of_rest, of_rare = ({c: own[c] for c in ids if c in own} for ids in (self.rest, self.rare))
        return best_threshold(of_rest), best_threshold(of_rare)

    @cached_property
    def sure(self) -> dict[str, DetectionPredictions]:
        """Prefix -> the boxes of the minority that reach their best confidence."""
        return {
            prefix: only(found, np.isin(found.pred_class, self.rare) & (found.pred_score >= self.best[1]))
            for prefix, found in self.found.items()
        }


def fusions(
    models: Sequence[Model], config: StudyConfig, baseline: Metrics, pairs: Sequence[tuple[int, int]]
) -> list[Fusion]:
    """Some pairs of models, with and without suppression; those that keep their guards first, best first.

    Args:
        models: Measured on the same images.
        config: Of the study.
        baseline: Means over its seeds.
        pairs: Indices of the majority's model and of the minority's.

    Raises:
        MissingMetric: A guard is on a metric that is not known of a pair.
    """
    found = []
    for i, j in pairs:
        one, other = models[i], models[j]
        for suppress in SUPPRESS:
            metrics = together(one, other, suppress)
            found.append(
                Fusion(
                    number=0,
                    majority=one.name,
                    minority=other.name,
                    strategies=(one.strategy, other.strategy),
                    suppress=suppress,
                    metrics=metrics,
                    violations=violations(config.guards, metrics, baseline),
                    seconds=one.seconds + other.seconds,
                )
            )
    return found


def ranked(found: Sequence[Fusion], objectives: tuple[str, str]) -> list[Fusion]:
    """The feasible first, by the first objective and then the second; numbered so from 0."""

    def rank(one: Fusion) -> tuple[bool, float, float]:
        first, second = (one.metrics.get(name) for name in objectives)
        return not one.feasible, -(first or 0.0), -(second or 0.0)

    return [one.model_copy(update={"number": i}) for i, one in enumerate(sorted(found, key=rank))]


def together(majority: Model, minority: Model, suppress: float) -> Metrics:
    """What two models find on val, each believed in its own classes at its own best confidence.

    Returns:
        The metrics that `detection_metrics` has by the same names, but for those of `tuned/`, `deployed/` and
        `ultralytics/` and those that hang on one confidence for all classes.
    """
    metrics: Metrics = {}
    for prefix in majority.found:
        curves = {c: minority.curves[prefix][c] for c in minority.rare if c in minority.curves[prefix]}
        of_rest = majority.curves[prefix] if not suppress else _left(majority, minority, prefix, suppress)
        curves |= {c: of_rest[c] for c in majority.rest if c in of_rest}
        at = (majority.best[0], minority.best[1])
        metrics |= _metrics(prefix, majority.names, curves, set(minority.rare), at)
    return metrics


def _left(majority: Model, minority: Model, prefix: str, suppress: float) -> dict[int, ClassCurves]:
    """Curves of the majority's classes, without its boxes in what the other is sure to be of the minority."""
    sure = minority.sure[prefix]
    gone = majority.placed[prefix].inside(sure.pred_image, sure.pred_box, suppress)
    return majority.curves_without(prefix, gone) if gone.any() else majority.curves[prefix]


def _metrics(
    prefix: str,
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
    assert prefix in ("", MERGED)
    return {f"{prefix}{name}": value for name, value in metrics.items()}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
