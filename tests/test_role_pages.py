"""docs/COORDINATOR.md and docs/HOSPITAL.md: what each role types, and the settings a hospital reads."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.config import descriptions, flatten, read_settings
from roiae.identity.certificates import ca_fingerprint
from roiae_client.cli import main as client_main
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.site_config import SiteConfig
from roiae_server.cli import main as server_main
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("COORDINATOR.md", "HOSPITAL.md")


def commands(page: str) -> list[str]:
    """The lines of a page's block of commands."""
    (block,) = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(), flags=re.S | re.M)
    return str(block).splitlines()


def command(page: str, beginning: str) -> str:
    (line,) = [line for line in commands(page) if line.startswith(beginning)]
    return line


@pytest.mark.parametrize("page", PAGES)
def test_a_role_has_at_most_ten_commands(page: str) -> None:
    assert 1 <= len(commands(page)) <= 10


def test_every_setting_of_a_hospital_is_documented_as_init_writes_it(tmp_path: Path) -> None:
    HospitalFolder.create(tmp_path / "DIR", "hospital-a", None)
    described = dict(descriptions(SiteConfig))
    rows = [
        f"| `{key}` | `{json.dumps(value)}` | {described[key]} |"
        for key, value in flatten(read_settings(tmp_path / "DIR" / "site.yaml"))
    ]

    assert re.findall(r"^\| `[\w.]+` \| `.*$", (DOCS / "HOSPITAL.md").read_text(), flags=re.M) == rows
    assert all(described.values())


def test_the_commands_of_enrolment_and_restore_work_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int]
) -> None:
    coordinator, hospital = tmp_path / "coordinator", tmp_path / "hospital"
    mains = {"roiae-server": server_main, "roiae-client": client_main}

    def type_at(place: Path, line: str) -> None:
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        program = line.split()[0]
        if program in mains:
            assert run_main(mains[program], line.split()) == 0
        else:
            subprocess.run(line, shell=True, check=True)

    type_at(hospital, command("HOSPITAL.md", "roiae-client init"))
    type_at(coordinator, command("COORDINATOR.md", "roiae-server init"))
    (hospital / "DIR" / "hospital-a.pub").rename(coordinator / "hospital-a.pub")
    type_at(coordinator, command("COORDINATOR.md", "roiae-server add-site"))
    type_at(coordinator, command("COORDINATOR.md", "roiae-server sites"))
    (coordinator / "DIR" / "kits" / "hospital-a.kit.zip").rename(hospital / "hospital-a.kit.zip")
    read_out = ca_fingerprint((coordinator / "DIR" / "pki" / "ca.crt").read_bytes())
    type_at(hospital, command("HOSPITAL.md", "roiae-client join").removesuffix("F") + read_out)
    type_at(coordinator, command("COORDINATOR.md", "roiae-server backup"))
    type_at(coordinator, command("COORDINATOR.md", "mkdir"))

    assert HospitalFolder.open(hospital / "DIR").kit.site == "hospital-a"
    restored = CoordinatorFolder.open(coordinator / "NEW")
    assert list(restored.sites) == ["hospital-a"]
    assert restored.ca_key.read_bytes() == CoordinatorFolder.open(coordinator / "DIR").ca_key.read_bytes()
