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

from roiae.config import Role
from roiae.errors import LedgerError, Reason, RefusalError
from roiae.identity.kit import PROTOCOL
from roiae.method.hardware import prepare_process
from roiae.method.rounding import SPEED_DIGITS, significant
from roiae.shift.disclosures import open_disclosures
from roiae.shift.latents import digest
from roiae.site.answers import NO_GUARD, Guard, Site, check_role
from roiae.text import shown
from roiae.wire.contract import TASKS, Arrays, EvaluateTask, Reply, Request, TrainTask, parse_task
from roiae.wire.envelope import IDENTIFY, ROIAE, Ask, Envelope, Greeting, seal
from roiae.wire.signed_request import SignedAsk
from roiae.wire.upload import packed_reply
from roiae_client.answering.gate import Doorbell, Gate, Pace, Trusted
from roiae_client.answering.ledger import Head, Ledger
from roiae_client.folder.site_config import SiteConfig
from roiae_client.recipe.blind import blind_ms_ssim
from roiae_client.recipe.capacity import Capacity
from roiae_client.recipe.policy import check_task, clip_update
from roiae_client.recipe.spending import NOTHING_READ, Asked, Spent
from roiae_client.recipe.weights_history import Received, WeightsHistory

WEIGHTS = "state/weights"  # in the hospital's folder
UNKNOWN = "unknown"  # stands in the ledger for a kind of request that is none
Answer = tuple[Envelope, bytes, Reply | None]  # with the signature of both
log = logging.getLogger(__name__)


class Responder:
    """Answers a coordinator's requests for one hospital, one at a time.

    Args:
        key: the site's own; seals every reply.
        trusted: whose requests are answered.
        open_site: the site at a model's image size in px; called when first needed, and its site is kept.
        withdrawn: whether the site has left the federation; then every request is refused.
        capacity: of the machine; None for this one, by forecast.
    """

    def __init__(
        self,
        config: SiteConfig,
        key: ec.EllipticCurvePrivateKey,
        trusted: Trusted,
        ledger: Ledger,
        open_site: Callable[[int, SiteConfig], Site],
        withdrawn: Callable[[], bool] = lambda: False,
        capacity: Capacity | None = None,
    ) -> None:
        self._config = config
        self._key = key
        self._ledger = ledger
        self._open_site = open_site
        self._withdrawn = withdrawn
        self._threads = config.threads or torch.get_num_threads()
        self._sites: dict[int, Site] = {}
        self._blindness: dict[int, float] = {}  # by the model's side, as the sites
        self._turn = threading.Lock()
        self._gate, self._doorbell, self._pace = Gate(config.name, trusted, ledger), Doorbell(), Pace()
        self._capacity = capacity or Capacity(config)
        self._history = WeightsHistory(ledger.folder / WEIGHTS, config.limits)

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
            reason, reply, asked = self._outcome(kind, ask.run, claimed, task_json, arrays)
            if reason or kind == IDENTIFY:
                self._pace.unspent()
            try:
                head = self._written(kind, ask, reason, reply, claimed, asked)
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
        self,
        kind: str,
        ask: Ask | None,
        reason: str,
        reply: Reply | None,
        claimed: Head | None = None,
        asked: Asked = NOTHING_READ,
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
            asked=asked,
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

    def _outcome(
        self, kind: str, run: str, claimed: Head | None, task_json: str, arrays: Arrays
    ) -> tuple[str, Reply | None, Asked]:
        asked = NOTHING_READ
        try:
            if self._withdrawn():
                raise RefusalError(Reason.WITHDRAWN, "this site has withdrawn from the federation")
            if claimed:
                raise RefusalError(Reason.BAD_REQUEST, "it comes with a ledger head that is not ours")
            if kind == IDENTIFY:
                return "", Reply(self._config.limits.as_numbers(), {}, seconds=0.0), asked
            request = self._request(kind, task_json, arrays)
            asked = _asked(request)
            return "", self._reply(run, request, asked), asked
        except RefusalError as refusal:
            log.warning("%s request refused: %s", shown(kind, 40), shown(refusal, 800))
            return refusal.reason.value, None, replace(asked, passes=0)
        except Exception:
            log.exception("%s request failed", shown(kind, 40))
            return Reason.SITE_FAILED.value, None, replace(asked, passes=0)

    def _request(self, kind: str, task_json: str, arrays: Arrays) -> Request:
        if kind not in TASKS:
            raise RefusalError(Reason.BAD_REQUEST, "there is no such kind of request")
        return Request(parse_task(kind, task_json).model_copy(update={"threads": self._threads}), arrays)

    def _reply(self, run: str, request: Request, asked: Asked) -> Reply:
        """First what the request alone tells, then what this machine can do, then the weights, and the frames last."""
        began = time.perf_counter()
        task, arrays, spent = request.task, request.arrays, self._ledger.spending.of(run)
        check_role(self._config.role, task)
        check_task(task, self._config.limits, spent)
        prepare_process(task.threads)
        self._capacity.check(task)
        guard = self._on_course(run, request, asked.weights, spent)
        site = self._site(task.model.image_size)
        if asked.weights:
            self._note(site, asked.weights)
        reply = site.answer(request, guard)
        if isinstance(task, TrainTask):
            reply = replace(reply, arrays=self._clipped(arrays, reply.arrays))
        reply = packed_reply(request, reply)
        if not all(np.isfinite(value).all() for value in (*reply.arrays.values(), np.array([*reply.metrics.values()]))):
            raise RefusalError(
                Reason.NOT_FINITE, "the answer holds NaN or infinity, which one frame can be the cause of"
            )
        return replace(reply, seconds=significant(time.perf_counter() - began, SPEED_DIGITS))

    def _on_course(self, run: str, request: Request, weights: str, spent: Spent) -> Guard:
        """A held-out site trains on nothing, and so has no history: of its weights only the size can be looked at."""
        if not isinstance(request.task, TrainTask | EvaluateTask):
            return NO_GUARD
        if self._config.role is Role.HELD_OUT:
            self._history.check_size(request.arrays, weights)
            return NO_GUARD
        frames = self._capacity.frames
        return self._history.admit(Received(run, request.task, request.arrays, weights, spent, frames, self._blind))

    def _blind(self) -> float:
        """Of the site that is open: one size of frames at a time."""
        ((side, site),) = self._sites.items()
        if side not in self._blindness:
            self._blindness = {side: blind_ms_ssim(site.data)}
        return self._blindness[side]

    def _note(self, site: Site, weights: str) -> None:
        subjects = {"train": site.data.train.subjects, "validation": site.data.validation.subjects}
        with open_disclosures(site.state) as register:
            register.note_answer(weights, site.data.fingerprint, subjects, self._config.limits.min_subjects)

    def _clipped(self, sent: Arrays, trained: Arrays) -> Arrays:
        bound = self._config.limits.max_update_norm
        clipped, norm = clip_update(sent, trained, bound)
        if clipped is not trained:
            log.warning("the update's norm %.4g was clipped to limits.max_update_norm, %g", norm, bound)
        return clipped

    def _site(self, image_size: int) -> Site:
        if image_size not in self._sites:
            site = self._open_site(image_size, self._config)
            minimum = self._config.limits.minimum
            self._sites = {image_size: site if site.minimum == minimum else replace(site, minimum=minimum)}
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


def _asked(request: Request) -> Asked:
    match request.task:
        case TrainTask() as task:
            return Asked(digest(request.arrays), task.round, task.local_epochs)
        case EvaluateTask():
            return Asked(digest(request.arrays))
        case _:
            return NOTHING_READ
