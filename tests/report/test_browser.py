"""The file as a reader sees it: opened from disk in a browser, with no network to reach."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ifam.data.table import ImageTable
from ifam.report import write_report
from report.conftest import Make

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1200, "height": 900}


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def file(make: Make, table: ImageTable, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    write_report(make(), table, path)
    return path


def test_the_page_needs_nothing_and_fits(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport=PHONE)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    for viewport in (PHONE, DESK):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    pictures = page.evaluate(
        "[...document.images].map(i => [i.alt, i.complete && i.naturalWidth > 0, i.src.startsWith('data:')])"
    )
    assert len(pictures) > 20
    assert all(alt.strip() and loaded and embedded for alt, loaded, embedded in pictures)
    links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert links
    assert all(link.startswith("#") and page.query_selector(link) for link in links)
    assert [heading.inner_text()[0] for heading in page.query_selector_all("h2")] == list("123456789")


def test_it_prints(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport=DESK)
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 between its margins, in pixels of CSS
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert not page.is_visible("nav")
    assert page.pdf(format="A4").startswith(b"%PDF")
