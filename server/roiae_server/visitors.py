"""Bounds on what one client may ask of a server: how often, and how much at once."""

import ipaddress
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_REMEMBERED = 10_000  # clients; the one seen longest ago is forgotten first, and starts with a full bucket again
_SILENCE = 60.0  # seconds between two log lines about one client: a log must not fill a disk


def origin(address: str) -> str:
    """Who an address belongs to: itself, or its /64 in IPv6, of which anyone has 2⁶⁴ addresses."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def try_again() -> Response:
    """503 rather than 429 or 408, whatever the cause: a stock SuperNode goes deaf for good at those."""
    return Response(status_code=503, headers={"retry-after": "1", "connection": "close"})


@dataclass
class _Visitor:
    """A token bucket, and the requests that wait for an answer."""

    tokens: float
    filled: float  # monotonic seconds
    in_flight: int = 0
    told: float = float("-inf")  # monotonic seconds of the last log line about it

    def refusal(self, rate: float, burst: int, in_flight: int) -> str | None:
        """Why this request is one too many; takes a token where it is not."""
        now = time.monotonic()
        self.tokens = min(float(burst), self.tokens + (now - self.filled) * rate)
        self.filled = now
        if self.tokens < 1:
            return f"more than {rate:g} requests a second"
        if self.in_flight >= in_flight:
            return f"more than {in_flight} requests at once"
        self.tokens -= 1
        return None


class BoundVisitors:
    """ASGI middleware: a client beyond its rate, or with too many requests in flight, is told to come back.

    Args:
        rate: requests a second of one client, in the long run.
        burst: requests that a client may send at once after a silence.
        in_flight: unanswered requests of one client.
    """

    def __init__(self, app: ASGIApp, rate: float, burst: int, in_flight: int) -> None:
        self._app = app
        self._rate = rate
        self._burst = burst
        self._in_flight = in_flight
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = origin(scope["client"][0])
        visitor = self._visitor(name)
        refusal = visitor.refusal(self._rate, self._burst, self._in_flight)
        if refusal is not None:
            if time.monotonic() - visitor.told > _SILENCE:
                visitor.told = time.monotonic()
                log.warning("%s: %s; 503", name, refusal)
            await try_again()(scope, receive, send)
            return
        visitor.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            visitor.in_flight -= 1

    def _visitor(self, name: str) -> _Visitor:
        visitor = self._visitors.setdefault(name, _Visitor(float(self._burst), time.monotonic()))
        self._visitors.move_to_end(name)
        for oldest in list(islice(self._visitors, max(0, len(self._visitors) - _REMEMBERED))):
            if not self._visitors[oldest].in_flight:
                del self._visitors[oldest]
        return visitor
