"""What a hospital says of its own work, from its reply to the report: nothing absurd gets in."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from roiae.errors import Reason
from roiae.method.metrics import NT_SUMS
from roiae.wire.contract import Reply, Request
from roiae_server.report.write import write_real_report
from roiae_server.run.run_folder import RunFolder, installed_versions
from tests.server.conftest import ScriptedTransport, honest
from tests.server.run.test_federation import Federate, Lines, ended_without_bb, trains

ABSURD = {
    "seconds": [math.nan, math.inf, -1e300, -1.0, 1e300],
    "num-examples": [1e300, -1.0, 0.5, math.nan, 1e16],
    "frames_a_second": [1e300, -1.0, math.inf, math.nan],
    "loss": [1e300, -1e300, math.nan],
    "validation_psnr": [1e308, -1e308, math.nan],
    "validation_frames": [1e300, -3.0, 2.5, 1e9],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ABSURD.items() for value in values])
def test_no_absurd_number_of_a_site_gets_in_or_ends_a_run(
    federate: Federate, read_lines: Lines, tmp_path: Path, name: str, value: float
) -> None:
    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        if not trains(site, request):
            return reply
        if name == "seconds":
            return replace(reply, seconds=value)
        return replace(reply, metrics=reply.metrics | {name: value})

    run = ended_without_bb(federate, ScriptedTransport(answer), tmp_path / "run")

    reasons = {line["reason"] for line in read_lines(run) if line["status"] == "refused"}
    assert reasons <= {"bad-metrics", "too-many-frames", "no-frames"} and len(reasons) == 1


def test_the_largest_numbers_that_get_in_can_be_reported(federate: Federate) -> None:
    """A site says of itself what it likes; the page and the JSON beside it stay whole."""

    def answer(site: str, request: Request) -> Reply | Reason:
        reply = honest(site, request)
        if site != "bb":
            return reply
        large = {name: 1e15 if value > 0.1 else -1e15 for name, value in reply.metrics.items()}
        kept = ("num-examples", "frames", "validation_frames", *NT_SUMS)
        large |= {name: value for name, value in reply.metrics.items() if name in kept or name.startswith("gradient")}
        return replace(reply, metrics=large, seconds=1e7)

    path = federate(ScriptedTransport(answer))

    run = RunFolder.open(path)
    assert run is not None
    run.state = replace(run.state, versions=installed_versions())
    page = write_real_report(run).read_text()
    run.close()
    assert page.startswith("<!") and not re.search(r"\b(nan|inf|infinity)\b", page, re.IGNORECASE)
    for name in ("report.json", "quality.json", "calibration.json", "shift.json"):
        json.loads((path / name).read_text(), parse_constant=pytest.fail)
