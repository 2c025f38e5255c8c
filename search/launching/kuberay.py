"""A study as a `RayJob` of KubeRay: its manifest, with a Ray whose GPU workers come and go with the runs."""

import hashlib
import re
import shlex
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from search.cluster.room import AT_ONCE, MOST_AT_ONCE
from search.launching.manifest import (
    LONGEST_NAME,
    Claim,
    ConfigMap,
    Container,
    FromSecret,
    HeadGroup,
    Metadata,
    Mount,
    Named,
    PodSpec,
    PodTemplate,
    Quantities,
    RayCluster,
    RayJob,
    RayJobSpec,
    Variable,
    Volume,
    WorkerGroup,
)
from search.launching.wanted import Launched, Wanted, runs_held
from search.pipeline.opening import paths_of
from search.request.computing.launching import LaunchExtra
from search.request.computing.resources import AUTO
from search.request.config import StudyConfig
from spaces.errors import RunError, UsageError
from trainables.storage.address import Address

STUDY = "/etc/rarecall/study.yaml"  # in the head's container
HEAD = {"cpu": "2", "memory": "8Gi"}
MEMORY = "16Gi"  # of a worker, unless it is said
NOTHING_FOUND = 1  # see `search.cli.common`
PART, JOB, FILES = "app.kubernetes.io/component", "search", "study-file"  # a label, and what it says
# A job that is there is not to be taken for the one that is wanted, as `apply` would, even if it has ended.
PARTS = (("apply", FILES), ("create", JOB))
QUEUE = "kueue.x-k8s.io/queue-name"
RETRIES = 3  # with another Ray, which goes on with the study
ANSWERS_WITHIN_S = 60


def launch(wanted: Wanted, *, dry_run: bool) -> Launched:
    """Write the manifest, and submit it.

    Args:
        wanted: What is launched; its data and its runs lie in the claim, by the paths that pods see.
        dry_run: Do not submit it.

    Raises:
        UsageError: The study file lacks what Kubernetes has to know, or holds a password; there is a job of
            its name; or Kubernetes refuses the manifest.
        RunError: Kubernetes does not answer.
    """
    check(wanted)
    job, files = manifest(wanted)
    written = wanted.beside(".rayjob.yaml")
    plain = [one.model_dump(mode="json", by_alias=True) for one in (files, job)]
    written.write_text(yaml.safe_dump_all([_without_nothing(one) for one in plain], sort_keys=False))
    submit = [["kubectl", verb, "-l", f"{PART}={part}", "-f", str(written)] for verb, part in PARTS]
    name, space = job.metadata.name, job.metadata.namespace
    within = "" if space is None else f" --namespace {shlex.quote(space)}"
    if not dry_run:
        _check_new(name, within)
        for command in submit:
            _said(command)
    watch = [f"kubectl get rayjob {name} --watch{within}", f"kubectl logs --follow job/{name}{within}"]
    notes = [f"{wanted.folder} is a path in the pods: `rarecall status` reads it where the claim is mounted"]
    if isinstance(wanted.runs, Address):
        watch.append(f"rarecall status {shlex.quote(str(wanted.folder))}")
        extra, notes = wanted.config.launch.extra, []
        if extra.service_account is None and extra.secret is None:
            where = wanted.runs.place
            notes = [f"the pods need credentials for {where}: launch.extra.service_account or .secret"]
    typed = " && ".join(map(shlex.join, submit))
    return Launched(written, typed, None if dry_run else name, tuple(watch), tuple(notes))


