"""A study as a job of Slurm: the script for `sbatch`, which goes on with the study where its job is requeued.

`ray symmetric-run` starts Ray on the job's nodes and stops every Ray that it sees there, so the nodes are
asked for as a whole.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from search.launching.wanted import Launched, Wanted, check_shared, shell
from search.request.config import StudyConfig
from spaces.errors import RunError, UsageError

BODY = Path(__file__).parent / "assets" / "slurm.sh"
ANSWERS_WITHIN_S = 60


def launch(wanted: Wanted, *, dry_run: bool) -> Launched:
    """Write the script, have Slurm check it, and submit it.

    Args:
        wanted: What is launched; all nodes see its file, its data and the folder of its runs, if that is none
            of a storage.
        dry_run: Do not submit it. Then Slurm need not be here.

    Raises:
        UsageError: There is no `sbatch`, or Slurm refuses the script.
        RunError: Slurm does not answer.
    """
    check_shared(wanted)
    written = wanted.beside(".slurm.sh")
    written.write_text(script(wanted))
    log = f"{place(wanted) / wanted.config.name}-JOB.log"
    notes = [] if isinstance(wanted.runs, Path) else [wanted.needs]
    if wanted.config.launch.shared is None and wanted.config.launch.nodes > 1:
        notes.append(f"all nodes must see {place(wanted)}, {wanted.file} and the data")
    submit, job = ["sbatch", "--parsable", str(written)], None
    if dry_run and shutil.which("sbatch") is None:
        notes.append("no sbatch here, so Slurm has not looked at it")
    else:
        _said(["sbatch", "--test-only", str(written)])
    if not dry_run:
        place(wanted).mkdir(parents=True, exist_ok=True)  # Slurm opens the log before the script runs
        job = _said(submit).partition(";")[0]
        log = log.replace("-JOB.log", f"-{job}.log")
    watch = (f"rarecall status {shlex.quote(str(wanted.folder))}", f"tail -F {shlex.quote(log)}")
    return Launched(written, shlex.join(submit), job, watch, tuple(notes))


def place(wanted: Wanted) -> Path:
    """Where the job's own files lie, its log and its token: all its nodes see it."""
    return wanted.runs if isinstance(wanted.runs, Path) else wanted.file.parent


def script(wanted: Wanted) -> str:
    """The script, whole."""
    launch = wanted.config.launch
    cpus = "cpus=$SLURM_CPUS_ON_NODE" if launch.cpus is None else f"cpus={launch.cpus}"
    lines = [
        "#!/bin/bash",
        f"# Written by `rarecall launch --on slurm` for {wanted.file.name}.",
        *(f"#SBATCH {option}" for option in options(wanted.config, place(wanted))),
        "",
        f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        *launch.extra.setup,
        shell("place", str(place(wanted))),
        shell("folder", str(wanted.folder)),
        shell("search", wanted.search(str(wanted.file))),
        cpus,
        shell("warn_s", str(launch.warn_s)),
        "",
    ]
    return "\n".join(lines) + BODY.read_text()


def options(config: StudyConfig, place: Path) -> list[str]:
    """What is asked of Slurm, an option each; what an admin wants comes last, so that it counts."""
    launch, extra = config.launch, config.launch.extra
    log = f"{place / config.name}".replace("%", "%%") + "-%j.log"
    _, gpus = launch.cpus_and_gpus(config.resources)
    asked = {
        "job-name": f"rarecall-{config.name}",
        "nodes": str(launch.nodes),
        "ntasks-per-node": "1",
        "gpus-per-node": str(gpus) if gpus else None,
        "mem": "0" if launch.memory is None else launch.memory.removesuffix("i"),  # 0: all of a node's
        "time": launch.time,
        "signal": f"B:USR1@{launch.warn_s}",
        "open-mode": "append",
        "output": log,
        "partition": extra.partition,
        "account": extra.account,
        "qos": extra.qos,
    }
    named = [f"--{name}={shlex.quote(value)}" for name, value in asked.items() if value is not None]
    return ["--exclusive", "--requeue", *named, *extra.sbatch]


def _said(command: list[str]) -> str:
    """What Slurm prints.

    Raises:
        UsageError: There is no Slurm here, or it refuses.
        RunError: It does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_WITHIN_S, check=False)
    except FileNotFoundError:
        raise UsageError("no sbatch here", "on a login node of the cluster there is one") from None
    except subprocess.TimeoutExpired:
        raise RunError(
            f"Slurm does not answer within {ANSWERS_WITHIN_S} s", "`sinfo` shows its state"
        ) from None
    if done.returncode:
        raise UsageError(
            f"Slurm refuses it: {done.stderr.strip()}",
            "launch.extra says what it is asked for; `sinfo`, whether Slurm answers here",
        )
    return done.stdout.strip()
