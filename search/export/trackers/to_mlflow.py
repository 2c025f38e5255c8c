"""A study in MLflow: an experiment of its name, an arm's run with its seeds' runs nested in it."""

import logging
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from search.export.trackers.runs import TrackedRun, TrackedStudy
from search.export.trackers.told import Told, talking_to
from spaces.errors import UsageError

SQLITE = "sqlite:///"
ID, CONTENT = "rarecall.id", "rarecall.content"  # tags: which run it is, and all that was told of it
PARENT = "mlflow.parentRunId"
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
PAGE, BATCH = 1000, 100  # runs of an answer; params and tags of a request, of which MLflow takes no more
MOST_METRICS = 1000  # of a request
LONGEST = 5000  # characters of a tag
# Unless the person says otherwise: a server that does not answer is told of within a minute, nobody hears how
# MLflow is used, and no address is printed for each run.
USUAL = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

Value = TypeVar("Value")


def to_mlflow(study: TrackedStudy, uri: str) -> Told:
    """Tell MLflow what it does not know yet; what it knows is looked up by tags, so nothing is told twice.

    Args:
        study: What to tell.
        uri: Of the tracking server, or of a database: `http://…`, `sqlite:///…`.

    Raises:
        UsageError: mlflow is not installed, or this is no address of a server or a database.
        RunError: The server cannot be reached, or refuses.
    """
    with talking_to("mlflow"):
        _check(uri)
        for name, value in USUAL.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # noqa: PLC0415  (an extra, and slow to load)

        for name in ("mlflow", "urllib3.connectionpool"):  # they would tell of each table and each attempt
            logging.getLogger(name).setLevel(logging.ERROR)
        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, study.name, uri)
        known = _known(client, experiment)
        began = round(datetime.fromisoformat(study.created).timestamp() * 1000)
        new = changed = 0
        ids = {of: run.info.run_id for of, run in known.items()}
        for run in study.runs:
            stored = known.get(run.id)
            if stored is not None and stored.data.tags.get(CONTENT) == run.content:
                continue
            if stored is None:
                tags = {ID: run.id} | ({} if run.parent is None else {PARENT: ids[run.parent]})
                made = client.create_run(experiment, start_time=began, tags=tags, run_name=run.name)
                ids[run.id], new = made.info.run_id, new + 1
            else:
                changed += 1
            _tell(client, ids[run.id], run, began)
        return Told(f"{uri}, experiment {study.name}", len(study.runs), new, changed)


def _check(uri: str) -> None:
    """MLflow would take a word for a folder, and try a file that it cannot write ten times."""
    scheme, apart, _ = uri.partition("://")
    if not apart and uri != "databricks":
        raise UsageError(
            f"mlflow: '{uri}' is no address", "of a server, http://host:5000, or sqlite:///file.db"
        )
    if scheme == "sqlite" and not os.access(Path(uri.removeprefix(SQLITE)).absolute().parent, os.W_OK):
        raise UsageError(f"mlflow: {uri} cannot be written", "name a file in a folder that is there")


def _experiment(client: Any, name: str, uri: str) -> str:
    """Its id, made if there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    files = None
    if uri.startswith(SQLITE):  # else MLflow keeps them where the command is typed
        files = (Path(uri.removeprefix(SQLITE)).absolute().parent / "mlflow_files").as_uri()
    return str(client.create_experiment(name, artifact_location=files))


def _known(client: Any, experiment: str) -> dict[str, Any]:
    """Our id -> its run, of those that are there."""
    found: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=PAGE, page_token=token)
        found |= {run.data.tags[ID]: run for run in page if ID in run.data.tags}
        token = page.token
        if not token:
            return found


def _parts(values: Sequence[Value], size: int) -> Iterator[Sequence[Value]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _tell(client: Any, run_id: str, run: TrackedRun, began: int) -> None:
    """All of a run; its content's tag comes last, so that what was cut is told again.

    MLflow keeps equal values of the same step and time once, hence the times: they are made from the steps.
    """
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415  (as above)

    last = max((epoch for epoch, _ in run.curve), default=0)
    ended = began + max(last, round(run.seconds * 1000))
    metrics = [
        Metric(name, value, began + epoch, epoch)
        for epoch, values in run.curve
        for name, value in values.items()
    ]
    metrics += [Metric(name, value, ended, last) for name, value in run.metrics.items()]
    for part in _parts(metrics, MOST_METRICS):
        client.log_batch(run_id, metrics=part)
    for params in _parts(list(run.params.items()), BATCH):
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params])
    tags = run.tags | {"arm": run.arm}
    client.log_batch(run_id, tags=[RunTag(name, value[:LONGEST]) for name, value in tags.items()])
    for name, text in run.files.items():
        client.log_text(run_id, text, name)
    client.set_terminated(run_id, status=STATUS[run.state], end_time=ended)
    client.set_tag(run_id, CONTENT, run.content)
