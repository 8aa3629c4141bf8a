"""Hospitals before nothing but a SuperLink on the coordinator's port, for what no coordinator of ours would send."""

import os
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.superlink.grid import HttpGrid

from roiae.envelope import IDENTIFY
from roiae.packing import pack
from roiae.signed_request import RequestSigner, SignedAsk
from roiae_server.directory import SiteDirectory
from roiae_server.flower.command import superlink_command
from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.session import flower_run
from roiae_server.flower.superlink import Control
from tests.faults.processes import RealFederation, await_that
from tests.signing import signed


@contextmanager
def bare_superlink(federation: RealFederation) -> Iterator[None]:
    """Kills whatever of the federation was started at the end."""
    state = federation.folder.superlink
    state.mkdir(exist_ok=True)
    (state / "secret").write_bytes(os.urandom(32))
    (state / "secret").chmod(0o600)
    environment = {**os.environ, "FLWR_HOME": str(state / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    arguments = superlink_command(federation.port, federation.folder.pki, state)
    with (federation.root / "superlink.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, env=environment)
        try:
            yield
        except BaseException:
            federation.print_logs()
            raise
        finally:
            federation.stop()
            process.kill()
            process.wait()


@contextmanager
def run_of(
    federation: RealFederation, sites: Collection[str], kind: type[Control] = Control
) -> Iterator[tuple[HttpGrid, Mapping[str, int]]]:
    """Start these hospitals; a Flower run over the SuperLink, and their nodes."""
    address, ca = f"127.0.0.1:{federation.port}", federation.folder.ca_certificate.read_bytes()
    control = kind(address, ca)
    try:
        control.wait_until_up()
        directory = SiteDirectory(federation.folder, control, "run")
        for site in sites:
            federation.hospitals[site].start()

        def online() -> bool:
            nodes = directory.nodes()
            return all(site in nodes and nodes[site].online for site in sites)

        await_that(online, 270, f"{sites} are online")
        with flower_run(control, address, ca, (federation.folder.superlink / "secret").read_bytes()) as grid:
            act_as_coordinator()
            yield grid, {site: directory.nodes()[site].node_id for site in sites}
    finally:
        control.close()


def send_handshake(grid: HttpGrid, node: int, signed: SignedAsk) -> str:
    """The message's id."""
    content = RecordDict(
        {
            "arrays": ArrayRecord({"packed": Array(*pack({}, signed.ask.nonce))}),
            "ask": ConfigRecord({**signed.to_record("{}")}),
        }
    )
    (sent,) = grid.push_messages([Message(content, node, IDENTIFY, ttl=60.0)])
    return sent


def signed_handshake(signer: RequestSigner, site: str, **changes: Any) -> SignedAsk:
    return signed(IDENTIFY, "{}", {}, signer, site=site, **changes)


def handshake(grid: HttpGrid, node: int, signed: SignedAsk) -> ConfigRecord:
    """The envelope of the answer."""
    sent = send_handshake(grid, node, signed)
    (reply,) = await_that(lambda: list(grid.pull_messages([sent])), 180, "an answer")
    return ConfigRecord(dict(reply.content.config_records["envelope"]))
