"""A door between hospitals and the coordinator that fails as it is told: no answer at all, or a wrong one."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.faults.processes import await_that

CUT = 0  # the status of a door through which nothing passes


class Door:
    """An HTTPS proxy in front of the coordinator's port, with the coordinator's own certificate.

    `status` is what every call is answered with; None lets calls through, and `CUT` leaves them without an answer.
    `once` holds paths whose next call alone is answered with a status.
    """

    def __init__(self, coordinator: int, pki: Path) -> None:
        self.status: int | None = None
        self.once: dict[str, int] = {}
        self._pki = pki
        trust = ssl.create_default_context(cafile=pki / "ca.crt")
        self._upstream = httpx.Client(base_url=f"https://localhost:{coordinator}", verify=trust, timeout=60)

    @contextmanager
    def open(self, port: int) -> Iterator["Door"]:
        """Listen on a port, and let calls through."""
        config = uvicorn.Config(
            Starlette(routes=[Route("/{path:path}", self._handle, methods=["POST"])]),
            host="127.0.0.1",
            port=port,
            ssl_certfile=self._pki / "server.crt",
            ssl_keyfile=str(self._pki / "server.key"),
            log_level="error",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            await_that(lambda: server.started, 10, "the door is open")
            yield self
        finally:
            server.should_exit = True
            thread.join()
            self._upstream.close()

    async def _handle(self, request: Request) -> Response:
        body = await request.body()
        if self.status == CUT:
            while self.status == CUT and not await request.is_disconnected():
                await anyio.sleep(0.2)
            return Response(status_code=503)  # to who has not given up meanwhile
        status = self.once.pop(request.url.path, None) or self.status
        if status is not None:
            return Response(status_code=status)
        return await anyio.to_thread.run_sync(self._forward, request, body)

    def _forward(self, request: Request, body: bytes) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        try:
            reply = self._upstream.post(request.url.path, content=body, headers=headers)
        except httpx.HTTPError:
            return Response(status_code=503)
        return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type"))
