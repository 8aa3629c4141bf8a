"""The gateway as the process that the coordinator starts, before a scripted SuperLink at a socket."""

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from roiae.process.service import free_port, socket_folder
from tests.server.gateway.node_calls import federation


class Door:
    """A running gateway, with alpha and beta enrolled."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder, self.sign = federation(folder, "alpha", "beta", host="127.0.0.1", port=self.port)
        self.trust = ssl.create_default_context(cafile=self.folder.ca_certificate)
        self.process: subprocess.Popen[str]

    def client(self, site: str = "alpha") -> httpx.Client:
        """A client that signs as this site's node."""
        base = f"https://127.0.0.1:{self.port}/v1/"
        return httpx.Client(base_url=base, verify=self.trust, trust_env=False, auth=self.sign[site], timeout=30)

    def post(self, operation: str, site: str | None = "alpha", **options: object) -> httpx.Response:
        with self.client(site or "alpha") as client:
            auth = client.auth if site else None
            return client.post(operation, auth=auth, **options)  # type: ignore[arg-type]

    def settings(self, upstream: Path, **limits: float) -> Path:
        """The file that it is started with."""
        path = self.folder.superlink / "gateway.json"
        settings = {
            "host": "127.0.0.1",
            "port": self.port,
            "folder": str(self.folder.path),
            "upstream": str(upstream),
            "limits": limits,
        }
        path.write_text(json.dumps(settings))
        return path

    @contextmanager
    def running(self, upstream: Path, **limits: float) -> Iterator["Door"]:
        command = [sys.executable, "-m", "roiae_server.gateway.app", str(self.settings(upstream, **limits))]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as self.process:
            assert self.process.stderr
            try:
                assert "listening on 127.0.0.1" in self.process.stderr.readline()
                yield self
            finally:
                self.process.kill()


async def _answer(request: Request) -> Response:
    """Gives a call's own bytes back; fails as the path asks."""
    body = await request.body()
    match request.path_params["operation"]:
        case "get-fab":  # promises ten bytes, gives three
            return StreamingResponse(iter([b"abc"]), headers={"content-length": "10"})
        case "get-run":
            return Response(status_code=500)
        case "pull-object":
            await anyio.sleep(60)
    return Response(body[::-1])


@contextmanager
def scripted_superlink() -> Iterator[Path]:
    """The socket of one that runs in a thread of this process."""
    with socket_folder() as sockets:
        routes = [
            Route("/health", lambda request: Response()),
            Route("/v1/fleet/{operation}", _answer, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            uds=str(sockets / "s"),
            log_level="critical",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        try:
            yield sockets / "s"
        finally:
            server.should_exit = True
            thread.join()
