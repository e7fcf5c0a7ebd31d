"""The server of the page: one machine by default, small files, no telemetry, nothing left behind."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ifam.app.address import is_open, listening, url
from ifam.app.uploads import MAX_SIZE, MIB, Uploads, private_folder
from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.model.two_stage import IFAM

SESSIONS = 50
"""photographs that are remembered at a time, one for each open page"""
STARTING_SECONDS, CLOSING_SECONDS = 120, 1
"""how long a busy machine may take to start, and how long answers under way may take when the page is closed"""


def require_gradio() -> None:
    """An error of one line where gradio is not installed."""
    if find_spec("gradio") is None:
        raise UsageError("app: expected gradio for the page, got none; run pip install 'ifam[app]'")


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that is taken or that cannot be, before a model is loaded."""
    listening(host, port).close()


@contextmanager
def serving(
    model: IFAM, folder: Path, table: ImageTable | None, *, host: str, port: int, device: str = "cpu"
) -> Iterator[str]:
    """The address of the page while the block runs; afterwards the server is gone, and so is what was uploaded."""
    with private_folder() as private:
        os.environ |= {"GRADIO_TEMP_DIR": str(private), "GRADIO_ANALYTICS_ENABLED": "False"}
        from ifam.app.page import build_page, look

        working, uploads = threading.Lock(), Uploads(private)
        page = build_page(model, folder, table, uploads=uploads, device=device, working=working)
        page.queue(max_size=SESSIONS)
        page.state_session_capacity = SESSIONS
        application = _application(page, uploads, host, look(model.num_parts))
        try:
            with listening(host, port) as bound, _running(application, bound, page):
                yield url(host, port)
        finally:
            with working:  # a thread of torch that is killed on its way would say so
                pass


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C, SIGTERM or a closed terminal ends the block; what it opened is closed, and no photograph stays."""
    stops = [signal.SIGTERM]
    # under nohup a closed terminal is to change nothing
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        stops.append(signal.SIGHUP)
    before = {stop: signal.signal(stop, signal.default_int_handler) for stop in stops}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def wait() -> None:
    """For good."""
    threading.Event().wait()


def _application(page: Any, uploads: Uploads, host: str, look: dict[str, Any]) -> Any:
    """The page behind its guard, as an ASGI application, without whatever of Gradio it does not need."""
    import gradio
    from fastapi import FastAPI

    from ifam.app.guard import Guard
    from ifam.app.receive import upload_routes

    closed: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    application = FastAPI(routes=upload_routes(uploads), **closed)
    gradio.mount_gradio_app(
        application,
        page,
        path="",
        app_kwargs=closed,
        footer_links=[],
        max_file_size=MAX_SIZE,
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        **look,
    )
    page.has_launched = True  # or gradio would copy any file of this machine that a visitor names
    page.app = getattr(application.routes[-1], "app")  # noqa: B009  what page.close() tells that it ends
    return Guard(application, host=host, is_open=is_open(host), max_upload=MAX_SIZE + MIB)


@contextmanager
def _running(application: Any, bound: socket.socket, page: Any) -> Iterator[None]:
    """Serve in a thread while the block runs."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        _wait_for(server, thread)
        yield
    finally:
        page.close(verbose=False)
        server.should_exit = True
        thread.join(STARTING_SECONDS)


def _wait_for(server: Any, thread: threading.Thread) -> None:
    """Until it answers, which is nobody's to ask over the network: a proxy would answer in its place."""
    ends = time.monotonic() + STARTING_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > ends:
            raise UsageError(f"app: expected a page within {STARTING_SECONDS} s, got none; start it again")
        time.sleep(0.01)
