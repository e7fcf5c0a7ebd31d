"""The page in a real browser; skipped where there is none."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ifam
from ifam.app.pictures import enlarged
from ifam.explanations.explanation import Explanation
from ifam.explanations.figures import overlay_mask
from ifam.model.two_stage import IFAM

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    # gradio counts its events with an option of pandas that goes
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
]


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page as it was loaded; ``said`` and ``asked`` hold the errors of its console and its requests."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else 0)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#parts")
        yield page
        browser.close()


def pictures(page: Any) -> list[Any]:
    uris = [image.get_attribute("src") for image in page.locator(".frame img").all()]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in uris]


def probabilities(page: Any, names: list[str]) -> list[float]:
    bars = page.locator("[data-probability]").all()
    found = {bar.get_attribute("data-class"): float(bar.get_attribute("data-probability")) for bar in bars}
    return [found[name] for name in names]


def after(page: Any, act: Callable[[], object]) -> None:
    """Do something, and wait until the page shows another picture of what stage 2 saw."""
    old = page.locator(".frame img").last.get_attribute("src") if page.locator(".frame img").count() else ""
    act()
    changed = "old => { const all = document.querySelectorAll('.frame img'); return all.length && all[2].src !== old }"
    page.wait_for_function(changed, arg=old)


def shows(page: Any, expected: Explanation, names: list[str]) -> bool:
    """Whether mask, picture, share and probabilities are those of the explanation."""
    assert np.array_equal(pictures(page)[2], overlay_mask(enlarged(expected.image), expected.pixels))
    assert probabilities(page, names) == pytest.approx(expected.probabilities, abs=1e-5)
    assert (f"{expected.kept:.1%} of the image" if expected.has_evidence else "no evidence") in page.inner_text(
        ".answer"
    )
    return True


def click_token(page: Any, action: str, cell: Any, grid: int = 4) -> None:
    frame = page.locator(f'.frame[data-action="{action}"]')
    box = frame.bounding_box()
    row, column = cell
    frame.click(position={"x": (column + 0.5) * box["width"] / grid, "y": (row + 0.5) * box["height"] / grid})


def test_the_page_does_what_python_does(page: Any, model: IFAM, photograph: Path) -> None:
    names = model.class_names
    whole = ifam.explain(model, photograph)
    part = int(whole.parts[whole.mask][0])
    token = np.argwhere(whole.parts == part)[0].tolist()

    after(page, lambda: page.set_input_files("input[type=file]", photograph))
    assert shows(page, whole, names)
    page.wait_for_selector("[data-value]")
    values = [float(bar.get_attribute("data-value")) for bar in page.locator("[data-value]").all()]
    assert values == pytest.approx(whole.shapley().values[:, whole.index], abs=1e-4)

    box = page.locator("#parts input").nth(part)
    after(page, lambda: click_token(page, "pick", token))
    assert shows(page, whole.without(parts=[part]), names)
    assert not box.is_checked()
    after(page, lambda: box.check())
    assert shows(page, whole, names)

    slider = page.locator("#threshold input[type=range]")
    after(page, lambda: (slider.focus(), page.keyboard.press("End")))
    assert shows(page, whole.without(token_quantile=0.5), names)
    assert "q = 0.5" in page.inner_text("#threshold")
    after(page, lambda: page.get_by_role("button", name="As the model chose").click())
    assert shows(page, whole, names)

    mask = whole.mask.copy()
    mask[0, 0] ^= True
    after(page, lambda: click_token(page, "paint", (0, 0)))
    assert shows(page, whole.with_mask(mask), names)

    for number in range(3):
        page.locator("#parts input").nth(number).uncheck()
    page.wait_for_selector(".frame .none")
    assert shows(page, whole.without(parts=[0, 1, 2]), names)
    after(page, lambda: page.locator(".examples button").first.click())
    assert page.locator("#parts input:checked").count() == 3
    assert photograph.name not in page.inner_text("body")

    assert all(image.get_attribute("alt") for image in page.locator("img").all())
    assert page.said == []
    outside = [url for url in page.asked if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:)", url)]
    assert outside == []


def test_it_fits_a_telephone(page: Any, photograph: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    after(page, lambda: page.set_input_files("input[type=file]", photograph))
    page.wait_for_selector("[data-value]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Run").click()
    page.get_by_role("button", name="Accuracy by group").click()
    page.wait_for_selector(".run .worst")
    page.get_by_role("button", name="Part gallery").click()
    page.wait_for_selector(".thumbnails img")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.said == []


def test_what_goes_wrong_is_one_line(page: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    page.set_input_files("input[type=file]", tmp_path / "text.png")
    toast = page.locator(".toast-body")
    toast.wait_for()
    assert "text.png: expected an image, got a file of unknown format" in toast.inner_text()
    assert str(tmp_path) not in toast.inner_text()


def test_no_answer_stands_beside_a_photograph_that_was_refused(page: Any, photograph: Path, tmp_path: Path) -> None:
    after(page, lambda: page.set_input_files("input[type=file]", photograph))
    page.wait_for_selector("[data-value]")
    page.locator("#parts input").first.uncheck()
    (tmp_path / "text.png").write_text("no image")
    page.get_by_label("Remove this file").or_(page.locator("button[aria-label='Clear']")).first.click()
    page.set_input_files("input[type=file]", tmp_path / "text.png")
    page.locator(".toast-body").wait_for()
    page.wait_for_function("() => !document.querySelector('.frame img')")
    assert page.locator("[data-probability], [data-value]").count() == 0
    assert "Drop a photograph" in page.inner_text("body")
    assert page.locator("#parts input:checked").count() == 3
    assert "text.png" not in page.locator("body").inner_text().replace(page.locator(".toast-body").inner_text(), "")
