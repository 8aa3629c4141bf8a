"""Bounds on what each caller, each stranger and all strangers together may ask: how often, how much, and at once."""

import ipaddress
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from roiae_server.gateway.roll import Caller
from roiae_server.gateway.settings import Limits

log = logging.getLogger(__name__)

_REMEMBERED = 10_000  # strangers; the one seen longest ago is forgotten first, and starts with a full bucket again
_RECONNECTS, _RECONNECT_SECONDS = 5, 5.0  # a node that connects anew is sent its request again, megabytes of it
_SILENCE = 60.0  # seconds between two log lines about one site: a log must not fill a disk


def origin(address: str) -> str:
    """Who an address belongs to: itself, or its /48 in IPv6, which is what one customer of a network is given."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 48), strict=False))
    return str(parsed)


@dataclass
class Bucket:
    """Tokens that come back with time. It may owe some: what a call costs is known when it is over."""

    rate: float  # tokens a second
    burst: float  # that it holds
    tokens: float = field(init=False)
    filled: float = field(init=False)  # monotonic seconds

    def __post_init__(self) -> None:
        self.tokens, self.filled = self.burst, time.monotonic()

    def left(self) -> float:
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        return self.tokens

    def take(self, tokens: float = 1.0) -> None:
        self.tokens -= tokens


@dataclass
class Account:
    """What one site has left of its requests and its bytes, and what it waits for."""

    name: str
    requests: Bucket
    volume: Bucket  # bytes, both ways
    activations: Bucket = field(default_factory=lambda: Bucket(1 / _RECONNECT_SECONDS, _RECONNECTS))
    in_flight: int = 0
    told: dict[str, float] = field(default_factory=dict)  # kind of log line → monotonic seconds of the last

    def refusal(self, limits: Limits) -> str | None:
        """Why this request is one too many; takes a token where it is not."""
        if self.requests.left() < 1:
            return f"more than {limits.rate:g} requests a second"
        if self.volume.left() < 0:
            return f"more than {self.volume.rate / 1e6:.1f} MB a second"
        if self.in_flight >= limits.in_flight:
            return f"more than {limits.in_flight} requests at once"
        self.requests.take()
        return None

    def may_connect(self) -> bool:
        """Whether its node may connect anew now."""
        allowed = self.activations.left() >= 1
        if allowed:
            self.activations.take()
        else:
            self.tell(f"connects anew more often than every {_RECONNECT_SECONDS:.0f} s", 503)
        return allowed

    def tell(self, what: str, number: int) -> None:
        """One line about this site in the log, a minute and a sentence: `what` is our own text, never the site's."""
        now = time.monotonic()
        if now - self.told.get(what, float("-inf")) > _SILENCE:
            self.told[what] = now
            log.warning("%s: %s; %d", self.name, what, number)


class RateLimits:
    """The accounts of all sites and strangers."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._sites: dict[bytes, Account] = {}
        self._strangers: OrderedDict[str, Bucket] = OrderedDict()
        self._all_strangers = Bucket(limits.strangers_rate, 5 * limits.strangers_rate)

    def account(self, caller: Caller, reply_bytes: int) -> Account:
        """Of a site; its bytes are counted by what a reply of the present run weighs."""
        account = self._sites.get(caller.pem)
        if account is None or account.volume.rate != reply_bytes:
            volume = Bucket(reply_bytes, self.limits.replies_ahead * reply_bytes)
            if account is None:
                requests = Bucket(self.limits.rate, self.limits.burst)
                account = self._sites[caller.pem] = Account(caller.name, requests, volume)
            account.volume = volume
        return account

    def admit_stranger(self, address: str) -> bool:
        """Whether a request that nobody enrolled has signed may have an answer."""
        who = origin(address)
        bucket = self._strangers.setdefault(who, Bucket(self.limits.stranger_rate, self.limits.stranger_burst))
        self._strangers.move_to_end(who)
        if len(self._strangers) > _REMEMBERED:
            self._strangers.popitem(last=False)
        if min(bucket.left(), self._all_strangers.left()) < 1:
            return False
        bucket.take()
        self._all_strangers.take()
        return True
