"""The fields of a KubeRay `RayJob` that we write, as types: a misspelt one is an error here already.

Names are Kubernetes' own, in camel case. See the custom resource definition of KubeRay, `ray.io/v1`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from search.request.computing.launching import Toleration

LONGEST_NAME = 47  # KubeRay adds to it


class Part(BaseModel):
    """A part of a manifest; what is None or empty is left out of it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Metadata(Part):
    """What something is called."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=LONGEST_NAME)
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Named(Part):
    """A reference by name."""

    name: str


class Quantities(Part):
    """What a container has: both what it asks for and the most it gets."""

    limits: dict[str, str]
    requests: dict[str, str]


class Mount(Part):
    """A volume in a container."""

    name: str
    mount_path: str
    read_only: bool | None = None


class Variable(Part):
    """Of the environment."""

    name: str
    value: str


class FromSecret(Part):
    """Variables of a pod's environment, from a secret."""

    secret_ref: Named


class Container(Part):
    """Of a pod."""

    name: str
    image: str
    resources: Quantities
    env: tuple[Variable, ...] = ()
    env_from: tuple[FromSecret, ...] = ()
    volume_mounts: tuple[Mount, ...] = ()


class Claim(Part):
    """A volume claim."""

    claim_name: str


class Volume(Part):
    """A volume of a pod: a claim, or a config map."""

    name: str
    persistent_volume_claim: Claim | None = None
    config_map: Named | None = None


class PodSpec(Part):
    """A pod of Ray."""

    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...] = ()
    image_pull_secrets: tuple[Named, ...] = ()
    service_account_name: str | None = None
    restart_policy: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


class PodTemplate(Part):
    """Pods alike."""

    spec: PodSpec


class HeadGroup(Part):
    """The head's pod."""

    ray_start_params: dict[str, str]
    template: PodTemplate


class WorkerGroup(Part):
    """Pods that come and go with the runs."""

    group_name: str
    replicas: int = Field(ge=0)
    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=1)
    ray_start_params: dict[str, str]
    template: PodTemplate


class RayCluster(Part):
    """A Ray of the job's own."""

    enable_in_tree_autoscaling: bool
    head_group_spec: HeadGroup
    worker_group_specs: tuple[WorkerGroup, ...]


class RayJobSpec(Part):
    """What is run, and on what."""

    entrypoint: str
    shutdown_after_job_finishes: bool
    backoff_limit: int = Field(ge=0)
    submitter_pod_template: PodTemplate | None = None
    ray_cluster_spec: RayCluster


class RayJob(Part):
    """The manifest."""

    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayJob"] = "RayJob"
    metadata: Metadata
    spec: RayJobSpec


class ConfigMap(Part):
    """Small files that pods see."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["ConfigMap"] = "ConfigMap"
    metadata: Metadata
    data: dict[str, str]