def check(wanted: Wanted) -> None:
    """Whether the study file says what Kubernetes has to know.

    Raises:
        UsageError: With all that is wrong.
    """
    launch, extra, found = wanted.config.launch, wanted.config.launch.extra, []
    if extra.image is None:
        found.append("launch.extra.image: the image that holds rarecall is needed")
    if wanted.config.resources == AUTO and extra.queue is None:
        found.append("resources: auto needs a node that is there, and here they come with the runs")
    paths = paths_of(wanted.config)
    if isinstance(wanted.runs, Path):
        paths["--runs"] = str(wanted.runs)
    if paths and (extra.claim is None or launch.shared is None):
        found.append(
            "launch.extra.claim and launch.shared: a volume that all pods see, and where, are needed"
        )
    else:
        found += [
            f"{what}: {path} is not in launch.shared, {launch.shared}, so pods do not see it"
            for what, path in paths.items()
            if not PurePosixPath(path).is_relative_to(str(launch.shared))
        ]
    if wanted.config.kept() != wanted.config:
        found.append("study_db: with its password it would be readable by all who see the config map")
    if found:
        raise UsageError("\n".join(f"{wanted.file.name}: {one}" for one in found))


def manifest(wanted: Wanted) -> tuple[RayJob, ConfigMap]:
    """The job, and the study file that its head sees. Of a study that is checked."""
    config, extra = wanted.config, wanted.config.launch.extra
    name = name_of(config.name)
    labels = {PART: JOB} | ({} if extra.queue is None else {QUEUE: extra.queue})
    study = config.model_dump(mode="json")  # its paths are absolute
    return (
        RayJob(
            metadata=Metadata(name=name, namespace=extra.namespace, labels=labels),
            spec=RayJobSpec(
                entrypoint=entrypoint(wanted),
                shutdown_after_job_finishes=True,
                backoff_limit=RETRIES,
                submitter_pod_template=_submitter(extra),
                ray_cluster_spec=RayCluster(
                    # Kueue admits a job as a whole, and refuses one that grows.
                    enable_in_tree_autoscaling=extra.queue is None,
                    head_group_spec=_head(extra, config, name),
                    worker_group_specs=(_workers(extra, config),),
                ),
            ),
        ),
        ConfigMap(
            metadata=Metadata(name=name, namespace=extra.namespace, labels={PART: FILES}),
            data={"study.yaml": yaml.safe_dump(study, sort_keys=False)},
        ),
    )


def name_of(study: str) -> str:
    """A study's name as Kubernetes allows one; where it is another, no other study has it.

    Example:
        >>> name_of("cytology-2"), name_of("Cytology_2.run")
        ('rarecall-cytology-2', 'rarecall-cytology-2-run-60c02b2b')
    """
    whole = f"rarecall-{study}"
    allowed = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if allowed == whole and len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(study.encode()).hexdigest()[:8]
    return f"{allowed[: LONGEST_NAME - 9].strip('-')}-{digest}"


def entrypoint(wanted: Wanted) -> str:
    """What the job runs on its head: it goes on with a study that is there.

    A search that is finished without anything feasible ends with 1, and would be tried again; so does much
    that is no answer, and the study says which it is.
    """
    search = shlex.join([*wanted.search(STUDY), "--address", "auto"])
    status = f"rarecall status {shlex.quote(str(wanted.folder))}"
    there = f"[ -f {shlex.quote(f'{wanted.folder}/study.yaml')} ]"
    if isinstance(wanted.folder, Address):
        there = f"{status} >/dev/null 2>&1"
    finished = f"{status} --json | grep -q '\"search_goes_on\": false'"
    run = (
        f"if {there}; then {search} --resume; else {search}; fi; code=$?; "
        f"if [ $code -eq {NOTHING_FOUND} ] && {finished}; then exit 0; fi; exit $code"
    )
    return f"sh -c {shlex.quote(run)}"


def _head(extra: LaunchExtra, config: StudyConfig, name: str) -> HeadGroup:
    """It trains nothing, so that no run slows the driver."""
    study = Mount(name="study", mount_path=STUDY.rpartition("/")[0], read_only=True)
    pod = _pod("ray-head", extra, config, HEAD)
    container = pod.containers[0]
    of_head = {"volume_mounts": (*container.volume_mounts, study), "env": _grows(config)}
    with_study = pod.model_copy(
        update={
            "containers": (container.model_copy(update=of_head),),
            "volumes": (*pod.volumes, Volume(name="study", config_map=Named(name=name))),
        }
    )
    return HeadGroup(ray_start_params={"num-cpus": "0"}, template=PodTemplate(spec=with_study))


