"""The commands of docs/COORDINATOR.md and docs/HOSPITAL.md, typed by four people, from init to report."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from roiae.data.phantom import SCANNERS, write_hospital
from roiae.process.service import free_port
from tests.faults.processes import SETTINGS, SITE_SETTINGS, Member, await_that, command
from tests.test_role_pages import command as page_command
from tests.test_role_pages import commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Person:
    """Types the lines of one page in a folder of their own.

    Args:
        words: what stands on the page, and what this person types in its place.
    """

    def __init__(self, place: Path, page: str, words: dict[str, str]) -> None:
        place.mkdir()
        self.place, self.page, self.words = place, page, words

    def line(self, beginning: str) -> list[str]:
        line = beginning if beginning in commands(self.page) else page_command(self.page, beginning)
        for word, meaning in self.words.items():
            line = line.replace(word, meaning)
        program, *arguments = line.split()
        return command(program, *arguments)

    def type(self, beginning: str, *more: str, code: int = 0) -> str:
        typed = [*self.line(beginning), *more]
        done = subprocess.run(typed, cwd=self.place, capture_output=True, text=True, check=False, env=_environment())
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, beginning: str) -> Member:
        member = Member(self.place / "DIR", self.line(beginning))
        member.start(cwd=self.place)
        return member


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_run_from_init_to_report(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROIAE_CACHE", str(cache_dir))
    host = f"localhost --port {free_port()}"
    coordinator = Person(tmp_path / "coordinator", "COORDINATOR.md", {"fl.example.org": host})
    hospitals = {name: Person(tmp_path / name, "HOSPITAL.md", {"hospital-a": name}) for name in ("a", "b", "c")}
    fingerprint = re.search(r"(?:[0-9A-F]{4}:){15}[0-9A-F]{4}", coordinator.type("roiae-server init"))
    assert fingerprint
    settings = yaml.safe_dump({**SETTINGS, "federation": {"deadline": 300, "grace": 200}})
    (coordinator.place / "DIR" / "federation.yaml").write_text(settings)
    for (name, hospital), scanner in zip(hospitals.items(), SCANNERS, strict=False):
        _enrol(coordinator, hospital, name, fingerprint[0])
        (hospital.place / "DIR" / "data").rmdir()
        write_hospital(hospital.place / "DIR" / "data", scanner, subjects=16, seed=len(name))
    assert all(name in coordinator.type("roiae-server sites") for name in hospitals)

    members = []
    try:
        members.append(coordinator.start("roiae-server start"))
        for hospital in hospitals.values():
            assert "check.html" in hospital.type("roiae-client check")
            assert "Nothing was sent" in hospital.type("roiae-client start DIR --dry-run")
            members.append(hospital.start("roiae-client start DIR"))
        first = hospitals["a"]
        await_that(lambda: "connected: yes" in first.type("roiae-client status"), 120, "connected")
        assert "gateway: answers fleet calls" in first.type("roiae-client doctor")
        assert "PASS" in coordinator.type("roiae-server doctor")
        assert members[0].ended(900) == 0
        assert "Every line is as it was written" in first.type("roiae-client ledger")
        assert "Paused" in first.type("roiae-client pause")
        assert "it cannot be taken out" in first.type("roiae-client withdraw", "--yes")
        assert "Who took part" in coordinator.type("roiae-server report")
        assert "Nothing is running" in coordinator.type("roiae-server stop")
        assert "is not served" in coordinator.type("roiae-server status", "--healthy", code=12)
    finally:
        for member in members:
            if member.process:
                member.kill()


def _enrol(coordinator: Person, hospital: Person, name: str, fingerprint: str) -> None:
    hospital.type("roiae-client init")
    site = hospital.place / "DIR" / "site.yaml"
    own = yaml.safe_load(site.read_text())
    own |= {"threads": SITE_SETTINGS["threads"], "limits": own["limits"] | SITE_SETTINGS["limits"]}
    site.write_text(yaml.safe_dump(own))
    (coordinator.place / f"{name}.pub").write_bytes((hospital.place / "DIR" / f"{name}.pub").read_bytes())
    role = "held-out" if name == "c" else "source"
    coordinator.words |= {"hospital-a": name, "source": role}
    coordinator.type("roiae-server add-site")
    kit = coordinator.place / "DIR" / "kits" / f"{name}.kit.zip"
    (hospital.place / f"{name}.kit.zip").write_bytes(kit.read_bytes())
    hospital.words |= {" F": f" {fingerprint}"}
    hospital.type("roiae-client join")
