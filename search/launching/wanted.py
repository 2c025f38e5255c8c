"""What is to be launched: a study file that is checked here, and the command that runs it there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from search.cluster.room import room_for
from search.pipeline.opening import data_of, paths_of, with_paths
from search.pipeline.planning.known import known, occupied
from search.pipeline.planning.plan import Plan, plan
from search.record.storage.address import mirror_of
from search.request.computing.resources import AUTO, Resources
from search.request.config import StudyConfig
from search.request.reading import load_config
from spaces.errors import UsageError
from trainables.contract.trust import FLAG, trusts_weights
from trainables.storage.address import Address


@dataclass(frozen=True)
class Wanted:
    """A study that is to run on a cluster.

    Attributes:
        file: Its file, by an absolute path.
        config: What it says.
        runs: Folder of all studies, where it will run, or on a storage.
    """

    file: Path
    config: StudyConfig
    runs: Path | Address

    @property
    def folder(self) -> Path | Address:
        """Of the study, where it will run."""
        return self.runs / self.config.name

    @property
    def needs(self) -> str:
        """What nodes need for the folder of studies, which is not known here."""
        if isinstance(self.runs, Path):
            return f"the head and all nodes must see {self.runs}"
        return (
            f"the head and all nodes need credentials for {self.runs.place}, by the machine's role or in "
            "their environment: none goes along"
        )

    def beside(self, suffix: str) -> Path:
        """Where what is submitted is written: beside the study file."""
        return self.file.with_suffix(suffix)

    def search(self, file: str) -> list[str]:
        """The command that runs it there, where the study file is `file`; without its cluster's address."""
        trusting = [FLAG] if trusts_weights() else []
        return ["rarecall", "search", file, "--runs", str(self.runs), *trusting]


@dataclass(frozen=True)
class Launched:
    """What came of it.

    Attributes:
        written: The file that says what is submitted.
        submit: The command that submits it.
        job: Its name there; None where it was not submitted.
        watch: Commands that show how it gets on.
        notes: What a person should know.
    """

    written: Path
    submit: str
    job: str | None
    watch: tuple[str, ...]
    notes: tuple[str, ...] = ()


def wanted(
    file: Path, runs: Path | Address, console: Console, *, elsewhere: bool = False, running: bool = False
) -> Wanted:
    """Read and check what is to be launched; the data too, where they are here.

    Args:
        file: The study file.
        runs: Folder of all studies; what lies in `launch.shared` is named by that, however it is written.
        console: For a bar while images are looked at.
        elsewhere: The data need not be here, but where it runs; then the search itself checks them.
        running: The cluster is there already, with the nodes that it has.

    Raises:
        UsageError: The file or the data are not as they must be, or no node would hold a run.
    """
    config = load_config(file)
    shared = config.launch.shared
    read = {key: str(_below(shared, Path(path))) for key, path in paths_of(config).items()}
    config = with_paths(config, read)
    launch, resources = config.launch, config.resources
    lacking = []
    if resources == AUTO:
        asked = {"gpus": launch.gpus} | ({"cpus": launch.cpus} if elsewhere else {})
        lacking = [
            f"launch.{key}: what a node has, as resources are auto"
            for key, has in asked.items()
            if has is None and not running
        ]
    else:
        for key, has, needed in (("cpus", launch.cpus, resources.cpu), ("gpus", launch.gpus, resources.gpu)):
            if has is not None and has < needed:
                lacking.append(f"launch.{key}: a run asks for {needed:g}, got {has}")
    if lacking:
        raise UsageError(
            "\n".join(f"{file.name}: {line}" for line in lacking),
            "`launch` says what a node has, `resources` what a run has",
        )
    source = config.data if isinstance(config.data, str) else config.data.images
    if not elsewhere or source.startswith("demo:") or Path(source).exists():
        data_of(config, file.name, console)
    file, runs = _below(shared, file), _below(shared, runs) if isinstance(runs, Path) else runs
    return Wanted(file, config, runs)


def _below(shared: str | None, written: Path) -> Path:
    """A path, absolute, as it is written; what lies in a folder that all nodes see, by that folder's name."""
    path, real = written.absolute(), written.resolve()
    path = real if ".." in path.parts else path
    folder = None if shared is None else Path(shared).resolve()
    if shared is None or folder is None or path.is_relative_to(shared) or not real.is_relative_to(folder):
        return path
    return shared / real.relative_to(folder)


def check_shared(wanted: Wanted) -> None:
    """Whether the studies lie where all nodes see them.

    Raises:
        UsageError: They do not, as the study file has it.
    """
    shared = wanted.config.launch.shared
    runs = wanted.runs
    if shared is not None and isinstance(runs, Path) and not runs.is_relative_to(shared):
        raise UsageError(f"--runs: {runs} is not in launch.shared, {shared}", f"--runs {shared}/runs")


def planned(wanted: Wanted) -> Plan:
    """What it is going to take, on the nodes that `launch` asks for."""
    config = wanted.config
    found = known(config, wanted.runs if isinstance(wanted.runs, Path) else mirror_of(wanted.runs))
    return plan(config, found, runs_held(config, occupied(config, found)))


def runs_held(config: StudyConfig, run: Resources) -> tuple[int, str]:
    """How many runs the nodes that `launch` asks for hold at a time, and in words what decides that.

    Args:
        config: Of the study.
        run: What one occupies.
    """
    launch = config.launch
    cpus, gpus = launch.cpus_and_gpus(run)
    where = f"{launch.nodes} node{'s' if launch.nodes > 1 else ''} as `launch` says"
    if launch.cpus is None:
        where += " (without launch.cpus: one run each)"
    return room_for(run, [{"CPU": cpus, "GPU": gpus}] * launch.nodes, where)


def shell(name: str, value: str | list[str]) -> str:
    """An assignment, as bash reads it."""
    assert re.fullmatch(r"[a-z_]+", name)
    return f"{name}={shlex.quote(value)}" if isinstance(value, str) else f"{name}=({shlex.join(value)})"
