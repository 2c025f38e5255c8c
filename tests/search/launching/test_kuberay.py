"""A study as a RayJob: what its manifest says, and what is refused before one is written."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import study_file

from search.cli.main import main
from search.launching.kuberay import entrypoint, launch, name_of
from search.launching.manifest import Metadata
from search.launching.wanted import Wanted
from search.request.reading import load_config
from spaces.errors import UsageError

EXTRA = {
    "image": "lab/rarecall:1",
    "pull_secret": "lab-registry",
    "namespace": "vision",
    "claim": "studies",
    "node_selector": {"gpu": "a100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
}


def wanted(folder: Path, runs: str = "/mnt/all/runs", **changes: object) -> Wanted:
    launching = {"nodes": 4, "shared": "/mnt/all", "extra": EXTRA}
    file = folder / study_file(folder, **({"launch": launching} | changes))
    return Wanted(file, load_config(file), Path(runs))


def written(asked: Wanted) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config map and the job."""
    files, job = yaml.safe_load_all(launch(asked, dry_run=True).written.read_text())
    return files, job


def test_gpu_workers_come_and_go_and_stand_where_they_may(tmp_path: Path) -> None:
    files, job = written(wanted(tmp_path, resources={"cpu": 4, "gpu": 0.5}))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    labels = {"app.kubernetes.io/component": "search"}
    assert job["metadata"] == {"name": "rarecall-toy", "namespace": "vision", "labels": labels}
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (0, 0, 4)
    assert group["rayStartParams"] == {}
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/mnt/all"}]
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "studies"}}]
    assert pod["imagePullSecrets"] == [{"name": "lab-registry"}]
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    submitter = job["spec"]["submitterPodTemplate"]["spec"]
    assert submitter["imagePullSecrets"] == [{"name": "lab-registry"}]
    assert submitter["restartPolicy"] == "Never"
    assert "command" not in submitter["containers"][0]  # which KubeRay fills in
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert "nodeSelector" not in head["template"]["spec"]
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]
    labels = {"app.kubernetes.io/component": "study-file"}
    assert files["metadata"] == job["metadata"] | {"labels": labels}


def test_the_study_that_the_head_sees_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    asked = wanted(tmp_path)
    files, _ = written(asked)
    (tmp_path / "seen.yaml").write_text(files["data"]["study.yaml"])
    assert load_config(tmp_path / "seen.yaml") == asked.config


@pytest.mark.parametrize(
    ("launching", "held"),
    [
        pytest.param({"nodes": 4}, "4", id="a run on each node"),
        pytest.param({"nodes": 4, "cpus": 8, "gpus": 2}, "16", id="as many as a node holds"),
        pytest.param({"nodes": 300}, "200", id="no more than Ray lets wait"),
    ],
)
def test_the_driver_is_told_how_many_runs_its_cluster_holds(
    tmp_path: Path, launching: dict[str, int], held: str
) -> None:
    launch = {"shared": "/mnt/all", "extra": EXTRA} | launching
    _, job = written(wanted(tmp_path, launch=launch, resources={"cpu": 2, "gpu": 0.5}))
    cluster = job["spec"]["rayClusterSpec"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert head["env"] == [{"name": "RARECALL_RUNS_AT_ONCE", "value": held}]


def test_auto_needs_nodes_that_are_there(tmp_path: Path) -> None:
    launching = {"nodes": 4, "cpus": 8, "gpus": 1, "shared": "/mnt/all", "extra": EXTRA}
    with pytest.raises(UsageError, match="resources: auto needs a node that is there"):
        launch(wanted(tmp_path, resources="auto", launch=launching), dry_run=True)
    queued = launching | {"extra": EXTRA | {"queue": "gpus"}}
    written(wanted(tmp_path, resources="auto", launch=queued))


def test_kueue_has_a_job_that_does_not_grow(tmp_path: Path) -> None:
    queued = {"nodes": 4, "shared": "/mnt/all", "extra": EXTRA | {"queue": "gpus"}}
    _, job = written(wanted(tmp_path, launch=queued))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is False
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] == 4
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert "env" not in head


