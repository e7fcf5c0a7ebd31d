"""The routes by which a photograph arrives, in place of Gradio's, which give files of the same bytes one path."""

import asyncio
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from ifam.app.guard import API
from ifam.app.uploads import MAX_SIZE, WAITING_SECONDS, Uploads


def upload_routes(uploads: Uploads) -> list[BaseRoute]:
    """For one photograph at a time, and for the bar that shows how it arrives."""

    async def upload(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("files")
            if not isinstance(file, UploadFile):
                raise HTTPException(HTTPStatus.BAD_REQUEST, "expected one photograph, named files")
            content = await file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_SIZE:,} bytes")
        try:
            path = await run_in_threadpool(uploads.add, file.filename or "", content)
        except OSError as error:
            raise HTTPException(
                HTTPStatus.INSUFFICIENT_STORAGE, f"no room for a photograph: {error.strerror}"
            ) from None
        asyncio.get_running_loop().call_later(WAITING_SECONDS, uploads.remove, path)
        return JSONResponse([str(path)])

    async def progress(request: Request) -> Response:
        return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    return [Route(f"{API}/upload", upload, methods=["POST"]), Route(f"{API}/upload_progress", progress)]
