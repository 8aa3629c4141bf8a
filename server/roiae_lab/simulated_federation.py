"""A federation that lives and ends with this process: its keys, its registry, and its hospitals' responders."""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from roiae.config import Role, RunConfig
from roiae.identity.keys import PrivateKey, PublicKey
from roiae.identity.request_key import RequestCertificate
from roiae.shift.latents import digest
from roiae.site.answers import Site, SiteFolder
from roiae.wire.contract import TASKS
from roiae.wire.envelope import NO_LINES, Ask, Envelope
from roiae.wire.signed_request import MAX_SECONDS, RequestSigner, new_ask
from roiae_client.answering.gate import Trusted
from roiae_client.answering.ledger import LEDGER, Ledger
from roiae_client.answering.responder import WEIGHTS, Responder
from roiae_client.folder.site_config import Limits, MaxRequests, OptimizerName, SiteConfig
from roiae_client.recipe.capacity import Capacity
from roiae_lab.flower.client_app import client_app
from roiae_lab.flower.engines import run_local, run_on_ray
from roiae_server.flower.grid import MessageGrid
from roiae_server.flower.network import NetworkTransport, Patience
from roiae_server.flower.superlink import Node
from roiae_server.run.run_folder import RunFolder
from roiae_server.run.site_limits import refused
from roiae_server.run.transport import Transport

NAME = "simulation"
UNHURRIED = Patience(deadline=MAX_SECONDS, grace=MAX_SECONDS, quorum=1)  # a researcher waits for every site
RAY_SECONDS = 0.05  # between looks for replies; a grid in this process is never empty-handed
MANY = 10**9


@dataclass(frozen=True)
class SimulatedHospital:
    """One hospital, small enough to travel to the worker that answers for it.

    Its ledger and what it remembers lie in `state`; where a run is begun anew or goes on, they are as a hospital's.
    """

    config: SiteConfig
    state: Path
    key: bytes  # private, DER
    ca: bytes  # public, DER
    certificate: RequestCertificate

    @contextmanager
    def responder(self, site: Site) -> Iterator[Responder]:
        """
        Raises:
            LedgerError: its ledger is not what was written.
        """
        key, ca = load_der_private_key(self.key, None), load_der_public_key(self.ca)
        assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(ca, ec.EllipticCurvePublicKey)
        ledger = Ledger(self.state / LEDGER)
        try:
            trusted = Trusted(NAME, ca, self.certificate)
            yield Responder(self.config, key, trusted, ledger, lambda *_: site, capacity=_Patient(self.config, site))
        finally:
            ledger.close()


