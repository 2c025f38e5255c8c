"""Ray Jobs of a cluster, over HTTP: what runs there, and a job more. A token is Ray's affair alone."""

import http.client
import logging
import os
import secrets
import time
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from spaces.errors import RunError, UsageError

ADDRESS = "http://127.0.0.1:8265"
VARIABLE = "RAY_API_SERVER_ADDRESS"  # Ray's own; it goes before what a program names
STUDY = "rarecall_study"  # of a job's metadata: the study's folder
ANSWERS_WITHIN_S = 5.0
LOOKED_AT_S = 15.0  # a job after it is submitted: by then most of what is wrong has ended it
RUNS_S = 6.0  # of which it has run
ANSWERED_WITHIN_S = 300.0  # by a command that reads a study; a report of a large one looks at many images
LAST_LINES = 12
ENDED = (JobStatus.FAILED, JobStatus.STOPPED)
REFUSED = (401, 403)
_HINT = (
    "the address is that of the head's dashboard, http://HEAD:8265; the head needs ray[default], and from "
    "elsewhere a tunnel (`ssh -L 8265:127.0.0.1:8265 HEAD`), or a token and `ray start --head "
    "--dashboard-host=0.0.0.0`"
)
_TOKEN = "RAY_AUTH_MODE=token, and the head's ~/.ray/auth_token here (or named by RAY_AUTH_TOKEN_PATH)"


@dataclass(frozen=True)
class Jobs:
    """The jobs of one cluster, which answers.

    Attributes:
        address: Of its dashboard, `http://head:8265`.
        is_open: Whether it asks for no token.
        client: Ray's.
    """

    address: str
    is_open: bool
    client: JobSubmissionClient

    def running(self, study: str) -> str | None:
        """The job that works on a study, or waits to; None if there is none.

        Raises:
            RunError: The cluster does not answer.
        """
        try:
            known = self.client.list_jobs()
        except (OSError, RuntimeError, AuthenticationError) as error:
            raise _failed(self.address, error) from None
        found = [job for job in known if (job.metadata or {}).get(STUDY) == study]
        return next((str(job.submission_id) for job in found if not job.status.is_terminal()), None)

    def submit(self, entrypoint: str, package: Path, study: str, job: str) -> None:
        """Submit a job.

        Args:
            entrypoint: A command line.
            package: A zip, the folder in which it runs.
            study: The study's folder there.
            job: Its name.

        Raises:
            RunError: The cluster refuses it, or does not answer.
        """
        try:
            self.client.submit_job(
                entrypoint=entrypoint,
                runtime_env={"working_dir": str(package)},
                metadata=about(study),
                submission_id=job,
            )
        except (OSError, RuntimeError, AuthenticationError) as error:
            raise _failed(self.address, error) from None

    def answer(self, entrypoint: str, study: str) -> tuple[int, str]:
        """What a short command says on the head, and its exit code.

        Args:
            entrypoint: A command line.
            study: That it reads. What the last job on it has brought, rarecall perhaps, is there, too, if the
                cluster still has it.

        Raises:
            RunError: The cluster refuses it, or does not answer, or the command does not end.
        """
        try:
            for brought in (*self._brought(study), {}):
                name = f"rarecall-reads-{secrets.token_hex(4)}"
                job = self.client.submit_job(entrypoint=entrypoint, runtime_env=brought, submission_id=name)
                code, said = self._ended(job)
                if code is not None:
                    return code, said
        except (OSError, RuntimeError, AuthenticationError) as error:
            raise _failed(self.address, error) from None
        raise RunError(
            f"the Ray at {self.address} has not run the command: {said}", "`ray job list` asks it, too"
        )

    def _brought(self, study: str) -> list[dict[str, str]]:
        """What the last job on a study has brought along, as an environment of a job."""
        jobs = [job for job in self.client.list_jobs() if (job.metadata or {}).get(STUDY) == study]
        last = max(jobs, key=lambda job: job.start_time or 0, default=None)
        package = None if last is None else (last.runtime_env or {}).get("working_dir")
        return [] if package is None else [{"working_dir": package}]

    def _ended(self, job: str) -> tuple[int | None, str]:
        """The exit code, and what was said; no code of a job that could not begin."""
        until = time.monotonic() + ANSWERED_WITHIN_S
        while not (info := self.client.get_job_info(job)).status.is_terminal():
            if time.monotonic() > until:
                self.client.stop_job(job)
                raise RunError(
                    f"the Ray at {self.address} has not answered within {ANSWERED_WITHIN_S:g} s", "try again"
                )
            time.sleep(0.2)
        if info.driver_exit_code is None:
            return None, str(info.message)
        return info.driver_exit_code, self.client.get_job_logs(job)

    def begun(self, job: str) -> bool:
        """Whether a job has begun, after a short look; one that waits for the cluster has not.

        Raises:
            RunError: It has ended already, and not well; with the end of what it has said.
        """
        until, runs_since = time.monotonic() + LOOKED_AT_S, None
        while (now := time.monotonic()) < until:
            status = self._status(job)
            if status != JobStatus.PENDING and runs_since is None:
                runs_since = now
            if status == JobStatus.SUCCEEDED or (runs_since is not None and now - runs_since > RUNS_S):
                break
            time.sleep(0.5)
        return runs_since is not None

    def _status(self, job: str) -> JobStatus:
        try:
            status = self.client.get_job_status(job)
            if status not in ENDED:
                return status
            said = self.client.get_job_logs(job).strip() or self.client.get_job_info(job).message or ""
        except (OSError, RuntimeError, AuthenticationError) as error:
            raise _failed(self.address, error) from None
        lines = "\n".join(said.splitlines()[-LAST_LINES:])
        raise RunError(f"the job has ended at once:\n{lines}", "mend it and launch again")