def _grows(config: StudyConfig) -> tuple[Variable, ...]:
    """What tells the driver how far its cluster grows; nothing where it has all from the start."""
    if config.launch.extra.queue is not None or config.resources == AUTO:
        return ()
    held, _ = runs_held(config, config.resources)
    return (Variable(name=AT_ONCE, value=str(min(held, MOST_AT_ONCE))),)


def _submitter(extra: LaunchExtra) -> PodTemplate | None:
    """The pod that submits the job on the head; KubeRay's own would not know the secret of the image."""
    if extra.pull_secret is None:
        return None
    assert extra.image is not None, "it is checked"
    has = Quantities(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "500m", "memory": "200Mi"})
    pod = PodSpec(
        containers=(Container(name="ray-job-submitter", image=extra.image, resources=has),),
        image_pull_secrets=(Named(name=extra.pull_secret),),
        restart_policy="Never",
    )
    return PodTemplate(spec=pod)


def _workers(extra: LaunchExtra, config: StudyConfig) -> WorkerGroup:
    launch = config.launch
    cpus, gpus = launch.cpus_and_gpus(config.resources)
    has = {"cpu": str(cpus), "memory": MEMORY if launch.memory is None else launch.memory}
    has |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    pod = _pod("ray-worker", extra, config, has).model_copy(
        update={"node_selector": dict(extra.node_selector), "tolerations": extra.tolerations}
    )
    least = 0 if extra.queue is None else launch.nodes
    return WorkerGroup(
        group_name="runs",
        replicas=least,
        min_replicas=least,
        max_replicas=launch.nodes,
        ray_start_params={},
        template=PodTemplate(spec=pod),
    )


def _pod(name: str, extra: LaunchExtra, config: StudyConfig, has: dict[str, str]) -> PodSpec:
    assert extra.image is not None, "it is checked"
    claim, shared = extra.claim, config.launch.shared
    mounted = claim is not None and shared is not None
    container = Container(
        name=name,
        image=extra.image,
        resources=Quantities(limits=has, requests=has),
        env_from=() if extra.secret is None else (FromSecret(secret_ref=Named(name=extra.secret)),),
        volume_mounts=(Mount(name="shared", mount_path=str(shared)),) if mounted else (),
    )
    return PodSpec(
        containers=(container,),
        volumes=(Volume(name="shared", persistent_volume_claim=Claim(claim_name=str(claim))),)
        if mounted
        else (),
        service_account_name=extra.service_account,
        image_pull_secrets=() if extra.pull_secret is None else (Named(name=extra.pull_secret),),
    )


def _without_nothing(value: Any) -> Any:
    """What stands in a manifest: no None and nothing empty, but for what is asked for by name."""
    if isinstance(value, dict):
        kept = {key: _without_nothing(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in (None, [], {}) or key == "rayStartParams"}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value


def _check_new(name: str, within: str) -> None:
    """Refuse to launch beside a job of the same name, whether it works on the study or has ended.

    Raises:
        UsageError: There is one.
        RunError: Kubernetes does not answer.
    """
    asked = f"kubectl get rayjob {name} --ignore-not-found -o name{within}"
    if _said(shlex.split(asked)):
        raise UsageError(
            f"there is a job {name} already",
            f"`kubectl get rayjob {name}{within}` shows whether it has ended; `kubectl delete rayjob {name}"
            f"{within}` deletes it, and a new one goes on with the study",
        )


def _said(command: list[str]) -> str:
    """What kubectl prints.

    Raises:
        UsageError: There is no kubectl here, or Kubernetes refuses.
        RunError: It does not answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_WITHIN_S, check=False)
    except FileNotFoundError:
        raise UsageError(
            "no kubectl here", "--dry-run writes the manifest, to be applied elsewhere"
        ) from None
    except subprocess.TimeoutExpired:
        raise RunError(f"Kubernetes does not answer within {ANSWERS_WITHIN_S} s") from None
    if done.returncode:
        raise UsageError(f"Kubernetes refuses it: {done.stderr.strip()}")
    return done.stdout.strip()
