"""The example federation in containers: locked up, and whole."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HOSPITALS = ["hospital-a", "hospital-b", "hospital-c"]


def test_the_example_is_a_coordinator_and_three_hospitals() -> None:
    assert sorted(SERVICES) == ["coordinator", *HOSPITALS]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_privilege_and_a_read_only_root(name: str) -> None:
    service = SERVICES[name]

    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "always"
    assert service["mem_limit"] == service["memswap_limit"] == "4g"
    assert service["pids_limit"] == 512
    assert service["tmpfs"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_what_the_coordinator_knows(name: str) -> None:
    command = "roiae-server" if name == "coordinator" else "roiae-client"

    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", command, "status", "/var/lib/roiae", "--healthy"]


@pytest.mark.parametrize("name", HOSPITALS)
def test_a_hospital_reads_its_own_data_and_shares_nothing(name: str) -> None:
    volumes = SERVICES[name]["volumes"]
    others = {volume for other in SERVICES if other != name for volume in SERVICES[other]["volumes"]}

    assert f"./data/{name}:/data:ro" in volumes
    assert not set(volumes) & others
    assert "ports" not in SERVICES[name]


def test_the_coordinator_publishes_its_gateway_alone_and_on_loopback() -> None:
    assert SERVICES["coordinator"]["ports"] == ["127.0.0.1:8443:8443"]


def test_compose_takes_the_file_where_it_is_installed() -> None:
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        command = [docker, "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_the_image_runs_as_a_user_and_installs_what_was_tested() -> None:
    lines = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install .*?(?=&&|\n)", lines)
    final = lines.rpartition("\nFROM ")[2]

    assert all("--constraint constraints.txt" in install for install in installs)
    assert "torch==2.13.0" in installs[0]  # first, before anything asks for it by a range
    assert "USER 10001:10001" in final
    assert lines.count("FROM python:3.11-slim") == 2
