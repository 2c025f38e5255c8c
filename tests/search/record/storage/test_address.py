from pathlib import Path

import pytest
from pyarrow.fs import FileSystem

from search.cli.common import runs_path, study_path
from search.cli.main import main
from search.record.storage.address import mirrored, named
from spaces.errors import UsageError
from trainables.storage.address import parsed


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RARECALL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3:/bucket/x", "is not the address of a storage"),
        ("s3://", "is not the address of a storage"),
        ("file://host/x", "is not the address of a storage"),
        ("s4://bucket/x", "no kind of storage is called 's4'"),
        ("http://host/x", "no kind of storage is called 'http'"),
        ("s3://key:secret@bucket/x", "no password or key"),
        ("s3://bucket/x?endpoint_override=http://me:secret@host", "no password or key"),
        ("s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3Asecret%40host", "no password or key"),
        ("s3://bucket/x?access_key=1", "no password or key"),
    ],
)
def test_what_is_no_address_or_has_a_secret_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")) as refused:
        parsed(text)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("s3://bucket/set#2", "%23 in its place"),
        ("file:///mnt/my runs", "file:///mnt/my%20runs"),
        ("file:///mnt/läufe", "file:///mnt/l%C3%A4ufe"),
    ],
)
def test_what_pyarrow_would_not_take_as_it_is_written_is_refused_with_what_it_takes(
    text: str, hint: str
) -> None:
    with pytest.raises(UsageError, match="may be in the address of a storage") as refused:
        parsed(text)
    assert hint in refused.value.hint


def test_what_is_quoted_is_what_pyarrow_finds(tmp_path: Path) -> None:
    folder = tmp_path / "läufe #2"
    assert FileSystem.from_uri(str(parsed(folder.as_uri())))[1] == str(folder)


def test_a_mirror_is_known_by_the_address_that_it_mirrors() -> None:
    runs = "s3://bucket/runs?scheme=http&endpoint_override=localhost:9000"
    folder = runs_path(runs) / "toy"
    address = "s3://bucket/runs/toy?scheme=http&endpoint_override=localhost:9000"
    assert named(folder) == f"'{address}'"
    assert study_path(address) == study_path(address.replace("runs/", "runs//")) == folder
    assert runs_path("s3://bucket/other") != runs_path(runs)


def test_a_folder_is_no_mirror(tmp_path: Path) -> None:
    assert mirrored(tmp_path / "toy") is None
    assert runs_path("./runs") == Path("runs")


def test_a_misspelled_address_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["search", "study.yaml"], ["doctor"]):
        assert main([*command, "--runs", "s3:/bucket"]) == 2
        assert "storage" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
