"""Many strangers at once before a real gateway: hospitals are served meanwhile, on old connections and new ones."""

import time
from pathlib import Path

import pytest

from tests.server.gateway.crowd import Behave, crowd, silent, slow
from tests.server.gateway.real_gateway import Door, scripted_superlink

BEAT = "fleet/send-node-heartbeat"
PATIENCE = 25.0  # seconds for one call, on a machine that also makes the crowd; a node itself waits 30

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("behave", "strangers", "addresses"), [(silent, 600, 1), (silent, 600, 600), (slow, 300, 300)])
def test_a_crowd_keeps_no_hospital_out(tmp_path: Path, behave: Behave, strangers: int, addresses: int) -> None:
    door = Door(tmp_path / "coordinator")
    with (
        scripted_superlink() as upstream,
        door.running(upstream, strangers_connections=64) as door,
        door.client("alpha") as connected,
    ):
        assert connected.post(BEAT).status_code == 200
        with crowd(door.port, behave, strangers, addresses) as opened:
            time.sleep(2)
            began = time.monotonic()
            assert [connected.post(BEAT).status_code for _ in range(5)] == [200] * 5
            for site in ("alpha", "beta"):  # on a new connection each
                with door.client(site) as new:
                    assert new.post(BEAT).status_code == 200
            assert time.monotonic() - began < 7 * PATIENCE
            assert opened[0] > 64  # there was a crowd
