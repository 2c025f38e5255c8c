"""What is shipped beside the code: the launcher file, the wheel, the lock."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from places import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config
from wheels import build_wheel


def test_rays_own_validation_accepts_cluster_yaml() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    worker = config["available_node_types"]["gpu_worker"]
    assert worker["resources"]["GPU"] >= 1
    assert worker["min_workers"] < worker["max_workers"]


def test_every_package_folder_is_listed_for_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for root in ("rarecall", "search", "spaces", "trainables")
        for path in (ROOT / root).rglob("__init__.py")
    }
    assert found == set(listed)


def test_the_lock_names_versions_and_nothing_else() -> None:
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        name, _, version = line.partition("==")
        assert name, line
        assert version, line
        assert "/" not in line, line


@pytest.mark.slow
def test_a_built_wheel_installed_elsewhere_runs_check(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        assert "search/export/contents/templates/classifier.py" in packed.namelist()
        packed.extractall(site)
    study = tmp_path / "study.yaml"
    study.write_text((ROOT / "examples" / "digits.yaml").read_text())
    run = f"import sys; sys.path.insert(0, {str(site)!r}); from search.cli.main import main; import search;"
    run += f"assert search.__file__.startswith({str(site)!r}), search.__file__;"
    run += f"sys.exit(main(['check', {str(study)!r}]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", run], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout
