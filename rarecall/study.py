"""A study as data frames, read anew at each call: it may be searched meanwhile."""

import time
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from search.export.page.answer import answer
from search.judging.choosing import recommended
from search.judging.comparison import Conclusion
from search.judging.confirmation import latest
from search.judging.front import front
from search.record.experiments import COMPARISON
from search.record.folder import StudyFolder
from search.record.storage.address import mirrored, named, study_folder
from search.record.storage.mirror import DATABASE
from search.record.stored import unpacked
from search.record.study import Study as Record
from search.show.comparison import as_rows as comparison_rows
from search.show.front import as_rows as front_rows
from search.show.pictures.curves import curves_picture
from search.show.pictures.drawn_curves import curves_figure
from search.show.pictures.drawn_front import front_figure
from search.show.pictures.front import front_picture
from search.show.status import study_status
from spaces.errors import UsageError

AGAIN_S = 5.0  # between two looks at a storage


def open(path: str | Path) -> "Study":
    """The study in a folder, e.g. `runs/digits`, or on a storage, e.g. `s3://bucket/runs/digits`.

    Raises:
        UsageError: There is no study.
    """
    return Study(path)


class Study:
    """A study that was made by `search` or `compare`, to be looked at.

    Attributes:
        path: Its folder; of a study on a storage, the one that mirrors it here.
        name: As in its study file.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = StudyFolder(study_folder(str(path)))
        self._folder.bring()
        self.path = self._folder.path
        self._open()
        self.name = self._opened.config.name

    def _open(self) -> None:
        self._folder = StudyFolder(self.path)
        self._opened, self._seen, self._brought = self._folder.open(), self._file(), time.monotonic()

    def _file(self) -> int | None:
        """Which file the record is; a mirror's is another each time that it is brought."""
        file = self.path / DATABASE
        return file.stat().st_ino if file.exists() else None

    @property
    def _record(self) -> Record:
        """As it is now; of a study on a storage, as it was a few seconds ago."""
        if time.monotonic() - self._brought > AGAIN_S:
            self._folder.bring()
            if self._file() != self._seen:
                self._open()
            self._brought = time.monotonic()
        return self._opened

    def __repr__(self) -> str:
        return f"Study({str(mirrored(self.path) or self.path)!r})"

    def _repr_html_(self) -> str:
        """For notebooks: what is known so far, and the front."""
        record = self._record
        status = study_status(record, self._folder.being(), named(self.path))
        said = answer(record, status, latest(record), named(self.path))
        lines = "".join(f"<li>{escape(one)}</li>" for one in said.sentences)
        shown = self.front()
        known = [name for name in record.config.front_metrics if name in shown]
        table = shown[known].to_html(float_format="{:.3f}".format) if known else ""
        return f"<p><b>{escape(said.headline)}</b></p><ul>{lines}</ul>{table}"

    def plot_front(self) -> Figure:
        """The front, as `rarecall pareto --png` draws it; a matplotlib figure, shown by a notebook."""
        record = self._record
        trials, baseline, config = record.trials(), record.baseline(), record.config
        found = front(trials, config.objectives, baseline)
        return front_figure(front_picture(found, recommended(trials, config, baseline), baseline, config))

    def plot_curves(self) -> Figure:
        """The learning curves of the front, with the baseline's band; as `plot_front`."""
        record = self._record
        trials, baseline, config = record.trials(), record.baseline(), record.config
        found = front(trials, config.objectives, baseline)
        best = recommended(trials, config, baseline)
        return curves_figure(curves_picture(found, best, baseline, config, self._folder.files.curve))

    def front(self) -> pd.DataFrame:
        """The Pareto front: the rows of `trials` whose group is `best`, by falling first objective."""
        trials = self.trials()
        return trials[trials["group"] == "best"].sort_values(
            list(self._record.config.objectives), ascending=False
        )

    def trials(self) -> pd.DataFrame:
        """All trials, a row each, by number.

        Columns: `group` (`best`, `dominated`, `infeasible`, `stopped`, `running` or `failed`), the strategy's
        knobs, and of finished trials every metric, `exposure`, `seconds`, and `violation/<metric>` of each
        guard (<= 0 is feasible).
        """
        record = self._record
        rows = front_rows(
            front(record.trials(), record.config.objectives, record.baseline()), record.config.task
        )
        return pd.DataFrame(rows, columns=_columns(rows, "number", "group")).set_index("number")

    def curve(self, number: int) -> pd.DataFrame:
        """The learning curve of a finished trial: a row per epoch, from 1, with every metric.

        Raises:
            UsageError: There is no such trial, or it has not finished.
        """
        for trial in self._record.trials():
            if trial.number == number and trial.report is not None:
                points = self._folder.files.curve(trial.report)
                rows = [{"epoch": point.epoch, **point.metrics} for point in points]
                return pd.DataFrame(rows).set_index("epoch")
        raise UsageError(
            f"{named(self.path)}: trial {number} has no report", "those of trials() with metrics have one"
        )

    def baseline(self) -> pd.DataFrame:
        """The baseline's finished seeds, a row each, by seed: every metric, `exposure`, `seconds`."""
        found = self._record.baseline()
        rows: list[dict[str, Any]] = []
        if found is not None:
            rows = [
                {"seed": seed, **report.metrics, "exposure": report.exposure, "seconds": report.seconds}
                for seed, report in zip(found.seeds, found.reports, strict=True)
            ]
        return pd.DataFrame(rows, columns=_columns(rows, "seed")).set_index("seed")

    def verdicts(self) -> pd.DataFrame:
        """What the last confirmation has concluded so far: a row per candidate and requirement.

        Columns: `outcome` (`accepted`, `rejected`, `inconclusive` or `invalid`), `baseline` and `candidate`
        (means on the test split), and `gain`, `margin`, `lower` and `upper` (bounds, at `level` and
        `upper_level`), all of them in the direction in which more is better. A candidate on which no verdict
        can be given has one row, without a metric. Empty before the first look is concluded.
        """
        begun = latest(self._record)
        results = begun.looks[-1].results if begun is not None and begun.looks else ()
        rows: list[dict[str, Any]] = []
        for result in results:
            verdict = result.verdict
            said = {"candidate": verdict.candidate, "outcome": verdict.outcome}
            rows += [
                said
                | {
                    "metric": bounds.requirement.metric,
                    "baseline": result.baseline.get(bounds.requirement.metric),
                    "mean": result.means.get(bounds.requirement.metric),
                    "gain": bounds.gain,
                    "margin": bounds.requirement.margin,
                    "lower": bounds.lower,
                    "upper": bounds.upper,
                    "level": bounds.lower_level,
                    "upper_level": bounds.upper_level,
                }
                for bounds in verdict.bounds
            ] or [said | {"metric": None}]
        known = _columns(rows, "candidate", "metric", "outcome")
        return pd.DataFrame(rows, columns=known).set_index(["candidate", "metric"])

    def comparison(self) -> pd.DataFrame:
        """The last finished comparison, a row per arm and metric; columns as of `compare.csv`."""
        rows: list[dict[str, Any]] = []
        if COMPARISON in self._record.experiments():
            for text in self._record.experiment(COMPARISON).conclusions[-1:]:
                rows = comparison_rows(unpacked(Conclusion, text).read())
        return pd.DataFrame(rows, columns=_columns(rows, "arm", "metric")).set_index(["arm", "metric"])

    def strategy(self, number: int) -> dict[str, float]:
        """The knobs of a trial, by name; those that are off included.

        Raises:
            UsageError: There is no such trial.
        """
        found = {trial.number: trial.strategy for trial in self._record.trials()}
        if number not in found:
            raise UsageError(
                f"{named(self.path)} has no trial {number}", f"trials: {', '.join(map(str, found))}"
            )
        return found[number].knobs()


def _columns(rows: list[dict[str, Any]], *first: str) -> list[str]:
    """Those of all rows, `first` first; also without rows, so that an empty frame has its index."""
    return list(dict.fromkeys([*first, *(column for row in rows for column in row)]))
