"""The server of the page: one machine by default, small files, no telemetry, nothing left behind."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ifam.data.table import ImageTable
from ifam.errors import UsageError
from ifam.model.two_stage import IFAM

LOOPBACK = ("127.0.0.1", "localhost")
MAX_FILE_SIZE = "20mb"
SESSIONS = 50
"""photographs that are remembered at a time, one for each open page"""


def require_gradio() -> None:
    """An error of one line where gradio is not installed."""
    if find_spec("gradio") is None:
        raise UsageError("app: expected gradio for the page, got none; run pip install 'ifam[app]'")


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that is taken or that cannot be, before a model is loaded."""
    if not 0 < port < 65536:
        raise UsageError(f"port: expected 1 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{host}:{port}: expected an address to serve on, got: {reason}; try another --port") from None


@contextmanager
def serving(
    model: IFAM, folder: Path, table: ImageTable | None, *, host: str, port: int, device: str = "cpu"
) -> Iterator[str]:
    """The address of the page while the block runs; afterwards the server is gone, and so is what was uploaded."""
    with tempfile.TemporaryDirectory(prefix="ifam-app-") as uploads:
        os.environ |= {"GRADIO_TEMP_DIR": uploads, "GRADIO_ANALYTICS_ENABLED": "False"}
        from ifam.app.page import build_page, look

        working = threading.Lock()
        page = build_page(model, folder, table, device=device, working=working)
        page.queue(max_size=SESSIONS)
        try:
            page.launch(server_name=host, server_port=port, **_closed(host), **look(model.num_parts))
        except OSError as error:
            raise UsageError(f"{host}:{port}: expected a free port, got: {error}; try another --port") from None
        try:
            yield f"http://{host}:{port}"
        finally:
            page.close(verbose=False)
            with working:  # a thread of torch that is killed on its way would say so
                pass


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the block; either way what it opened is closed, and no photograph stays on the disk."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def wait() -> None:
    """For good."""
    threading.Event().wait()


def _closed(host: str) -> dict[str, Any]:
    """Arguments of ``launch`` that leave out whatever the page does not need."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # a page elsewhere whose name is made to mean 127.0.0.1 is refused
    hosts = list(LOOPBACK) if host in LOOPBACK else ["*"]
    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "share": False,
        "inbrowser": False,
        "footer_links": [],
        "max_file_size": MAX_FILE_SIZE,
        "state_session_capacity": SESSIONS,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "allowed_paths": [],
        "app_kwargs": {
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
            "middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        },
    }
