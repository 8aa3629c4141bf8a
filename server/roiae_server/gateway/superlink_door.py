"""The gateway's way to the SuperLink: a client at its socket, and whether it answers at all."""

import logging
import time
from pathlib import Path

import httpx

from roiae_server.gateway.settings import Limits

_ASKED_SECONDS = 1.0  # between two questions whether the SuperLink is there, whoever wants to know

log = logging.getLogger(__name__)


def superlink_client(socket: Path, limits: Limits) -> httpx.AsyncClient:
    """A client whose calls all go to the SuperLink's socket, whatever proxy the environment names."""
    return httpx.AsyncClient(
        base_url="http://superlink",
        transport=httpx.AsyncHTTPTransport(
            uds=str(socket),
            # The SuperLink closes a connection that was idle for 5 s; one that is closed while we write costs a call.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=4.0),
        ),
        trust_env=False,
        timeout=httpx.Timeout(limits.upstream_seconds, connect=5.0),
    )


class SuperLinkDoor:
    """What is behind the gateway, and one log line each time that it stops or begins to answer."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._answers, self._asked = True, float("-inf")

    def note(self, failure: Exception | None) -> None:
        if self._answers and failure:
            name = type(failure).__name__
            log.warning("the SuperLink does not answer (%s): hospitals are told 503 and try again", name)
        elif failure is None and not self._answers:
            log.info("the SuperLink answers again")
        self._answers = failure is None

    async def answers(self) -> bool:
        """Whether it did a moment ago; strangers may want to know, and cannot have it asked more than once a second."""
        now = time.monotonic()
        if now - self._asked > _ASKED_SECONDS:
            self._asked = now
            try:
                await self.client.get("/health")
            except httpx.HTTPError as error:
                self.note(error)
            else:
                self.note(None)
        return self._answers
