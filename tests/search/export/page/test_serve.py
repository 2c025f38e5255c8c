"""The page live: for whoever has its address, of a study as it stands now."""

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from in_process import Bench, config
from served_pages import TOKEN, served

from spaces.errors import RunError


def get(address: str, tag: str = "") -> tuple[int, str, str]:
    """Status, text, and its tag."""
    request = urllib.request.Request(address, headers={"If-None-Match": tag})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), ""


def test_only_who_has_the_token_sees_anything(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    with served(bench.folder.path) as address:
        for query in ("", "?token=", "?token=wrong", f"?token={TOKEN}x"):
            for page in ("", "data.json", "study/x/"):
                status, text, _ = get(f"{address}{page}{query}")
                assert (status, text) == (403, "the address lacks its token\n")
        assert get(f"{address}?token={TOKEN}")[0] == 200


def test_it_follows_the_study_and_sends_only_what_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 4, "sampler": "random"}))
    with served(bench.folder.path) as address:
        news = f"{address}data.json?token={TOKEN}"
        _, before, tag = get(news)
        assert json.loads(before)["trials"] == []
        assert get(news, tag)[0] == 304
        bench.run(at_most=5)  # three seeds of the baseline, two trials
        status, after, later = get(news, tag)
        assert (status, len(json.loads(after)["trials"])) == (200, 2)
        assert later != tag
        page = get(f"{address}?token={TOKEN}")[1]
        assert 'data-live="true"' in page


def test_a_folder_of_studies_is_listed_and_nothing_beside_it_is_served(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Bench(tmp_path / name, config())
        (tmp_path / name / "study").rename(tmp_path / f"study_{name}")
    inside = tmp_path / "study_one" / "trials" / "deeper"
    inside.mkdir(parents=True)
    (inside / "study.yaml").write_text("name: x\n")
    with served(tmp_path) as address:
        listed = get(f"{address}?token={TOKEN}")[1]
        for name in ("study_one", "study_two"):
            assert f'href="/study/{name}/?token={TOKEN}"' in listed
            assert json.loads(get(f"{address}study/{name}/data.json?token={TOKEN}")[1])["title"] == "toy"
        for name in ("nope", "..", "..%2fetc", "study_one%2ftrials%2fdeeper", "%2fetc", "."):
            assert get(f"{address}study/{name}/?token={TOKEN}")[0] == 404, name
        assert get(f"{address}study/study_one/study.db?token={TOKEN}")[0] == 404
        assert get(f"{address}data.json?token={TOKEN}")[0] == 404


def test_a_bad_study_is_one_line_of_the_list_and_listing_looks_at_no_pictures(tmp_path: Path) -> None:
    gathered = []
    for name in ("good", "bad"):
        Bench(tmp_path / name, config())
        (tmp_path / name / "study").rename(tmp_path / f"study_{name}")
    (tmp_path / "study_bad" / "study.db").write_bytes(b"no database" * 100)
    with served(tmp_path, lambda folder: gathered.append(folder) or {}) as address:
        status, listed, _ = get(f"{address}?token={TOKEN}")
        assert status == 200
        assert "study.db" in listed
        assert "The search is not finished." in listed
        assert gathered == []


def test_no_request_brings_it_down(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inside = tmp_path / "studies"
    inside.mkdir()
    Bench(tmp_path, config())
    with served(inside) as address:
        assert get(f"{address}study/{'a' * 300}/?token={TOKEN}")[0] == 404
        assert get(f"{address}study/%2e%2e/?token={TOKEN}")[0] == 404
        assert get(f"{address}study/%00/?token={TOKEN}")[0] == 404
        port = int(address.rstrip("/").rpartition(":")[2])
        for request in (b"GET http://[x/ HTTP/1.1\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(100)
        assert get(f"{address}?token={TOKEN}")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    (bench.folder.path / "study.db").write_bytes(b"no database" * 100)
    with served(bench.folder.path) as address:
        status, text, _ = get(f"{address}?token={TOKEN}")
    assert status == 503
    assert "study.db" in text


def test_what_the_record_does_not_hold_comes_later_and_its_failure_is_said(tmp_path: Path) -> None:
    bench = Bench(tmp_path, config())
    looked = threading.Event()

    def broken(folder):
        looked.set()
        raise RunError("predictions are damaged")

    with served(bench.folder.path, broken) as address:
        news = f"{address}data.json?token={TOKEN}"
        get(news)
        assert looked.wait(20)
        for _ in range(200):
            if (found := json.loads(get(news)[1])).get("data"):
                break
        assert found["data"]["notes"] == ["Not shown: predictions are damaged"]
