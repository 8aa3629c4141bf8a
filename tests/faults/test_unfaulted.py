"""A run between real processes, with nothing in its way."""

import pytest

from tests.faults.processes import RealFederation

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(400)]


def test_a_real_federation_trains_the_very_model_of_the_simulation(
    federation: RealFederation, unfaulted: dict[str, bytes]
) -> None:
    assert federation.finish() == 0

    assert federation.weights() == unfaulted
    assert {line["status"] for line in federation.lines if line["step"] != "shift"} == {"aggregated"}
