"""A study as a job of a running Ray cluster: its driver runs on the cluster's head, whoever leaves."""

import json
import shlex
import time
from urllib.parse import quote

from search.launching.client import about, asked_address, jobs_at
from search.launching.package import SCRIPT, package
from search.launching.wanted import Launched, Wanted, check_shared
from spaces.errors import UsageError
from trainables.storage.address import Address

LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")


def launch(wanted: Wanted, *, address: str | None, dry_run: bool) -> Launched:
    """Write the package, and submit a job with it.

    A job of a study that is there goes on with it; while one works on it, another is refused.

    Args:
        wanted: What is launched; the folder of its runs, and data that do not go along, are seen by all
            nodes.
        address: Of the cluster's dashboard; None for what Ray's variable says, or this machine's.
        dry_run: Do not submit it; nobody is asked.

    Raises:
        UsageError: What `package` and `asked_address` refuse; `ray[default]` is missing here; a job is on the
            study.
        RunError: The cluster does not answer, refuses the token or the job, or the job has failed at once.
    """
    where = asked_address(address)
    check_shared(wanted)
    written = package(wanted)
    run, job = entrypoint(wanted), job_name(wanted)
    at = f"--address {shlex.quote(where)}"
    notes = [wanted.needs]
    submitted = None
    if not dry_run:
        jobs = jobs_at(where)
        if (other := jobs.running(str(wanted.folder))) is not None:
            raise UsageError(
                f"the job {other} works on {wanted.folder}",
                f"ray job logs --follow {other} {at} shows it, ray job stop {other} {at} ends it",
            )
        jobs.submit(run, written, str(wanted.folder), job)
        submitted = job
        if not jobs.begun(job):
            notes.append("it waits for the cluster, and begins by itself")
        if jobs.is_open and not where.startswith(LOOPBACK):
            notes.append(f"whoever reaches {where} can run code there, as it asks for no token")
    named = f"--metadata-json {shlex.quote(json.dumps(about(str(wanted.folder))))}"
    submit = f"ray job submit {at} --no-wait {named} --working-dir {shlex.quote(str(written))} -- {run}"
    read = f"{where}{quote(str(wanted.folder))}"
    if isinstance(wanted.folder, Address):
        read = shlex.quote(str(wanted.folder))
    watch = (
        f"ray job logs --follow {submitted or 'JOB'} {at}",
        f"rarecall status {read}",
    )
    return Launched(written, submit, submitted, watch, tuple(notes))


def job_name(wanted: Wanted) -> str:
    """A new one: a study may be launched again, to go on."""
    return f"rarecall-{wanted.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"


def entrypoint(wanted: Wanted) -> str:
    """What the job runs in its working folder, on the head."""
    _, *search = wanted.search("study.yaml")
    return shlex.join(["sh", SCRIPT.name, str(wanted.runs), str(wanted.folder), *search])
