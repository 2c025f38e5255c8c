"""A study as a job of Ray: what it brings along, what its script does, and who does not take it."""

import shlex
import socket
import subprocess
import threading
import time
import tomllib
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from commands import study_file
from places import ROOT

from search.cli.main import main
from search.launching.client import answers_openly, asked_address, jobs_at
from search.launching.jobs import entrypoint, launch
from search.launching.package import package
from search.launching.wanted import Wanted
from search.request.reading import load_config
from spaces.errors import RunError, UsageError

TO_DO, NOTHING_TO_DO = '{"search_goes_on": true}', '{"search_goes_on": false}'


def wanted(folder: Path, runs: Path | None = None, **changes: object) -> Wanted:
    file = folder / study_file(folder, **changes)
    return Wanted(file, load_config(file), folder / "runs" if runs is None else runs)


def packed(asked: Wanted) -> dict[str, bytes]:
    with zipfile.ZipFile(package(asked)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_the_package_holds_the_study_and_what_begins_it(tmp_path: Path) -> None:
    asked = wanted(tmp_path)
    files = packed(asked)
    assert set(files) == {"study.yaml", "job.sh"}
    (tmp_path / "seen.yaml").write_bytes(files["study.yaml"])
    assert load_config(tmp_path / "seen.yaml") == asked.config


def test_a_wheel_is_unpacked_where_a_job_looks_for_modules(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rarecall-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("rarecall/__main__.py", "print()")
        wheel.writestr("rarecall-1.dist-info/METADATA", "Name: rarecall")
    files = packed(wanted(tmp_path, launch={"wheel": "rarecall-1-py3-none-any.whl"}))
    assert {"rarecall/__main__.py", "rarecall-1.dist-info/METADATA", "job.sh"} <= set(files)


@pytest.mark.parametrize("content", ["another", "text", None])
def test_what_is_no_wheel_of_rarecall_is_refused(tmp_path: Path, content: str | None) -> None:
    wheel = tmp_path / "some.whl"
    if content == "another":
        with zipfile.ZipFile(wheel, "w") as packed_wheel:
            packed_wheel.writestr("other/__init__.py", "")
    elif content is not None:
        wheel.write_text(content)
    asked = wanted(tmp_path, launch={"wheel": "some.whl"})
    with pytest.raises(UsageError, match=r"launch\.wheel"):
        package(asked)
    assert not [*tmp_path.glob("*zip*"), *tmp_path.glob(".*tmp")]


def test_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="study_db") as refused:
        package(wanted(tmp_path, study_db="postgresql://me:hush@db/x"))
    assert "hush" not in str(refused.value)
    assert not [*tmp_path.glob("*.zip")]


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        pytest.param(0, None, 0, id="found something"),
        pytest.param(1, NOTHING_TO_DO, 0, id="finished with nothing feasible"),
        pytest.param(1, TO_DO, 1, id="ended in the middle"),
        pytest.param(1, None, 1, id="no rarecall there"),
        pytest.param(2, None, 2, id="a wrong study"),
        pytest.param(3, TO_DO, 3, id="a failure"),
    ],
)
def test_the_job_fails_as_the_search_does(tmp_path: Path, code: int, status: str | None, told: int) -> None:
    asked = wanted(tmp_path, runs=tmp_path / "it's here")
    if status is not None:
        asked.folder.mkdir(parents=True)
        (asked.folder / "study.yaml").touch()
    done = run_job(asked, tmp_path, code, status)
    assert done.returncode == told
    said = ["-m", "rarecall", "search", "study.yaml", "--runs", str(asked.runs)]
    resumed = [] if status is None else ["--resume"]
    assert done.stdout.splitlines() == [*said, *resumed, "--address", "auto"]


def test_data_are_placed_once(tmp_path: Path) -> None:
    asked = wanted(tmp_path)
    brought = tmp_path / "job" / "data" / "1a2b"
    brought.mkdir(parents=True)
    (brought / "it's.png").write_text("a picture")
    assert run_job(asked, tmp_path, 0, None).returncode == 0
    place = asked.runs / "data" / "1a2b" / "it's.png"
    assert place.read_text() == "a picture"
    (brought / "it's.png").write_text("changed")
    assert run_job(asked, tmp_path, 0, None).returncode == 0
    assert place.read_text() == "a picture"
    assert [path.name for path in (asked.runs / "data").iterdir()] == ["1a2b"]


