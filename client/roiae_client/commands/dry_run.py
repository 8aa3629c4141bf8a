"""What would leave this hospital: every allowed request, answered here and sent nowhere."""

import math
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from rich.console import Console
from rich.table import Table

from roiae.config import Role, RunConfig, flatten
from roiae.console.terminal import say
from roiae.identity.kit import PROTOCOL
from roiae.identity.request_key import RequestCertificate
from roiae.method.calibration import EQUAL
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of
from roiae.shift.group import Group
from roiae.shift.knn import MIN_PROTOTYPE_SUBJECTS
from roiae.shift.latents import digest, encode, encoder_arrays, load_encoder
from roiae.shift.messages import about, seal_statistics
from roiae.site.answers import Site
from roiae.wire.contract import (
    TASKS,
    Arrays,
    EvaluateTask,
    KeysTask,
    ProbeTask,
    ScoreTask,
    ShiftArm,
    StatisticsTask,
    Task,
    TrainTask,
)
from roiae.wire.envelope import NO_LINES, ROIAE, Ask
from roiae.wire.signed_request import MAX_SECONDS, RequestSigner, SignedAsk, content_bytes
from roiae_client.answering.gate import Trusted
from roiae_client.answering.ledger import Ledger, LedgerReader, Line
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import Limits, SiteConfig
from roiae_client.recipe.loosened import loosened, what_limits_stop

_DRY_RUN = "dry-run"  # names the run and its federation
_ARM: ShiftArm = "phase1"
_NAMED = 2  # arrays of an answer that are named one by one
_RUN = RunConfig()


def dry_run(config: SiteConfig, open_site: Callable[[int, SiteConfig], Site], console: Console) -> None:
    """Answer one request of every kind that `site.yaml` allows, about the default model untrained; print what would go.

    Ledger, key and register are thrown away: nothing here counts as answered.

    Args:
        open_site: as a `Responder` takes it.

    Raises:
        DataError: the hospital's data cannot be used.
    """
    with TemporaryDirectory() as folder, console.status("reading the frames") as status:
        site = replace(open_site(_RUN.model.image_size, config), state=Path(folder) / "state")
        questions = _Questions(site)
        path = Path(folder) / "ledger.jsonl"
        ledger = Ledger(path)
        signer, trusted = _coordinator()
        key = ec.generate_private_key(ec.SECP384R1())
        responder = Responder(questions.known_to(config), key, trusted, ledger, lambda side, config: site)
        for kind in [kind for kind in TASKS if kind in config.limits.requests]:
            status.update(f"answering {kind}")
            task, arrays = questions.of(kind)
            signed = _signed(signer, site.name, kind, task.model_dump_json(), arrays)
            _, _, reply = responder.answer(kind, signed, task.model_dump_json(), arrays)
            if reply:
                questions.hear(reply.arrays)
        ledger.close()
        lines = list(LedgerReader(path))
    table = Table("request", "what would leave", "bytes", "norm", box=None, pad_edge=False)
    for line in lines:
        norm = math.hypot(*(array["norm"] for array in line.arrays))
        table.add_row(line.kind, _left(line), f"{line.bytes:,}", f"{norm:.4g}" if line.arrays else "")
    console.print(table)
    _print_limits(console, config.limits)
    say("Nothing was sent. Every request that `limits.requests` does not name is refused.", console)


def _print_limits(console: Console, limits: Limits) -> None:
    """Every limit, what it is and what it stops; and what is given away by those that were loosened."""
    own = dict(flatten(limits.model_dump()))
    table = Table("limit", "here", "what it is for", box=None, pad_edge=False)
    for name, stops in what_limits_stop():
        table.add_row(name, _shown(own[name]), stops)
    console.print()
    console.print(table)
    for sentence in loosened(limits):
        say(f"Loosened: {sentence}", console)
    console.print()


def _shown(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(value)) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value}"