def about(study: str) -> dict[str, str]:
    """What the cluster is told of a job, by which `Jobs` finds it again.

    Args:
        study: The study's folder there.
    """
    return {STUDY: study}


def asked_address(address: str | None) -> str:
    """Where the cluster's dashboard is: what was asked for, else what Ray's own variable says, else here.

    Raises:
        UsageError: It is no address of a dashboard.
    """
    found = os.environ.get(VARIABLE, ADDRESS) if address is None else address
    found = found if "://" in found else f"http://{found}"
    if not found.startswith(("http://", "https://")):
        raise UsageError(
            f"--address: Ray Jobs are reached by HTTP, got {found}", "e.g. --address http://head:8265"
        )
    if "@" in urlsplit(found).netloc:
        raise UsageError("--address: a password in it would be shown", "Ray's own way is a token: " + _TOKEN)
    return found.rstrip("/")


def jobs_at(address: str) -> Jobs:
    """The jobs of a cluster.

    Args:
        address: As of `asked_address`.

    Raises:
        UsageError: `ray[default]` is missing here.
        RunError: Nothing that takes jobs is there, or it refuses the token.
    """
    is_open = answers_openly(address)
    if find_spec("aiohttp") is None:
        raise UsageError("Ray Jobs need ray[default] here", "pip install 'rarecall[jobs]'")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.ERROR)
    os.environ[VARIABLE] = address  # RAY_ADDRESS would go before what is named here
    try:
        return Jobs(address, is_open, JobSubmissionClient(address))
    except (OSError, RuntimeError, AuthenticationError) as error:
        raise _failed(address, error) from None


def answers_openly(address: str) -> bool:
    """Whether who is there answers without a token; Ray's client would wait for ever for one that is silent.

    Args:
        address: As of `asked_address`.

    Raises:
        RunError: Nobody answers.
    """
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWERS_WITHIN_S):
            return True
    except HTTPError as error:
        if error.code in REFUSED:
            return False
        raise RunError(f"no Ray takes jobs at {address}: it answers {error.code}", _HINT) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "reason", None) or error
        raise RunError(f"no Ray takes jobs at {address}: {said}", _HINT) from None


def _failed(address: str, error: Exception) -> RunError:
    if isinstance(error, AuthenticationError):
        said = "it wants a token" if "required" in error.message else "it refuses this token"
        return RunError(f"no job for the Ray at {address}: {said}", _TOKEN)
    return RunError(f"the Ray at {address}: {error}", "`ray job list` asks it, too")