@pytest.mark.parametrize(
    ("code", "goes_on", "told"),
    [
        pytest.param(0, "false", 0, id="found something"),
        pytest.param(1, "false", 0, id="finished with nothing feasible"),
        pytest.param(1, "true", 1, id="ended in the middle"),
        pytest.param(1, None, 1, id="nothing has run"),
        pytest.param(2, "true", 2, id="a wrong study"),
        pytest.param(3, "true", 3, id="a failure"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_the_job_resumes_what_is_there_and_fails_as_the_search_does(
    tmp_path: Path, code: int, goes_on: str | None, told: int, there: bool
) -> None:
    asked = wanted(tmp_path, runs=str(tmp_path / "it's here"))
    if there:
        asked.folder.mkdir(parents=True)
        (asked.folder / "study.yaml").touch()
    says = "exit 2" if goes_on is None else f"""echo '  "search_goes_on": {goes_on},'; exit 0"""
    (tmp_path / "rarecall").write_text(
        f'#!/bin/sh\nif [ "$1" = status ]; then {says}; fi\nprintf "%s\\n" "$@"\nexit {code}\n'
    )
    (tmp_path / "rarecall").chmod(0o755)
    done = subprocess.run(
        shlex.split(entrypoint(asked)),
        env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == told
    said = ["search", "/etc/rarecall/study.yaml", "--runs", str(asked.runs), "--address", "auto"]
    assert done.stdout.splitlines() == said + (["--resume"] if there else [])


def test_what_pods_would_not_see_is_refused_all_at_once(tmp_path: Path) -> None:
    launching = {"shared": "/mnt/all", "extra": {"claim": "studies"}}
    asked = wanted(tmp_path, runs="/home/me/runs", launch=launching, study_db="postgresql://me:hush@db/x")
    with pytest.raises(UsageError) as refused:
        launch(asked, dry_run=True)
    assert "launch.extra.image" in str(refused.value)
    assert "--runs: /home/me/runs is not in launch.shared, /mnt/all" in str(refused.value)
    assert "study_db" in str(refused.value)
    assert "hush" not in str(refused.value)
    assert not asked.beside(".rayjob.yaml").exists()


def test_the_command_says_what_would_be_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(wanted(tmp_path).file)
    assert main(["launch", file, "--on", "kuberay", "--dry-run", "--runs", "/mnt/all/runs"]) == 0
    said = capsys.readouterr().out
    label, file = "app.kubernetes.io/component", f"{tmp_path}/study.rayjob.yaml"
    apply, create = f"apply -l {label}=study-file -f {file}", f"create -l {label}=search -f {file}"
    assert f"to submit it: kubectl {apply} && kubectl {create}" in said
    assert "watch: kubectl get rayjob rarecall-toy --watch --namespace vision" in said


def kubectl(folder: Path, there: str, code: int = 0) -> str:
    """A `kubectl` that knows such a job, and a `PATH` with it alone; it writes down what it is asked."""
    (folder / "kubectl").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{folder}/asked\n[ "$1" != get ] || {{ echo {there}; exit 0; }}\n'
        f"echo refused >&2; exit {code}\n"
    )
    (folder / "kubectl").chmod(0o755)
    return f"{folder}:/bin:/usr/bin"


def test_a_job_is_created_and_its_study_file_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", kubectl(tmp_path, there=""))
    assert launch(wanted(tmp_path), dry_run=False).job == "rarecall-toy"
    asked = [line.partition(" -f ")[0] for line in (tmp_path / "asked").read_text().splitlines()]
    assert asked == [
        "get rayjob rarecall-toy --ignore-not-found -o name --namespace vision",
        "apply -l app.kubernetes.io/component=study-file",
        "create -l app.kubernetes.io/component=search",
    ]


def test_beside_a_job_of_its_name_none_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", kubectl(tmp_path, there="rayjob.ray.io/rarecall-toy"))
    with pytest.raises(UsageError, match="there is a job rarecall-toy already") as refused:
        launch(wanted(tmp_path), dry_run=False)
    assert "`kubectl delete rayjob rarecall-toy --namespace vision`" in refused.value.hint
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_what_kubernetes_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", kubectl(tmp_path, there="", code=1))
    with pytest.raises(UsageError, match="Kubernetes refuses it: refused"):
        launch(wanted(tmp_path), dry_run=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no kubectl here"):
        launch(wanted(tmp_path), dry_run=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("a_b", "a.b", id="other characters"),
        pytest.param("a_b", "a-b", id="one of them as it is"),
        pytest.param("Toy", "toy", id="capitals"),
        pytest.param(f"{'long-' * 9}1", f"{'long-' * 9}2", id="the end"),
        pytest.param("toy-", "toy", id="a dash"),
    ],
)
def test_two_studies_have_two_names(one: str, other: str) -> None:
    names = [Metadata(name=name_of(study)).name for study in (one, other)]
    assert names[0] != names[1]
