"""A whole run through real responders with the limits as shipped: an honest coordinator is never refused."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.config import MinimumConfig, Role, RunConfig, build_config
from roiae.errors import Reason, RefusalError
from roiae.method.hardware import resolve
from roiae.method.training import initial_arrays
from roiae.site.answers import Site
from roiae.wire.contract import Reply, Request
from roiae_client.answering.ledger import LEDGER, Ledger, LedgerReader
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import SiteConfig
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.run.federation import Federation
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Outcome
from tests.server.conftest import Silent
from tests.signing import TRUSTED, signed

ROLES = {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.SOURCE, "delta": Role.HELD_OUT}
KEY = ec.generate_private_key(ec.SECP384R1())
SETTINGS = {
    "model": {"image_size": 192, "width": 8, "latent_dim": 8},
    "phase1": {"rounds": 3, "local_epochs": 1},
    "phase2": {"rounds": 2, "local_epochs": 1},
    "train": {"threads": 1, "precision": "float32", "device": "cpu"},
}
Answer = Callable[[str, Request], Reply | Reason]


class Direct:
    """A transport whose sites answer at once; some of them miss some exchanges."""

    def __init__(self, answer: Answer, missed: Mapping[str, Collection[int]]) -> None:
        self._answer, self._missed = answer, missed
        self._exchanges = 0

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        self._exchanges += 1
        for site, request in requests.items():
            missing = self._exchanges in self._missed.get(site, ())
            answered = Reason.OFFLINE if missing else self._answer(site, request)
            reply = answered if isinstance(answered, Reply) else None
            yield Outcome(site, reply, None if reply else Reason(str(answered)), 0, 0)


class Desks:
    """Of the hospitals, each with its own folder and the limits as shipped."""

    def __init__(self, folder: Path, sites: Mapping[str, Site]) -> None:
        self.folder, self.refused = folder, set[tuple[str, str]]()
        self._desks = {}
        for name, site in sites.items():
            (folder / name).mkdir(parents=True)
            config = SiteConfig(name=name, role=site.role, data=folder / "none", device="cpu", threads=1)
            ledger = Ledger(folder / name / LEDGER)
            self._desks[name] = Responder(config, KEY, TRUSTED, ledger, lambda side, config, site=site: site)  # type: ignore[misc]

    def trained(self, site: str) -> list[tuple[int, str]]:
        """Round and digest of the weights of each training, from the site's ledger."""
        lines = LedgerReader(self.folder / site / LEDGER)
        return [(line.round, line.weights) for line in lines if line.kind == "train"]

    def answer(self, site: str, request: Request) -> Reply | Reason:
        text = request.task.model_dump_json()
        asked = signed(request.kind, text, request.arrays, site=site)
        envelope, _, reply = self._desks[site].answer(request.kind, asked, text, request.arrays)
        if reply is None:
            self.refused.add((request.kind, envelope.reason))
        return reply or Reason(envelope.reason)


@pytest.fixture
def sites(make_site: Callable[..., Site]) -> dict[str, Site]:
    """Just as many frames as the limits as shipped ask for."""
    return {name: make_site(name, train=24, validation=20, role=role) for name, role in ROLES.items()}


def federate(folder: Path, answer: Answer, missed: Mapping[str, Collection[int]], crash_after: int = 10**9) -> Path:
    """One run, or its resumption; the run's folder."""
    config: RunConfig = resolve(build_config(SETTINGS))
    with closing(RunFolder.open(folder) or RunFolder.create(folder, config, RunState(ROLES, {}, {}))) as run:
        Federation(
            run,
            Direct(answer, missed),
            new_aggregator=lambda: FlowerAggregator(config.strategy),
            initial_arrays=lambda: initial_arrays(config.model, config.seed),
            observer=Silent(crash_after),
        ).run()
    return folder


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "checkpoints").glob("*.safetensors")}


def direct(sites: Mapping[str, Site]) -> Answer:
    """As in a simulation, with the same minimum."""
    shipped = {name: replace(site, minimum=MinimumConfig(), state=site.state / "own") for name, site in sites.items()}

    def answer(site: str, request: Request) -> Reply | Reason:
        try:
            return shipped[site].answer(request)
        except RefusalError as refusal:
            return refusal.reason

    return answer


@pytest.mark.parametrize(
    "missed",
    [  # rounds of phase 1; the first ones of phase 2 and of the control
        pytest.param({"beta": {2, 3}}, id="in-phase-1", marks=pytest.mark.slow),
        pytest.param({"gamma": {4, 6}}, id="where-arms-begin"),
    ],
)
def test_a_run_through_desks_is_never_refused_and_ends_as_the_same_run_without_them(
    sites: dict[str, Site], tmp_path: Path, missed: dict[str, set[int]]
) -> None:
    responders = Desks(tmp_path / "hospitals", sites)

    run = federate(tmp_path / "run", responders.answer, missed)

    assert {kind for kind, _ in responders.refused} == {"query.keys"}  # which no site allows unless it says so
    assert weights(run) == weights(federate(tmp_path / "again", direct(sites), missed))
    alpha, other = responders.trained("alpha"), responders.trained(next(iter(missed)))
    assert [round_ for round_, _ in alpha] == [1, 2, 3, 4, 5, 4, 5]
    assert set(other) < set(alpha)  # the very same weights, which is how one hospital can vouch for another


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_not_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    responders = Desks(tmp_path / "hospitals", sites)
    with pytest.raises(KeyboardInterrupt):
        federate(tmp_path / "run", responders.answer, {}, crash_after=7)  # as alpha has answered the third round

    run = federate(tmp_path / "run", responders.answer, {})

    assert {kind for kind, _ in responders.refused} == {"query.keys"}
    assert [round_ for round_, _ in responders.trained("alpha")] == [1, 2, 3, 3, 4, 5, 4, 5]
    assert weights(run) == weights(federate(tmp_path / "again", direct(sites), {}))
