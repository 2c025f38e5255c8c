"""What is found out on a node, here on this machine."""

import socket
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
from ray import cloudpickle

from search.cluster.health import facts
from search.cluster.health.node import Facts


def test_this_machine_answers_in_the_words_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    found = Facts.model_validate(facts.examine(str(tmp_path), "mark", (), str(tmp_path), 0))
    assert found.versions["torch"] == metadata.version("torch")
    assert found.storage.sees
    assert (tmp_path / found.storage.left).read_text() == found.storage.left
    assert found.cache is not None
    assert found.cache.error == ""
    assert found.memory is not None
    assert 0 < found.memory.free <= found.memory.total


@pytest.mark.parametrize(
    ("group", "limit", "used", "idle"),
    [
        pytest.param("", "memory.max", "memory.current", "inactive_file", id="cgroup v2"),
        pytest.param(
            "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", id="cgroup v1"
        ),
    ],
)
def test_files_that_a_container_has_cached_are_no_memory_that_it_lacks(
    tmp_path: Path, group: str, limit: str, used: str, idle: str
) -> None:
    folder = tmp_path / "sys/fs/cgroup" / group
    folder.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  64 kB\nMemFree: 1 kB\nMemAvailable:  48 kB\n")
    for name, text in ((limit, "32768\n"), (used, "30000\n"), ("memory.stat", f"anon 5000\n{idle} 20000\n")):
        (folder / name).write_text(text)
    assert facts.free_memory(tmp_path) == {"total": 32768, "free": 22768}
    (folder / limit).write_text("max\n")
    assert facts.free_memory(tmp_path) == {"total": 64 * 1024, "free": 48 * 1024}


def test_its_functions_run_where_rarecall_is_not_installed() -> None:
    cloudpickle.register_pickle_by_value(facts)
    try:
        whole = cloudpickle.dumps(facts.versions)
    finally:
        cloudpickle.unregister_pickle_by_value(facts)
    bare = (
        "import pickle, sys;"
        "sys.modules.update(dict.fromkeys(['rarecall', 'search', 'spaces', 'trainables']));"
        "print(pickle.load(sys.stdin.buffer)()['ray'])"
    )
    done = subprocess.run([sys.executable, "-c", bare], input=whole, capture_output=True, check=False)
    assert done.stdout.decode().strip() == metadata.version("ray"), done.stderr.decode()
    plain = subprocess.run(
        [sys.executable, "-c", bare],
        input=cloudpickle.dumps(facts.versions),
        capture_output=True,
        check=False,
    )
    assert b"search" in plain.stderr  # as it would be else


def test_a_folder_is_never_made_by_a_node(tmp_path: Path) -> None:
    missing = tmp_path / "runs"
    assert facts.leave_mark(missing, "mark") == {"sees": False, "left": "", "error": ""}
    assert not missing.exists()


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0")],
)
def test_a_listener_is_found_with_its_address(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as heard:
        heard.bind((address, 0))
        port = heard.getsockname()[1]
        assert facts.listening([port]) == {}
        heard.listen()
        assert facts.listening([port]) == {port: [address]}


def test_a_token_that_others_can_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        token = Path(folder).resolve() / "auth_token"
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        assert facts.token_readable() == ""
        token.touch()
        token.chmod(0o644)
        assert facts.token_readable() == ""  # the folder is its owner's alone
        token.parent.chmod(0o755)
        assert facts.token_readable() == str(token)
        token.chmod(0o600)
        assert facts.token_readable() == ""
