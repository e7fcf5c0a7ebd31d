"""The documentation builds without a warning, and its pages fetch nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from importlib.util import find_spec
from os import environ
from pathlib import Path

import pytest
from test_layers import LAYERS

ROOT = Path(__file__).parents[1]
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""what a browser fetches by itself; a link is followed by people"""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_mkdocs = pytest.mark.skipif(
    not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))), reason="needs the extra docs"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by another process: plugins keep state, and warn of what is not ours."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """Addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address and dict(attrs).get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(address)


@needs_mkdocs
def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        assert [address for address in parser.addresses if re.match(r"(https?:)?//", address)] == [], page


@needs_mkdocs
def test_style_sheets_fetch_nothing_from_elsewhere(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", sheet.read_text(encoding="utf-8")), sheet


@needs_mkdocs
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize("width", [1300, 390], ids=["desktop", "telephone"])
def test_the_search_finds_pages_that_are_opened_from_disk(site: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.goto((site / "reference/model.html").as_uri())
        page.locator("label[for=__search]:visible, .md-search__input:visible").first.click()
        page.locator(".md-search__input").press_sequentially("worst group")
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url(re.compile(rf"^{re.escape(site.as_uri())}/.*\.html"))
        assert "worst group" in page.inner_text("main").lower()
        assert said == []
        browser.close()


@needs_mkdocs
def test_nothing_that_the_theme_would_load_from_a_cdn(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text, f"{page}: the theme loads mermaid from a CDN"
        assert 'data-md-component="source"' not in text, f"{page}: the theme asks the repository's host for facts"


def test_the_figure_of_the_layers_is_of_today() -> None:
    texts = ElementTree.parse(ROOT / "docs/layers.svg").iter("{http://www.w3.org/2000/svg}text")
    words = re.findall(r"\w+", " ".join(text for element in texts for text in element.itertext()))
    assert sorted(words) == sorted(name for layer in LAYERS for name in layer), "run scripts/draw_docs.py"
