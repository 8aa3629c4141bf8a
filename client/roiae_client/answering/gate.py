"""Which requests are looked at: those that the coordinator signed, for this site, for now, and that are new.

Nothing that a request says is believed before its signature is right. What is turned away here was perhaps sent by
somebody who is no party to the federation, so it leaves little behind: see `Doorbell`.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from roiae.errors import Reason, RefusalError
from roiae.identity.keys import PublicKey, fingerprint
from roiae.identity.request_key import RequestCertificate
from roiae.wire.contract import Arrays
from roiae.wire.envelope import Ask
from roiae.wire.signed_request import CLOCK_SECONDS, MAX_SECONDS, SignedAsk, content_bytes
from roiae_client.answering.ledger import KeySeen, Ledger

LINE_SECONDS = 600.0  # between two lines about requests that were turned away for one reason: at most 144 a day
MAX_UNSPENT = 10_000  # requests that spend no budget, one after the other: 4 MB of lines
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trusted:
    """Whose requests a site answers, from its kit."""

    federation: str
    ca: PublicKey
    request_key: RequestCertificate  # the ledger knows of a later one


class Gate:
    """
    Args:
        site: this site's name.
        ledger: knows which requests were answered, and the latest request key.
        clock: seconds since 1970.
    """

    def __init__(self, site: str, trusted: Trusted, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._site, self._trusted, self._ledger, self._clock = site, trusted, ledger, clock

    def check(self, kind: str, signed: SignedAsk, task_json: str, arrays: Arrays) -> None:
        """
        Raises:
            RefusalError: `bad-signature` where the federation's request key did not sign this, or signed it for another
                site; `expired`; `bad-request` for an impossible lifetime; `already-answered`.
        """
        self._check_certificate(signed.certificate)
        try:
            content = content_bytes(kind, task_json, arrays)
        except ValueError:  # a text that has no bytes
            raise RefusalError(Reason.BAD_REQUEST, "a text of the request is odd") from None
        if not signed.holds(content):
            raise RefusalError(Reason.BAD_SIGNATURE, "the federation's request key has not signed this request")
        self._accept(signed.certificate)
        if signed.ask.site != self._site:
            raise RefusalError(Reason.BAD_SIGNATURE, f"the request is for {signed.ask.site}, and this is {self._site}")
        self._check_time(signed.ask)
        if self._ledger.answered(signed.ask.request):
            raise RefusalError(Reason.ALREADY_ANSWERED, f"request {signed.ask.request} is in the ledger")

    def _check_certificate(self, certificate: RequestCertificate) -> None:
        trusted = self._trusted
        if not certificate.issued_by(trusted.ca, trusted.federation):
            raise RefusalError(Reason.BAD_SIGNATURE, f"{trusted.federation}'s CA did not certify the request's key")
        seen, given = self._latest, _seen(certificate)
        if given.number < seen.number or (given.number == seen.number and given != seen):
            raise RefusalError(
                Reason.BAD_SIGNATURE,
                f"the request is signed by request key {given.number}, {given.fingerprint}; this site has seen "
                f"{seen.number}, {seen.fingerprint}, and takes no other up to that number. If the coordinator was "
                "restored from a backup, they type `roiae-server renew DIR --request-key` until it says a number above "
                f"{seen.number}; if not, somebody uses an old key.",
            )

    def _accept(self, certificate: RequestCertificate) -> None:
        """A later key, of which a request was now seen that it signed, takes the place of the one before."""
        given = _seen(certificate)
        if given.number > self._latest.number:
            log.warning("requests are signed by request key %d from now on, %s", *given)
            self._ledger.accept_request_key(given)

    @property
    def _latest(self) -> KeySeen:
        kits = _seen(self._trusted.request_key)
        return max(self._ledger.request_key or kits, kits, key=lambda seen: seen.number)

    def _check_time(self, ask: Ask) -> None:
        lifetime, now = ask.expires - ask.issued, self._clock()
        if not 0 < lifetime <= MAX_SECONDS:
            raise RefusalError(Reason.BAD_REQUEST, f"the request is good for {lifetime} s; a day is the most")
        late, early = now - ask.expires, ask.issued - now
        if late > CLOCK_SECONDS or early > CLOCK_SECONDS:
            what = f"expired {late:.0f} s ago" if late > 0 else f"was signed {early:.0f} s in the future"
            raise RefusalError(
                Reason.EXPIRED,
                f"the request {what}, by this machine's clock. Compare both clocks: `roiae-client doctor` does. With "
                "clocks that agree, the request was held back on its way, or is sent once more.",
            )


class Doorbell:
    """Counts what was turned away, and says when it is time for a line about it in ledger and log.

    Whoever can reach the SuperLink may send as many forged or repeated requests as the network carries. A line for each
    would fill the disk, and a full disk keeps every answer back. So there is one at once, and one in ten minutes after
    it; the others are counted, and the next line of any kind has their number. It is so for each reason: forged
    requests do not hide that the coordinator's own are refused because a clock is off.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[Reason, float] = {}
        self._counted = 0

    def ring(self, reason: Reason) -> bool:
        """Whether this one gets a line; else it is counted."""
        now = self._clock()
        if now < self._next.get(reason, now):
            self._counted += 1
            return False
        self._next[reason] = now + LINE_SECONDS
        return True

    @property
    def counted(self) -> int:
        return self._counted

    def written(self, counted: int) -> None:
        """This many are in the ledger now."""
        self._counted -= counted


class Pace:
    """Refusals and handshakes spend no budget and have no end, and each has its line: after many they take a second.

    A coordinator that was broken into could fill the disk with them, and this process's memory of the lines, within
    weeks; so it is 40 MB a day at most.

    Args:
        most: that wait for nothing; one more after each second.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        most: int = MAX_UNSPENT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most, self._clock, self._sleep = most, clock, sleep
        self._left, self._counted = float(most), clock()

    def unspent(self) -> None:
        """Wait where there have been too many."""
        now = self._clock()
        self._left = min(self._most, self._left + now - self._counted) - 1
        self._counted = now
        if self._left < 0:
            self._sleep(1.0)


def _seen(certificate: RequestCertificate) -> KeySeen:
    return KeySeen(certificate.number, fingerprint(certificate.key))