class _Questions:
    """Small requests of every kind, as a coordinator would make them if another hospital had the very same frames."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._common: dict[str, Any] = {"model": _RUN.model, "batch_size": _RUN.train.batch_size, "threads": 1}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RUN.seed)
            self._weights = arrays_of(Autoencoder(**_RUN.model.model_dump()))
        names = [f"{site.name}-too", f"{site.name}-as-well"][: 2 if site.role is Role.HELD_OUT else 1]
        self._others = {name: X25519PrivateKey.generate() for name in names}
        self._keys = {name: key.public_key().public_bytes_raw() for name, key in self._others.items()}
        self._own: Arrays = {}

    def of(self, kind: str) -> tuple[Task, Arrays]:
        """A task, and the arrays that come with it."""
        common = self._common
        match kind:
            case "train":
                return self._train(), self._weights
            case "evaluate":
                return EvaluateTask(**common), self._weights
            case "query.keys":
                return KeysTask(**common), {}
            case "query.statistics":
                return StatisticsTask(**self._asked), self._encoder
            case "query.probe":
                return ProbeTask(**self._asked, step=1), self._encoder | self._statistics
            case _:
                return ScoreTask(**self._asked, k=_RUN.shift.k, step=None), self._encoder | self._statistics

    def known_to(self, config: SiteConfig) -> SiteConfig:
        """The settings of a site that has trained on the weights before, as a scored model's sources have."""
        limits = config.limits.model_copy(update={"start_models": (digest(self._weights),)})
        return config.model_copy(update={"limits": limits})

    def hear(self, arrays: Arrays) -> None:
        """What the site has answered, as far as later requests carry it."""
        if "key" in arrays:
            self._keys[self._site.name] = arrays["key"].tobytes()
        if "statistics" in arrays:
            self._own[f"statistics/{self._site.name}"] = arrays["statistics"]

    def _train(self) -> TrainTask:
        train = _RUN.train
        return TrainTask(
            **self._common,
            weights=EQUAL,
            learning_rate=train.learning_rate,
            local_epochs=1,
            optimizer=train.optimizer,
            weight_decay=train.weight_decay,
            clip_norm=train.clip_norm,
            proximal_mu=0.0,
            augment=train.augment,
            precision="float32",
            seed=_RUN.seed,
            round=1,
            measure=True,
        )

    @property
    def _asked(self) -> dict[str, Any]:
        keys = {name: key.hex() for name, key in self._keys.items()}
        return {**self._common, "arms": (_ARM,), "sources": self._sources, "keys": keys}

    @property
    def _sources(self) -> tuple[str, ...]:
        return tuple(sorted(self._others if self._site.role is Role.HELD_OUT else {*self._others, self._site.name}))

    @property
    def _encoder(self) -> Arrays:
        return {f"{_ARM}/{name}": array for name, array in encoder_arrays(self._weights).items()}

    @property
    def _statistics(self) -> Arrays:
        """What the sources have sealed: this site, where it is one, and others who have the same frames."""
        if self._site.name not in self._keys:  # nothing is sealed for a site that would not give a key
            return {}
        encoder = encoder_arrays(self._weights)
        latents = encode(load_encoder(_RUN.model, encoder), self._site.data.train, _RUN.train.batch_size)
        subjects = tuple(str(place) for place in range(max(len(latents), 2 * MIN_PROTOTYPE_SUBJECTS)))
        latents = np.resize(latents, (len(subjects), latents.shape[1]))
        told = dict(self._own)
        for name, private in self._others.items():
            group = Group(name, private, self._sources, self._keys, about({_ARM: digest(encoder)}))
            told[f"statistics/{name}"] = group.seal("statistics", seal_statistics(group, _ARM, latents, subjects))
        return told


def _coordinator() -> tuple[RequestSigner, Trusted]:
    """Keys of a federation that is there for these requests alone."""
    ca, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    certificate = RequestCertificate.issue(ca, _DRY_RUN, 1, key.public_key())
    return RequestSigner(key, certificate), Trusted(_DRY_RUN, ca.public_key(), certificate)


def _signed(signer: RequestSigner, site: str, kind: str, task_json: str, arrays: Arrays) -> SignedAsk:
    now = int(time.time())
    ask = Ask(
        site=site,
        run=_DRY_RUN,
        request=uuid.uuid4().hex,
        roiae=ROIAE,
        protocol=PROTOCOL,
        issued=now,
        expires=now + MAX_SECONDS,
        nonce=secrets.token_hex(32),
        acknowledged_lines=0,
        acknowledged_head=NO_LINES,
    )
    return signer.sign(ask, content_bytes(kind, task_json, arrays))


def _left(line: Line) -> str:
    if line.reason:
        return f"nothing: {line.reason}"
    named = [f"{array['name']} {'×'.join(map(str, array['shape']))}".rstrip() for array in line.arrays]
    if len(named) > _NAMED:
        named[_NAMED:] = [f"… {len(named) - _NAMED} more arrays"]
    return "\n".join([*named, ", ".join(line.metrics)])
