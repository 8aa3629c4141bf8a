"""A run between real processes, with nothing in its way."""

from collections.abc import Callable

import pytest

from tests.faults.processes import SITES, RealFederation, await_that

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1200)]


def test_a_real_federation_trains_the_very_model_of_the_simulation(
    federation: RealFederation, unfaulted: dict[str, bytes], record: Callable[..., None]
) -> None:
    await_that(lambda: federation.has_work("alpha"), 360, "the first round")
    executors = {site: federation.hospitals[site].part("roiae_client.flower.executor") for site in SITES}

    assert federation.finish() == 0

    lost, stall = federation.rounds_lost(), federation.watch.longest_stall
    assert federation.weights() == unfaulted
    assert lost == 0
    record("none", outcome="the same bytes", recovery=[], rounds_lost=lost, stall=stall)
    assert {line["status"] for line in federation.lines if line["step"] != "shift"} == {"aggregated"}
    warm = {site: federation.hospitals[site].part("roiae_client.flower.executor") for site in SITES}
    assert warm == executors  # torch was imported once a hospital
