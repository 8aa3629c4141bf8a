"""Hospitals before a SuperLink and its gateway alone, for what no coordinator of ours would send."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.superlink.grid import HttpGrid

from roiae.process.service import socket_folder
from roiae.wire.envelope import IDENTIFY
from roiae.wire.packing import pack
from roiae.wire.signed_request import RequestSigner, SignedAsk
from roiae_server.flower.command import superlink_command
from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.session import flower_run
from roiae_server.flower.superlink import Control
from roiae_server.service.site_registry import SiteRegistry
from tests.faults.processes import RealFederation, await_that
from tests.signing import signed


@contextmanager
def bare_superlink(federation: RealFederation) -> Iterator[Path]:
    """The SuperLink's socket. Kills whatever of the federation was started at the end."""
    state = federation.folder.superlink
    state.mkdir(exist_ok=True)
    (state / "secret").write_bytes(os.urandom(32))
    (state / "secret").chmod(0o600)
    environment = {**os.environ, "FLWR_HOME": str(state / "flwr"), "FLWR_TELEMETRY_ENABLED": "0"}
    with (federation.root / "superlink.log").open("wb") as log, socket_folder() as sockets, ExitStack() as started:
        socket = sockets / "superlink"
        folder, port = str(federation.folder.path), federation.port
        door = {"host": "127.0.0.1", "port": port, "folder": folder, "upstream": str(socket)}
        (state / "gateway.json").write_text(json.dumps(door))
        gateway = (sys.executable, "-m", "roiae_server.gateway.app", str(state / "gateway.json"))
        for command in (superlink_command(state, socket), gateway):
            process = started.enter_context(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            started.callback(process.kill)
        try:
            yield socket
        except BaseException:
            federation.print_logs()
            raise
        finally:
            federation.stop()


@contextmanager
def run_of(
    federation: RealFederation, socket: Path, sites: Collection[str], kind: type[Control] = Control
) -> Iterator[tuple[HttpGrid, Mapping[str, int]]]:
    """Start these hospitals; a Flower run over the SuperLink, and their nodes."""
    control = kind(socket)
    try:
        control.wait_until_up()
        registry = SiteRegistry(federation.folder, control, "run")
        for site in sites:
            federation.hospitals[site].start()

        def online() -> bool:
            nodes = registry.nodes()
            return all(site in nodes and nodes[site].online for site in sites)

        await_that(online, 270, f"{sites} are online")
        with flower_run(control, socket, (federation.folder.superlink / "secret").read_bytes()) as grid:
            act_as_coordinator()
            yield grid, {site: registry.nodes()[site].node_id for site in sites}
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