class SimulatedFederation:
    """Who takes part in one run, and what its CA vouches for."""

    def __init__(self, run: RunFolder) -> None:
        state, self._run, self._folder, self._config = run.state, run.state.id, run.path / "sites", run.config
        self._limits = limits_for(run.config)
        if state.checkpoint:  # where the run goes on, and where it began if it has the first phase of another
            known = digest(run.load_checkpoint()[0])
            self._limits = self._limits.model_copy(update={"start_models": (known,)})
        self._ca, request_key = new_key(), new_key()
        certificate = RequestCertificate.issue(self._ca, NAME, 1, request_key.public_key())
        self._signer = RequestSigner(request_key, certificate)
        self._keys: dict[str, PrivateKey] = {}

    def _hospital(self, name: str, role: Role) -> SimulatedHospital:
        key, state = self._keys.setdefault(name, new_key()), self._folder.resolve() / name
        state.mkdir(parents=True, exist_ok=True)
        train = self._config.train
        config = SiteConfig.model_construct(  # a folder's name need not be one that a kit could have
            name=name,
            role=role,
            data=state,
            threads=None if train.threads == "auto" else train.threads,
            device=train.device,
            limits=self._limits,
            privacy=self._config.privacy,
        )
        return SimulatedHospital(
            config,
            state,
            key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            self._ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            self._signer.certificate,
        )

    def locally(self, sites: Iterable[Site], over: Callable[[Transport], None]) -> None:
        """Every hospital in this process, while `over` drives them."""
        with ExitStack() as opened:
            responders = {
                site.name: opened.enter_context(self._hospital(site.name, site.role).responder(site)) for site in sites
            }
            run_local(responders, lambda grid, nodes: over(self._transport(grid, nodes, 0.0)))

    def on_ray(self, folders: Sequence[SiteFolder], threads: int, over: Callable[[Transport], None]) -> None:
        """Hospitals in Ray workers of `threads` CPUs each, which open the sites for themselves.

        Raises:
            EngineError: Ray's nodes do not start.
        """
        hospitals = [self._hospital(folder.name, folder.role) for folder in folders]
        app = client_app(lambda place: hospitals[place].responder(_opened(folders[place])))
        names = [folder.name for folder in folders]
        run_on_ray(app, names, threads, lambda grid, nodes: over(self._transport(grid, nodes, RAY_SECONDS)))

    def forget_weights(self) -> None:
        """Those of a finished run, which nothing follows any more: some 20 MB a hospital."""
        for weights in self._folder.glob(f"*/{WEIGHTS}"):
            shutil.rmtree(weights)

    def _transport(self, grid: MessageGrid, nodes: Mapping[str, int], look_seconds: float) -> NetworkTransport:
        registry = _AllConnected(self._run, {name: key.public_key() for name, key in self._keys.items()}, nodes)
        return NetworkTransport(
            grid, registry, self._signer, UNHURRIED, sources=(), sleep=lambda seconds: time.sleep(look_seconds)
        )


class _Patient(Capacity):
    """A researcher has the time for whatever is asked."""

    def __init__(self, config: SiteConfig, site: Site) -> None:
        super().__init__(config, lambda task, device: 0.0)
        self.frames = len(site.data.train) + len(site.data.validation)


@cache
def _opened(folder: SiteFolder) -> Site:
    """Once a worker."""
    return folder.open()


class _AllConnected:
    """A registry of hospitals that are enrolled and connected as long as the run goes on."""

    def __init__(self, run: str, keys: Mapping[str, PublicKey], nodes: Mapping[str, int]) -> None:
        self._run, self._keys = run, keys
        self._nodes = {site: Node(node, b"", online=True, activation="") for site, node in nodes.items()}
        self._heads: dict[str, tuple[int, str]] = {}

    def key(self, site: str) -> PublicKey | None:
        return self._keys.get(site)

    def nodes(self) -> Mapping[str, Node]:
        return self._nodes

    def ask(self, site: str, request: str, seconds: float) -> Ask:
        return new_ask(site, self._run, request, seconds, *self._heads.get(site, (0, NO_LINES)))

    def heard(self, site: str, envelope: Envelope) -> None:
        if not envelope.reason:
            self._heads[site] = envelope.ledger_lines, envelope.ledger_head


def new_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def limits_for(config: RunConfig) -> Limits:
    """The limits as shipped, so that a simulation meets what a federation would; none where the run asks for more.

    All data are the researcher's own, and so are `minimum` and how many runs there are.
    """
    shipped = Limits(
        requests=frozenset(TASKS),
        max_runs=MANY,
        min_frames=config.minimum.frames,
        min_subjects=config.minimum.subjects,
    )
    if not refused(config, Role.SOURCE, shipped.as_numbers()):
        return shipped
    return shipped.model_copy(
        update={
            "optimizers": frozenset(get_args(OptimizerName)),
            "max_learning_rate": math.inf,
            "min_batch_size": 1,
            "max_clip_norm": math.inf,
            "require_augmentation": False,
            "max_local_epochs": MANY,
            "max_passes": MANY,
            "max_requests": MaxRequests(**dict.fromkeys(MaxRequests.model_fields, MANY)),
            "max_update_norm": math.inf,
            "max_weight_change": math.inf,
        }
    )
