"""The page in a real browser: nothing is loaded, nothing overflows, pointer and keyboard work."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from in_process import Bench, Here, config
from playwright.sync_api import sync_playwright
from served_pages import TOKEN, served
from toy_experiments import SMALL, compared_here, confirmed_here, write_request

from search.export.page.html import write_page
from search.export.page.view import Asked, view
from search.pipeline.looking.knob_effects import knob_effects
from search.record.folder import StudyFolder
from spaces.strategy import PLAIN

pytestmark = pytest.mark.browser
TRIALS = 12
POINTS = "#front-plot [data-trial]"
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Searched, confirmed and compared."""
    root = tmp_path_factory.mktemp("toy")
    bench = Bench(root, config(search={"trials": TRIALS, "sampler": "random"}, confirm=SMALL))
    bench.run()
    confirmed_here(bench.folder.path)
    return bench.folder


@pytest.fixture(scope="module")
def page_file(study: StudyFolder) -> Path:
    """With a section of every kind."""
    trials = study.open().trials()
    images = [{"src": DOT, "alt": "before"}, {"src": DOT, "alt": "after"}]
    found = {"name": "found_now", "title": "Found now", "count": 1}
    missed = {"name": "still_missed", "title": "Still missed", "count": 0, "items": []}
    items = [{"images": images, "caption": "a/very/long/name" * 9}]
    curve = {"points": [[0.1, 1.0], [0.5, 0.8]], "at": [0.4, 0.9]}
    lines = [{"name": "rare", "lines": [curve, curve]}]
    more = {
        "data": {
            "heads": ["split", "images", "sources", "rare", "usual"],
            "rows": [["train", 10, 5, 2, 8]],
            "notes": ["warning: few"],
        },
        "effects": knob_effects(trials, study.config, PLAIN.knobs()),
        "classes": {"kind": "precision_recall", "note": "On val.", "lines": lines},
        "pictures": {"note": "Drawn.", "groups": [found | {"items": items}, missed]},
    }
    file = study.path / "report.html"
    write_page(view(study, Asked(study.path), more), file)
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = shutil.which("chromium")
    assert executable is not None, "apt-get install chromium"
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, address: str, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what its console complained of, and every request that left it."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    requests: list[str] = []
    page.on(
        "console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_selector("#front-plot")
    return page, complaints, [url for url in requests if not url.startswith("data:")]


def found_by_axe(page: Any) -> list[tuple[str, str]]:
    """What it complains of, but for what it calls minor, and where."""
    return [
        (found["id"], found["nodes"][0]["html"])
        for found in Axe().run(page).response["violations"]
        if found["impact"] != "minor"
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280, 1600])
def test_it_opens_from_a_disk_and_nobody_can_complain(
    width: int, scheme: str, browser: Any, page_file: Path
) -> None:
    address = page_file.as_uri()
    page, complaints, requests = opened(
        browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    assert complaints == []
    assert requests == [address]
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.locator(POINTS).count() == TRIALS
    for name in ("verdict", "pictures", "curves", "classes", "knobs", "data", "trials", "provenance"):
        assert page.locator(f"#{name}").count() == 1, name
    assert found_by_axe(page) == []
    page.close()


def test_two_tables_of_a_kind_have_two_names(browser: Any, study: StudyFolder, tmp_path: Path) -> None:
    rows = [[0.9, 0.1], [0.4, 0.6]]
    called = [{"name": name, "rows": rows} for name in ("baseline", "trial 3")]
    confusion = {"kind": "confusion", "note": "On val.", "names": ["rare", "usual"], "matrices": called}
    file = tmp_path / "page.html"
    write_page(view(study, Asked(study.path), {"classes": confusion}), file)
    page, _, _ = opened(browser, file.as_uri(), viewport={"width": 1280, "height": 900})
    assert page.locator("#classes table").count() == 2
    assert found_by_axe(page) == []
    page.close()


def test_pointer_and_keyboard_go_from_trial_to_trial(browser: Any, page_file: Path) -> None:
    page, complaints, _ = opened(browser, page_file.as_uri(), viewport={"width": 1280, "height": 900})
    marks = page.locator(POINTS)
    for i in (0, 5):
        number = marks.nth(i).get_attribute("data-trial")
        marks.nth(i).hover(force=True)
        assert page.locator("#details h3").inner_text().startswith(f"Trial {number} ")
    page.locator("#front-plot").focus()
    seen = set()
    for _ in range(TRIALS):
        page.keyboard.press("ArrowRight")
        seen.add(page.locator("#details h3").inner_text().split()[1])
        assert page.evaluate("document.activeElement.id") == "front-plot"
    assert len(seen) == TRIALS
    page.keyboard.press("Enter")  # holds it
    held = page.locator("#details h3").inner_text()
    for i in (0, 5):
        marks.nth(i).hover(force=True)
        assert page.locator("#details h3").inner_text() == held
    page.locator("#details a").click()
    row = page.locator('#trials tr[aria-selected="true"]')
    assert row.count() == 1
    assert row.is_visible()
    assert page.evaluate(
        "document.querySelector('#trials tr[aria-selected=true]').getBoundingClientRect().top < innerHeight"
    )
    page.locator("#trials button").first.click()
    first = page.locator("#trials button").first.inner_text()
    assert page.locator("#details h3").inner_text().startswith(f"Trial {first} ")
    assert complaints == []
    page.close()


def test_a_comparison_has_its_section_and_its_points(browser: Any, tmp_path: Path) -> None:
    write_request(tmp_path)
    compared_here(tmp_path, Here())
    folder = StudyFolder(tmp_path / "runs" / "toy")
    file = tmp_path / "page.html"
    write_page(view(folder, Asked(folder.path)), file)
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("#arms-chart svg")
    assert page.locator("#arms-chart svg").count() == len(folder.config.shown_metrics)
    assert complaints == []
    page.close()


def test_live_it_follows_the_search(browser: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, config(search={"trials": 6, "sampler": "random"}))
    bench.run(at_most=5)
    with served(bench.folder.path) as address:
        page, complaints, requests = opened(browser, f"{address}?token={TOKEN}")
        assert page.locator(POINTS).count() == 2
        bench.run()
        page.locator(POINTS).nth(5).wait_for(state="attached", timeout=20_000)
        assert all(url.startswith(address) for url in requests)
        assert complaints == []
        page.close()
