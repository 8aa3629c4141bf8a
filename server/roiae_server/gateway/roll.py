"""Who speaks: which enrolled site made a fleet call, by the node signature that Flower puts into its headers.

The signature covers a time stamp alone, so it is good for a few minutes and for any call. TLS keeps it from others; the
roll takes each one once all the same.
"""

import binascii
import logging
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from roiae.errors import SetupError
from roiae.identity.keys import PublicKey
from roiae_server.enrolment.coordinator_folder import SITES, CoordinatorFolder
from roiae_server.enrolment.site_list import Enrolled

# Flower's own headers and tolerances; tests/test_flower_contract.py compares them.
PUBLIC_KEY, TIMESTAMP, SIGNATURE = b"flwr-public-key", b"flwr-timestamp", b"flwr-signature"
AHEAD, BEHIND = 5.0, 305.0  # seconds that a caller's clock may differ from ours
_STAMP = 64  # characters of a time stamp, twice what Flower's have; Python would read any number of decimals

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """An enrolled site that has shown to have its key."""

    name: str
    pem: bytes  # of the key: a site with a new key is another caller
    key: PublicKey = field(compare=False, repr=False)


def node_key(site: Enrolled) -> PublicKey:
    """The key by which an enrolled site's node proves itself."""
    return site.keys.node


class Roll:
    """The callers that are enrolled now.

    Args:
        folder: whose sites.json is read again whenever it has changed.
    """

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._folder = folder
        self._stamp = 0
        self._by_pem: dict[bytes, Caller] = {}
        self._taken: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()  # (key, time stamp) → monotonic seconds

    def refresh(self) -> None:
        """Look whether somebody was enrolled or removed; a file that cannot be used leaves everybody as they were."""
        try:
            stamp = (self._folder.path / SITES).stat().st_mtime_ns
            if stamp == self._stamp:
                return
            self._stamp = stamp
            keys = {name: node_key(site) for name, site in self._folder.sites.items()}
        except (OSError, SetupError) as error:
            log.warning("sites.json cannot be read (%s): who was enrolled stays so", type(error).__name__)
            return
        callers = [Caller(name, _pem(key), key) for name, key in keys.items()]
        self._by_pem = {caller.pem: caller for caller in callers}

    def __contains__(self, caller: Caller) -> bool:
        return caller.pem in self._by_pem

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
        """Who signed these headers, within the time that a signature is good for; None for everybody else."""
        self.refresh()
        said = _said(headers)
        try:
            caller = self._by_pem.get(b64decode(said[PUBLIC_KEY], validate=True))
            stamp, signature = said[TIMESTAMP], b64decode(said[SIGNATURE], validate=True)
            age = (datetime.now(UTC) - datetime.fromisoformat(stamp.decode("ascii"))).total_seconds()
        except (KeyError, ValueError, TypeError, OverflowError, binascii.Error):
            return None  # not a signature of Flower's; a time without a zone is none either
        if caller is None or not -AHEAD < age < BEHIND or len(stamp) > _STAMP:
            return None
        try:
            caller.key.verify(signature, stamp, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return None
        return caller

    def first_use(self, caller: Caller, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether this signature was not used before; it is used then."""
        now = time.monotonic()
        while self._taken and now - next(iter(self._taken.values())) > AHEAD + BEHIND:
            self._taken.popitem(last=False)
        used = (caller.pem, _said(headers)[TIMESTAMP])
        if used in self._taken:
            return False
        self._taken[used] = now
        return True


def _said(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Of a header that comes twice the first, which is what Flower reads."""
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in (PUBLIC_KEY, TIMESTAMP, SIGNATURE):
            said.setdefault(name, value)
    return said


def _pem(key: PublicKey) -> bytes:
    """As Flower puts it into a header."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
