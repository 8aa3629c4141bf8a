"""A door between hospitals and the coordinator that fails as it is told: no answer at all, or a wrong one."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.faults.processes import await_that


class Door:
    """An HTTPS proxy in front of the coordinator's port, with the coordinator's own certificate.

    `status` is what every call is answered with; None lets calls through, and 0 leaves them without an answer.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._upstream = httpx.Client()

    def answer(self, request: Request, body: bytes) -> Response:
        if self.status is not None:
            return Response(status_code=self.status)
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        try:
            reply = self._upstream.post(request.url.path, content=body, headers=headers)
        except httpx.HTTPError:
            return Response(status_code=503)
        return Response(reply.content, reply.status_code)

    @contextmanager
    def open(self, port: int, coordinator: int, pki: Path) -> Iterator["Door"]:
        """Listen on one port, and let calls through to the other."""
        trust = ssl.create_default_context(cafile=pki / "ca.crt")
        self._upstream = httpx.Client(base_url=f"https://localhost:{coordinator}", verify=trust, timeout=60)
        cut = threading.Event()

        async def handle(request: Request) -> Response:
            body = await request.body()
            if self.status == 0:
                await anyio.to_thread.run_sync(cut.wait, 20.0, abandon_on_cancel=True)
                return Response(status_code=503)
            return await anyio.to_thread.run_sync(self.answer, request, body)

        app = Starlette(routes=[Route("/{path:path}", handle, methods=["POST"])])
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            ssl_certfile=pki / "server.crt",
            ssl_keyfile=str(pki / "server.key"),
            log_level="error",
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            await_that(lambda: server.started, 10, "the door is open")
            yield self
        finally:
            cut.set()
            server.should_exit = True
            thread.join()
            self._upstream.close()