def test_a_full_or_forbidden_folder_of_studies_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    (tmp_path / "job" / "data" / "1a2b").mkdir(parents=True)
    done = run_job(wanted(tmp_path), tmp_path, 0, None)
    assert done.returncode == 1
    assert done.stdout == ""  # no search


def run_job(asked: Wanted, folder: Path, code: int, status: str | None) -> "subprocess.CompletedProcess[str]":
    """Run the job as its head does; a `python` that ends with `code` says what it is called with."""
    job = folder / "job"
    job.mkdir(exist_ok=True)
    (job / "job.sh").write_bytes(packed(asked)["job.sh"])
    (folder / "python").write_text(
        "#!/bin/sh\n"
        f'if [ "$3" = status ]; then printf "%s" {shlex.quote(status or "")}; exit {0 if status else 1}; fi\n'
        f'printf "%s\\n" "$@"\nexit {code}\n'
    )
    (folder / "python").chmod(0o755)
    env = {"PATH": f"{folder}:/bin:/usr/bin"}
    command = shlex.split(entrypoint(asked))
    return subprocess.run(command, cwd=job, env=env, capture_output=True, text=True, check=False)


def test_a_dry_run_says_what_would_be_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, runs = str(wanted(tmp_path).file), str(tmp_path / "runs")
    assert main(["launch", file, "--on", "jobs", "--dry-run", "--runs", runs, "--address", "head:1"]) == 0
    said = capsys.readouterr().out
    named = f"""--metadata-json '{{"rarecall_study": "{runs}/toy"}}'"""
    submit = f"to submit it: ray job submit --address http://head:1 --no-wait {named} --working-dir "
    assert (
        f"{submit}{tmp_path}/study.job.zip -- sh job.sh {runs} {runs}/toy search study.yaml --runs {runs}"
        in said
    )
    assert f"watch: rarecall status http://head:1{runs}/toy" in said


def test_runs_outside_of_what_nodes_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not in launch\.shared"):
        launch(wanted(tmp_path, launch={"shared": "/mnt/all"}), address=None, dry_run=True)


def test_an_address_is_of_jobs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(wanted(tmp_path).file)
    assert main(["launch", file, "--on", "slurm", "--address", "http://head:8265"]) == 2
    assert "only with --on jobs" in capsys.readouterr().err


def test_a_dashboard_is_reached_by_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert asked_address(None) == "http://127.0.0.1:8265"
    assert asked_address("head:8265/") == "http://head:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://proxy/ray")
    assert asked_address(None) == "https://proxy/ray"
    assert asked_address("http://head:1") == "http://head:1"
    with pytest.raises(UsageError, match="by HTTP"):
        asked_address("ray://head:10001")
    with pytest.raises(UsageError, match="password") as refused:
        asked_address("https://me:hush@head")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("listens", [True, False])
def test_an_address_where_nobody_answers_is_told_within_seconds(listens: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        began = time.monotonic()
        with pytest.raises(RunError, match="no Ray takes jobs at") as refused:
            jobs_at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 10
    assert "ray[default]" in refused.value.hint


class Answers(BaseHTTPRequestHandler):
    """Answers everything with one code."""

    def do_GET(self) -> None:
        self.send_response(self.server.code)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.mark.parametrize(
    ("code", "is_open"), [(200, True), (401, False), (403, False), (404, None), (500, None)]
)
def test_who_answers_says_whether_it_wants_a_token_or_is_no_ray(code: int, is_open: bool | None) -> None:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.code = code  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        if is_open is None:
            with pytest.raises(RunError, match=f"it answers {code}"):
                answers_openly(address)
        else:
            assert answers_openly(address) is is_open
        thread.join()


def test_the_extra_is_rays_own_in_the_version_that_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (tune,) = [one for one in project["dependencies"] if one.startswith("ray[")]
    assert project["optional-dependencies"]["jobs"] == [tune.replace("tune", "default")]
