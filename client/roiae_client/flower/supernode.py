"""Flower's SuperNode, made to end when it goes deaf, to say when it last heard from the coordinator, without a port.

Its worker loop ends at any answer of the coordinator that it does not expect, and its process lives on without it. Run
through here, the process ends too, and is started again by `service.py`.
"""

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import uvicorn
from flwr.supercore.retry import RetryInvoker, exponential, make_simple_http_retry_invoker
from flwr.supernode import fleet_http_connection
from flwr.supernode.cli import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from roiae_client.flower.command import DEAF, NOT_LET_IN

RETRY_SECONDS = 2  # at most, between two tries to reach the coordinator; Flower's own patience is 20
_FLOWERS_OWN = frozenset({401, 403, 502, 503, 504})  # answers that Flower ends at, ignores for good, or tries again


class _Heard(FleetHttpClient):
    """Touches a file at every answer that shows this node to be registered and connected.

    Flower drops a reply that cannot be sent, and lives on as if it had gone: the coordinator would wait for it until
    the deadline. A node that has lost a reply ends instead; the next one is sent the request again.

    A request whose run ends while it arrives is dropped by Flower as well, but for the task that was made of it: our
    executor would claim that, and wait for parts that never come. To Flower this is told as any other failure to
    receive, after which it takes the task back.
    """

    file: Path
    let_in = False

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._note(super().PullMessages(request))

    def SendNodeHeartbeat(self, request: Any) -> Any:  # noqa: N802
        return self._note(super().SendNodeHeartbeat(request))

    def PullObject(self, request: Any) -> Any:  # noqa: N802
        return _received(super().PullObject, request)

    def ConfirmMessageReceived(self, request: Any) -> Any:  # noqa: N802
        return _received(super().ConfirmMessageReceived, request)

    def PushMessages(self, request: Any) -> Any:  # noqa: N802
        return _sent(super().PushMessages, request)

    def PushObject(self, request: Any) -> Any:  # noqa: N802
        return _sent(super().PushObject, request)

    def _note(self, response: Any) -> Any:
        self.file.touch()
        _Heard.let_in = True
        return response


def _received(pull: Callable[[Any], Any], request: Any) -> Any:
    """
    Raises:
        InterruptedError: the run is over. Flower makes of the status itself what skips its own clearing up.
    """
    try:
        return pull(request)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.FORBIDDEN:
            raise InterruptedError("the run of this request is over") from error
        raise


def _sent(push: Callable[[Any], Any], request: Any) -> Any:
    """
    Raises:
        SystemExit: a part of a reply is refused, so that the reply is lost. Flower swallows all that is an Exception.
    """
    try:
        return push(request)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _FLOWERS_OWN:
            raise
        raise SystemExit(DEAF) from error


def _retries() -> RetryInvoker:
    retry = make_simple_http_retry_invoker()
    retry.wait_gen_factory = lambda: exponential(max_delay=RETRY_SECONDS)
    return retry


def _serve_at(socket: str) -> None:
    """Let the Runtime API listen at a unix socket: at a port of loopback, every user of this machine could call it."""
    command = importlib.import_module("flwr.supernode.cli.flower_supernode")
    command.uvicorn = SimpleNamespace(Config=partial(uvicorn.Config, uds=socket), Server=uvicorn.Server)  # type: ignore[attr-defined]


def main() -> None:
    """`python -m roiae_client.flower.supernode LAST_CONTACT SOCKET …`: the rest is flower-supernode's own."""
    _Heard.file = Path(sys.argv.pop(1))
    _serve_at(sys.argv.pop(1))
    fleet_http_connection.FleetHttpClient = _Heard  # type: ignore[attr-defined]
    fleet_http_connection.make_simple_http_retry_invoker = _retries  # type: ignore[attr-defined]
    try:
        flower_supernode()
    finally:
        os._exit(DEAF if _Heard.let_in else NOT_LET_IN)  # its Runtime API's thread would keep the process alive


if __name__ == "__main__":
    main()
