"""The units say what their page promises, and systemd reads them where it is installed."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
LONG_RUNNING = [UNITS / "roiae-server.service", UNITS / "roiae-client.service"]


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_has_no_privilege_and_cannot_write_the_system(unit: Path) -> None:
    found = settings(unit)

    assert found["User"] == found["Group"] == [unit.name.removesuffix(".service").removesuffix("-health")]
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == [""]
    assert found["ProtectSystem"] == ["strict"]
    assert found["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert "ReadWritePaths" not in found  # its own state and cache alone
    switched_on = ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "LockPersonality")
    assert {key: found[key] for key in switched_on} == {key: ["yes"] for key in switched_on}


@pytest.mark.parametrize("unit", LONG_RUNNING, ids=lambda unit: unit.name)
def test_a_service_is_started_again_for_ever_and_its_folders_are_its_own(unit: Path) -> None:
    found = settings(unit)

    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    assert found["StateDirectory"] == found["CacheDirectory"] == found["User"]
    assert found["StateDirectoryMode"] == found["CacheDirectoryMode"] == ["0700"]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_cannot_take_the_machine_down_with_it(unit: Path) -> None:
    found = settings(unit)

    assert found["MemoryMax"] == (["4G"] if unit in LONG_RUNNING else ["512M"])
    assert found["TasksMax"] == (["512"] if unit in LONG_RUNNING else ["64"])


@pytest.mark.parametrize("side", ["server", "client"])
def test_health_is_what_the_coordinator_knows_and_not_a_living_process(side: str) -> None:
    asked = settings(UNITS / f"roiae-{side}-health.service")
    timer = settings(UNITS / f"roiae-{side}-health.timer")

    assert asked["ExecStart"] == [f"/opt/roiae/bin/roiae-{side} status /var/lib/roiae-{side} --healthy"]
    assert timer["OnUnitInactiveSec"] == ["1min"]
    assert timer["WantedBy"] == [f"roiae-{side}.service"]


def test_each_service_has_its_user() -> None:
    users = {line.split()[1] for line in (UNITS / "roiae.sysusers").read_text().splitlines() if line.startswith("u ")}

    assert users == {settings(unit)["User"][0] for unit in LONG_RUNNING}


def test_systemd_takes_the_units_where_it_is_installed(tmp_path: Path) -> None:
    for side in ("server", "client"):
        (tmp_path / f"roiae-{side}").write_text("#!/bin/sh\n")
        (tmp_path / f"roiae-{side}").chmod(0o755)
    units = [*SERVICES, *UNITS.glob("*.timer")]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/roiae/bin", str(tmp_path)))
    assert len(units) == 6
    if analyze := shutil.which("systemd-analyze"):
        command = [analyze, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
