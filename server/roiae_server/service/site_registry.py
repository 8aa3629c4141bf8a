"""Who is enrolled, who is connected, and what each hospital's ledger said last: kept up while a run goes on."""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from roiae.errors import Reason
from roiae.files import write_json
from roiae.identity.keys import PublicKey, SiteKeys
from roiae.wire.envelope import NO_LINES, Ask, Envelope
from roiae.wire.signed_request import new_ask
from roiae_server.enrolment.coordinator_folder import LAST_CONTACT, SITES, CoordinatorFolder
from roiae_server.flower.superlink import Control, Node

log = logging.getLogger(__name__)
MAX_LIMITS = 64  # that are kept of a site
_LIMIT = re.compile(r"limits\.[a-z_.]{1,60}")
NODES_SECONDS = 0.4  # for which a list of nodes is good


@dataclass(frozen=True)
class LastContact:
    """What a hospital's signed replies said besides their answers."""

    keys: str = ""  # fingerprint of the site's keys then: a hospital enrolled anew starts afresh
    roiae: str = ""
    ledger_lines: int = 0  # of the longest ledger ever seen: a ledger that has grown shorter is not what it was
    ledger_head: str = NO_LINES
    time: float = 0.0  # of the latest, seconds since the epoch
    limits: dict[str, float] = field(default_factory=dict)  # as its latest handshake told them


def read_last_contacts(folder: Path) -> dict[str, LastContact]:
    path = folder / LAST_CONTACT
    return {site: LastContact(**said) for site, said in json.loads(path.read_bytes()).items()} if path.exists() else {}


class SiteRegistry:
    """The enrolled sites of one run.

    Args:
        folder: whose `sites.json` is read again whenever it has changed.
        control: where nodes are registered and let go.
        run: an id of the run, which every request and reply names.
    """

    def __init__(self, folder: CoordinatorFolder, control: Control, run: str) -> None:
        self._folder, self._control, self._run = folder, control, run
        self._heard = read_last_contacts(folder.path)
        self._keys: dict[str, SiteKeys] = {}
        self._pem: dict[str, bytes] = {}  # node keys as the SuperLink has them
        self._stamp = -1
        self._nodes: tuple[float, dict[str, Node]] = (0.0, {})
        self._lock = threading.RLock()
        self.refresh()

    def refresh(self) -> None:
        """Disclosures who was enrolled, and let go at once who was removed."""
        with self._lock:
            stamp = (self._folder.path / SITES).stat().st_mtime_ns
            if stamp == self._stamp:
                return
            self._keys = {name: site.keys for name, site in self._folder.sites.items()}
            self._pem = {name: _pem(keys.node) for name, keys in self._keys.items()}
            self._control.reconcile(self._pem)
            self._stamp, self._nodes = stamp, (0.0, {})

    def key(self, site: str) -> PublicKey | None:
        """That signs the site's replies; None for one that is not enrolled."""
        with self._lock:
            return self._keys[site].reply if site in self._keys else None

    def nodes(self) -> Mapping[str, Node]:
        """By site; who is registered, connected or not."""
        with self._lock:
            taken, nodes = self._nodes
            if time.monotonic() - taken > NODES_SECONDS:
                by_key = {node.key: node for node in self._control.nodes()}
                nodes = {site: by_key[key] for site, key in self._pem.items() if key in by_key}
                self._nodes = (time.monotonic(), nodes)
            return nodes

    def ask(self, site: str, request: str, seconds: float) -> Ask:
        """
        Args:
            seconds: for which the request is good.
        """
        said = self._said(site)
        return new_ask(site, self._run, request, seconds, said.ledger_lines, said.ledger_head)

    def heard(self, site: str, envelope: Envelope) -> None:
        """Keep what a signed reply says, and its ledger head, if it is an answer.

        A refusal moves no head: a ledger whose end was cut would grow past the missing line by its refusals alone.
        """
        with self._lock:
            before = self._said(site)
            lines, head = before.ledger_lines, before.ledger_head
            if not envelope.reason and envelope.ledger_lines > lines:
                lines, head = envelope.ledger_lines, envelope.ledger_head
            if envelope.ledger_lines < lines:
                log.warning("%s: its ledger has %d lines, and had %d before", site, envelope.ledger_lines, lines)
            self._keep(
                site, LastContact(before.keys, envelope.roiae, lines, head, round(time.time(), 3), before.limits)
            )
        if envelope.reason == Reason.WITHDRAWN:
            log.warning("%s has withdrawn from the federation and is removed", site)
            self._folder.remove_site(site)
            self.refresh()

    def greeted(self, site: str, told: Mapping[str, float]) -> None:
        """Keep which limits a site has told, as far as they are numbers of ours."""
        limits = {name: value for name, value in told.items() if _LIMIT.fullmatch(name) and math.isfinite(value)}
        with self._lock:
            self._keep(site, replace(self._said(site), limits=dict(list(limits.items())[:MAX_LIMITS])))

    def _keep(self, site: str, said: LastContact) -> None:
        self._heard[site] = said
        content = {name: asdict(one) for name, one in sorted(self._heard.items())}
        write_json(self._folder.path / LAST_CONTACT, content)

    def _said(self, site: str) -> LastContact:
        """What was heard since the site has its present keys."""
        said = self._heard.get(site, LastContact())
        now = self._keys[site].fingerprint if site in self._keys else ""
        return said if said.keys == now else LastContact(now)


def _pem(key: PublicKey) -> bytes:
    """As the SuperLink keeps keys."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
