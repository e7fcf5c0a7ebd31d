"""Who may ask the server for what: this page, under a name of this machine, and only what it needs of Gradio."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api"
READING = ("GET", "HEAD")
NEEDED: dict[Sequence[str], re.Pattern[str]] = {
    READING: re.compile(
        rf"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static)/.*"
        rf"|{API}/(theme\.css|upload_progress|queue/data|heartbeat/\w+)"
    ),
    ("POST",): re.compile(rf"{API}/(upload|queue/join|cancel|reset)/?"),
}
"""what the page asks for; the rest of Gradio, which fetches, edits, records and lists, is not there"""
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+?)\.?(:\d{1,5})?", re.IGNORECASE)
MAX_QUESTION = 2**20
"""bytes of a request other than an upload: the longest is a stroke over all tokens"""


class Guard:
    """Refuses, before Gradio sees it, whatever is not a request of the page itself; an ASGI application.

    ``host``: what the page is served on; ``is_open``: other machines may connect. ``max_upload``: bytes of a request.
    """

    def __init__(self, app: ASGIApp, *, host: str, is_open: bool, max_upload: int) -> None:
        self.app, self.is_open, self.max_upload = app, is_open, max_upload
        machine = socket.gethostname().lower()
        self.names = {"localhost", host.strip("[]").lower()} | ({machine, f"{machine}.local"} if is_open else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with one line."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            if refusal := self._refusal(scope):
                await refusal(scope, receive, send)
            else:
                uploads = scope["path"].startswith(f"{API}/upload")
                most = self.max_upload if uploads else MAX_QUESTION
                await self.app(scope, _at_most(most, receive), send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if not self._is_ours(headers.getlist("host")):
            return _line(
                HTTPStatus.BAD_REQUEST, "this page is not served under that name; start it with --host and the name"
            )
        is_link = scope["method"] in READING and headers.get("sec-fetch-mode") == "navigate"
        if not is_link and not is_own(headers):
            return _line(HTTPStatus.FORBIDDEN, "a request of another page is refused; open this one itself")
        if not any(scope["method"] in methods and paths.fullmatch(scope["path"]) for methods, paths in NEEDED.items()):
            return _line(HTTPStatus.NOT_FOUND, "no part of this page")
        return None

    def _is_ours(self, hosts: list[str]) -> bool:
        """Whether a request was sent to this machine by a name that is its own.

        Any name elsewhere can be made to mean this machine, and then a page there passes for the same site; a number
        cannot.
        """
        found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return self.is_open or address.is_loopback or name in self.names


def is_own(headers: Headers) -> bool:
    """Whether a browser says that the request comes from the page itself; what is no browser says nothing."""
    origin = headers.get("origin")
    same = origin is None or origin.partition("://")[2].lower() == headers["host"].lower()
    return same and headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def _line(status: HTTPStatus, text: str) -> PlainTextResponse:
    return PlainTextResponse(text + "\n", status_code=status)


def _at_most(size: int, receive: Receive) -> Receive:
    """The same request, refused as soon as its body is longer."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > size:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {size:,} bytes")
        return message

    return counted
