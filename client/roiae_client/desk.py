"""The one function through which anything leaves a hospital.

What is asked is checked, its signature first, then done, written into the ledger, sealed, and only then handed over.
Whatever goes wrong, what leaves is a `Reason`; the text stays in this machine's log.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.contract import TASKS, Arrays, Reply, Request, TrainTask, parse_task
from roiae.envelope import IDENTIFY, ROIAE, Ask, Envelope, Greeting, seal
from roiae.errors import LedgerError, Reason, RefusalError
from roiae.kit import PROTOCOL
from roiae.signed_request import SignedAsk
from roiae.site import Site
from roiae.text import shown
from roiae.upload import packed_reply
from roiae_client.gate import Doorbell, Gate, Trusted
from roiae_client.ledger import Head, Ledger
from roiae_client.policy import check_data, check_task, clip_update
from roiae_client.site_config import SiteConfig

UNKNOWN = "unknown"  # stands in the ledger for a kind of request that is none
Answer = tuple[Envelope, bytes, Reply | None]  # with the signature of both
log = logging.getLogger(__name__)


class HospitalDesk:
    """Answers a coordinator's requests for one hospital, one at a time.

    Args:
        key: the site's own; seals every reply.
        trusted: whose requests are answered.
        open_site: the site at a model's image size in px; called when first needed, and its site is kept.
        withdrawn: whether the site has left the federation; then every request is refused.
    """

    def __init__(
        self,
        config: SiteConfig,
        key: ec.EllipticCurvePrivateKey,
        trusted: Trusted,
        ledger: Ledger,
        open_site: Callable[[int, SiteConfig], Site],
        withdrawn: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._key = key
        self._ledger = ledger
        self._open_site = open_site
        self._withdrawn = withdrawn
        self._threads = config.threads or torch.get_num_threads()
        self._sites: dict[int, Site] = {}
        self._turn = threading.Lock()
        self._gate, self._doorbell = Gate(config.name, trusted, ledger), Doorbell()

    def answer(self, kind: str, signed: SignedAsk, task_json: str, arrays: Arrays) -> Answer:
        """The envelope, its signature, and the reply where there is one.

        A line that cannot be written takes the reply with it: what leaves then is `site-failed` and the last good head.
        """
        with self._turn:
            ask = signed.ask
            try:
                self._gate.check(kind, signed, task_json, arrays)
                claimed = self._unknown_head(ask)
            except RefusalError as refusal:
                return self._sealed(kind, ask, refusal.reason, None, self._turned_away(kind, refusal))
            except (OSError, LedgerError):
                log.exception("what a request brings could not be written down, so it is not answered")
                return self._sealed(kind, ask, Reason.SITE_FAILED, None, self._ledger.head)
            reason, reply = self._outcome(kind, claimed, task_json, arrays)
            try:
                head = self._written(kind, ask, reason, reply, claimed)
                return self._sealed(kind, ask, reason, reply, head)
            except Exception:
                log.exception("no line could be written into the ledger, or no seal made, so no answer leaves")
                return self._sealed(kind, ask, Reason.SITE_FAILED, None, self._ledger.head)

    def decline(self, kind: str, greeting: Greeting) -> Answer:
        """To a request of another protocol: that it is another, and nothing else."""
        message = f"its roiae {greeting.roiae} speaks protocol {greeting.protocol}, ours {ROIAE} {PROTOCOL}"
        with self._turn:
            head = self._turned_away(kind, RefusalError(Reason.WRONG_VERSION, message))
            return self._sealed(kind, greeting, Reason.WRONG_VERSION, None, head)

    def note_unread(self, kind: str, refusal: RefusalError) -> None:
        """Of a request that does not even say which it is: nothing of ours is signed for it."""
        with self._turn:
            self._turned_away(kind, refusal)

    def _turned_away(self, kind: str, refusal: RefusalError) -> Head:
        """A line now and then, without a word that a stranger may have chosen."""
        if self._doorbell.ring(refusal.reason):
            log.warning("%s request turned away: %s", shown(kind, 40), shown(refusal, 400))
            try:
                return self._written(kind, None, refusal.reason, None)
            except (OSError, LedgerError):
                log.exception("no line could be written into the ledger")
        return self._ledger.head

    def _written(
        self, kind: str, ask: Ask | None, reason: str, reply: Reply | None, claimed: Head | None = None
    ) -> Head:
        counted = self._doorbell.counted
        head = self._ledger.append(
            run=ask.run if ask else "",
            request=ask.request if ask else "",
            kind=kind if kind == IDENTIFY or kind in TASKS else UNKNOWN,
            reason=reason,
            arrays=reply.arrays if reply else {},
            metrics=reply.metrics if reply else (),
            claimed=claimed,
            turned_away=counted,
        )
        self._doorbell.written(counted)
        return head

    def _unknown_head(self, ask: Ask) -> Head | None:
        """The ledger head that the coordinator says it has seen, if this ledger never had it."""
        seen = Head(ask.acknowledged_lines, ask.acknowledged_head)
        if self._ledger.acknowledge(seen):
            return None
        log.error("%s", seen.unknown)
        return seen

    def _outcome(self, kind: str, claimed: Head | None, task_json: str, arrays: Arrays) -> tuple[str, Reply | None]:
        try:
            if self._withdrawn():
                raise RefusalError(Reason.WITHDRAWN, "this site has withdrawn from the federation")
            if claimed:
                raise RefusalError(Reason.BAD_REQUEST, "it comes with a ledger head that is not ours")
            return "", self._reply(kind, task_json, arrays)
        except RefusalError as refusal:
            log.warning("%s request refused: %s", shown(kind, 40), shown(refusal, 400))
            return refusal.reason.value, None
        except Exception:
            log.exception("%s request failed", shown(kind, 40))
            return Reason.SITE_FAILED.value, None

    def _reply(self, kind: str, task_json: str, arrays: Arrays) -> Reply:
        began = time.perf_counter()
        if kind == IDENTIFY:
            return Reply({}, {}, seconds=0.0)
        if kind not in TASKS:
            raise RefusalError(Reason.BAD_REQUEST, "there is no such kind of request")
        task = parse_task(kind, task_json)
        check_task(task, self._config.limits)
        task = task.model_copy(update={"threads": self._threads})
        site = self._site(task.model.image_size)
        check_data(task, site.data, self._config.limits)
        request = Request(task, arrays)
        reply = site.answer(request)
        if isinstance(task, TrainTask):
            reply = replace(reply, arrays=self._clipped(arrays, reply.arrays))
        reply = packed_reply(request, reply)
        if not all(np.isfinite(array).all() for array in reply.arrays.values()):
            raise RefusalError(Reason.NOT_FINITE, "the answer's arrays hold NaN or infinity")
        return replace(reply, seconds=time.perf_counter() - began)

    def _clipped(self, sent: Arrays, trained: Arrays) -> Arrays:
        bound = self._config.limits.max_update_norm
        clipped, norm = clip_update(sent, trained, bound)
        if clipped is not trained:
            log.warning("the update's norm %.4g was clipped to limits.max_update_norm, %g", norm, bound)
        return clipped

    def _site(self, image_size: int) -> Site:
        if image_size not in self._sites:
            self._sites = {image_size: self._open_site(image_size, self._config)}
        return self._sites[image_size]

    def _sealed(self, kind: str, said: Greeting | Ask, reason: str, reply: Reply | None, head: Head) -> Answer:
        envelope = Envelope(
            site=self._config.name,
            run=said.run,
            request=said.request,
            kind=kind,
            reason=str(reason),
            roiae=ROIAE,
            protocol=PROTOCOL,
            ledger_lines=head.lines,
            ledger_head=head.hash,
        )
        return envelope, seal(self._key, envelope, reply), reply
