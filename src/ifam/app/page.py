"""The page as a whole: two tabs, fonts of the system, nothing from elsewhere."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils

from ifam.app.ask_tab import SESSION_SECONDS, AskTab, html
from ifam.app.pictures import swatch
from ifam.app.run_tab import RunTab
from ifam.app.uploads import Uploads
from ifam.app.view import heading_html
from ifam.data.table import ImageTable
from ifam.files import listed
from ifam.model.two_stage import IFAM
from ifam.model_card import title

STYLE = Path(__file__).with_name("page.css")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")


def build_page(
    model: IFAM,
    folder: Path,
    table: ImageTable | None,
    *,
    uploads: Uploads,
    device: str,
    working: AbstractContextManager[Any],
) -> Any:
    """A ``gradio.Blocks`` of a model in eval mode on its device; ``table`` has the classes of the model.

    ``uploads`` holds the photographs that were dropped, ``working`` is held by work that takes long.
    """
    # what a visitor names by an address, as any value of any component, gradio would fetch and keep
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    cleaning = (SESSION_SECONDS, SESSION_SECONDS)
    name = folder.resolve().name
    with gr.Blocks(title=f"ifam: {name}", analytics_enabled=False, delete_cache=cleaning) as page:
        html(heading_html(name, title(model), listed(model.class_names)))
        with gr.Tab("Ask"):
            AskTab(model, table, uploads, page)
        with gr.Tab("Run"):
            RunTab(model, folder, table, device=device, page=page, working=working)
    return page


def look(num_parts: int) -> dict[str, Any]:
    """Theme and style, as arguments of ``launch``."""
    font = [gr.themes.Font(name) for name in FONT]
    mono = [gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")]
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=font, font_mono=mono)
    swatches = [
        f"#parts label:nth-of-type({part + 1})::before {{ background: {swatch(part)}; }}" for part in range(num_parts)
    ]
    return {"theme": theme, "css": "\n".join([STYLE.read_text(encoding="utf-8"), *swatches])}


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise gr.Error("expected a file that was dropped here, got an address", print_exception=False)
