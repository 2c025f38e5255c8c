"""A study on a cluster that Ray's launcher starts: its files, and machines of one's own brought up."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from commands import study_file
from job_head import PYTHON
from job_head import WHY_NOT as NO_JOBS
from places import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config
from ssh_hosts import WHY_NOT as NO_HOSTS
from ssh_hosts import Hosts, ssh_hosts

from search.cli.main import main
from search.launching.up import _do, check_launcher_file, commands
from search.launching.wanted import Wanted
from search.request.reading import load_config
from spaces.errors import RunError, UsageError

ON_PREM = ROOT / "examples" / "clusters" / "onprem.yaml"
ALIVE = """import ray; ray.init("auto", logging_level="error"); print(*(
f"{node['NodeManagerAddress']} has {node['Resources'].get('CPU', 0):g} CPUs" for node in ray.nodes()))"""
FILES = [ROOT / "cluster.yaml", ON_PREM]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_launcher_files_are_as_ray_wants_them_and_install_from_the_lock(file: Path) -> None:
    prepared = prepare_config(yaml.safe_load(file.read_text()))
    validate_config(prepared)
    check_launcher_file(file, for_real=False)
    setup = " ".join(prepared["head_setup_commands"])
    assert "-c ~/rarecall/requirements.lock" in setup
    assert "rarecall[jobs]" in setup  # its head takes jobs


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_that_is_not_filled_in_starts_nothing(file: Path) -> None:
    with pytest.raises(UsageError, match=r"not filled in yet: .*YOUR-"):
        check_launcher_file(file, for_real=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "provider: who has", id="empty"),
        pytest.param("provider: aws", "provider: who has", id="no mapping"),
        pytest.param("provider: {type: local}", "head_ip and worker_ips", id="no machines"),
        pytest.param("provider: {type: awss}", "awss", id="no such provider"),
        pytest.param("provider: {type: aws}\nmax_wrokers: 2", "max_wrokers", id="misspelt"),
        pytest.param("provider: [", "not readable as yaml", id="no yaml"),
    ],
)
def test_a_file_that_ray_would_refuse_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "cluster.yaml").write_text(f"cluster_name: x\n{text}\n")
    with pytest.raises(UsageError, match=why):
        check_launcher_file(tmp_path / "cluster.yaml", for_real=True)


def test_no_such_launcher_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / study_file(tmp_path))
    assert main(["launch", file, "--on", "ray", "--cluster", str(tmp_path / "mine.yaml"), "--dry-run"]) == 2
    assert "--cluster names another" in capsys.readouterr().err


def test_the_job_that_the_head_submits_is_the_studys(tmp_path: Path) -> None:
    file = tmp_path / study_file(tmp_path)
    asked = Wanted(file, load_config(file), tmp_path / "it's here")
    up, bring, submit = commands(asked, Path("c.yaml"), Path("p.zip"), "a-job")
    assert up == ["ray", "up", "--yes", "--no-restart", "c.yaml"]
    assert bring == ["ray", "rsync-up", "c.yaml", "p.zip", "/tmp/a-job.zip"]
    (tmp_path / "ray").write_text('#!/bin/sh\necho "$RAY_AUTH_MODE"; printf "%s\\n" "$@"\n')
    (tmp_path / "ray").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/bin:/usr/bin", "HOME": str(tmp_path)}

    def said() -> list[str]:
        done = subprocess.run(["sh", "-c", submit[-1]], env=env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    mode, *arguments = said()
    assert mode == ""
    named = json.loads(arguments[arguments.index("--metadata-json") + 1])
    assert named == {"rarecall_study": str(asked.folder)}
    assert arguments[arguments.index("--") + 1 :] == [
        *(
            "sh",
            "job.sh",
            str(asked.runs),
            str(asked.folder),
            "search",
            "study.yaml",
            "--runs",
            str(asked.runs),
        ),
    ]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    assert said()[0] == "token"


def test_what_rays_commands_say_is_passed_on_as_it_comes() -> None:
    said: list[tuple[float, str]] = []
    with pytest.raises(RunError, match="`ray upp` fails:") as raised:
        _do(["ray", "upp"], 60, lambda line: said.append((time.monotonic(), line)))
    assert said[0][1] == "ray upp …"
    assert any("No such command 'upp'" in line for _, line in said[1:])
    assert "No such command 'upp'" in str(raised.value)


def test_a_command_of_rays_that_takes_too_long_is_ended() -> None:
    slow = ["ray", "start", "--address", "127.0.0.1:9", "--block"]
    began = time.monotonic()
    with pytest.raises(RunError, match="`ray start` is not done after 1 s"):
        _do(slow, 1, lambda line: None)
    assert time.monotonic() - began < 30


def environment_for_all(folder: Path) -> Path:
    """A Python that has rarecall and `ray[default]`: that of `RARECALL_JOBS_PYTHON`, and these sources."""
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(folder)], check=True)
    script = "import json, sys; print(json.dumps([path for path in sys.path if path.endswith('packages')]))"
    packages = json.loads(subprocess.run([PYTHON, "-c", script], capture_output=True, check=True).stdout)
    (site,) = folder.glob("lib/*/site-packages")
    (site / "all.pth").write_text("\n".join([*packages, str(ROOT)]) + "\n")
    for name, module in {"ray": "ray.scripts.scripts", "rarecall": "rarecall.command"}.items():
        text = f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def filled_in(hosts: Hosts, everything: Path) -> Path:
    """The shipped file, for these hosts; each worker makes one run at a time."""
    head, *workers = hosts.addresses
    changes = {
        "YOUR-HEAD": head,
        "[YOUR-WORKER-1, YOUR-WORKER-2]": f"[{', '.join(workers)}]",
        "YOUR-USER": "root",
        "~/.ssh/id_ed25519": str(hosts.key),
        "/mnt/rarecall": str(everything),
        "~/rarecall: .": f"~/rarecall: {ROOT / 'examples'}",  # that is installed already
        "ray start --address": "ray start --num-cpus=1 --object-store-memory=100000000 --address",
        "ray start --head": "ray start --object-store-memory=100000000 --head",
    }
    text = ON_PREM.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file = everything / "cluster.yaml"
    file.write_text(text)
    return file


@pytest.mark.cluster
@pytest.mark.skipif(bool(NO_JOBS or NO_HOSTS), reason=NO_JOBS or NO_HOSTS)
@pytest.mark.timeout(900)
def test_machines_of_ones_own_come_up_and_a_study_runs_there(tmp_path: Path) -> None:
    everything = tmp_path / "all"
    everything.mkdir()
    bin_ = environment_for_all(everything / "env") / "bin"
    slow = {"model": "toy:sleep=1", "steps": 40, "eval_every": 10}
    study_file(everything, train=slow, search={"trials": 4, "sampler": "random"}, resources={"cpu": 1})
    (tmp_path / "home").mkdir()
    used = {"HOME": str(tmp_path / "home"), "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": ""}
    with ssh_hosts(tmp_path / "hosts", 3) as hosts:
        file = filled_in(hosts, everything)

        def typed(*command: str, within_s: float = 120) -> str:
            done = hosts.typed(*command, at=everything, environment=used, within_s=within_s)
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{command}: {done.returncode}\n{said[-6000:]}"
            return done.stdout

        def wait_for(words: Sequence[str], *command: str) -> str:
            until = time.monotonic() + 300
            while not all(word in (said := typed("ray", "exec", str(file), *command)) for word in words):
                assert time.monotonic() < until, said
                time.sleep(5)
            return said

        launch = ["rarecall", "launch", "study.yaml", "--on", "ray", "--cluster", str(file), "--runs", "runs"]
        assert "submitted: rarecall-toy-" in typed(*launch, within_s=400)
        status = f"rarecall status --json {everything}/runs/toy || true"
        wait_for(['"complete": 4'], status)
        nodes = f"readlink /tmp/ray/session_latest; python -c {shlex.quote(ALIVE)}"
        said = wait_for([f"{address} has" for address in hosts.addresses], nodes)
        assert f"{hosts.addresses[0]} has 0 CPUs" in said  # so the study has run on the others
        (session,) = re.findall(r"session_[-_0-9]+", said)

        more = {"trials": 5, "sampler": "random"}
        study_file(everything, train=slow, search=more, resources={"cpu": 1})
        typed(*launch)
        wait_for(['"complete": 5'], status)
        assert session in typed("ray", "exec", str(file), nodes), "its Ray was started anew"
