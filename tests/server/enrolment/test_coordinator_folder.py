import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from roiae.config import Role, build_config, descriptions, flatten, read_settings
from roiae.errors import ConfigError, ServiceError, SetupError
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.kit import read_kit
from roiae_server.enrolment import coordinator_folder
from roiae_server.enrolment.coordinator_folder import CoordinatorConfig, CoordinatorFolder
from tests.signing import new_keys


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "coordinator", "fl.example.org", 8443, "nt-europe")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_new_folder_opens_again(folder: CoordinatorFolder) -> None:
    opened = CoordinatorFolder.open(folder.path)

    assert opened.config == CoordinatorConfig(federation="nt-europe", host="fl.example.org", port=8443)
    assert opened.sites == {}


def test_the_run_configuration_is_valid_and_shows_the_defaults(folder: CoordinatorFolder) -> None:
    assert folder.run_config == build_config({"control": False})
    text = (folder.path / "federation.yaml").read_text()
    assert "# federated rounds\n  rounds: 60" in text


def test_every_setting_of_the_coordinator_is_described(folder: CoordinatorFolder) -> None:
    described = dict(descriptions(CoordinatorConfig))

    assert [key for key, _ in flatten(read_settings(folder.path / "coordinator.yaml"))] == list(described)
    assert all(described.values())


def test_nobody_else_can_open_the_folder(folder: CoordinatorFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == folder.pki.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("host", "port", "name", "key"),
    [
        ("https://fl", 8443, "x", "host"),
        ("fl", 0, "x", "port"),
        ("fl", 99_999, "x", "port"),
        ("fl", 1, "A b", "federation"),
    ],
)
def test_an_impossible_federation_leaves_no_folder(tmp_path: Path, host: str, port: int, name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"init: {key}: "):
        CoordinatorFolder.create(tmp_path / "new", host, port, name)
    assert list(tmp_path.iterdir()) == []


def test_a_second_federation_does_not_replace_the_first(folder: CoordinatorFolder) -> None:
    before = contents(folder.path)

    with pytest.raises(SetupError, match="its keys are kept"):
        CoordinatorFolder.create(folder.path, "fl.example.org", 8443, "other")
    assert contents(folder.path) == before


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SetupError, match="not a coordinator's folder"):
            CoordinatorFolder.open(path)


def test_an_unknown_setting_is_refused(folder: CoordinatorFolder) -> None:
    with (folder.path / "coordinator.yaml").open("a") as file:
        file.write("prot: 8444\n")

    with pytest.raises(ConfigError, match=r"coordinator\.yaml: prot"):
        CoordinatorFolder.open(folder.path)


@pytest.mark.parametrize("name", ["ca.key", "server.key", "federation.key"])
def test_a_missing_private_key_is_named(folder: CoordinatorFolder, name: str) -> None:
    (folder.pki / name).unlink()

    with pytest.raises(SetupError, match=rf"{name}: cannot be opened \(No such file"):
        CoordinatorFolder.open(folder.path)


@pytest.mark.parametrize("name", ["ca.key", "server.key", "federation.key"])
def test_a_private_key_that_others_can_open_is_refused(folder: CoordinatorFolder, name: str) -> None:
    (folder.pki / name).chmod(0o644)

    with pytest.raises(SetupError, match=rf"chmod 600 .*{name}"):
        CoordinatorFolder.open(folder.path)


def test_a_damaged_list_of_sites_is_refused(folder: CoordinatorFolder) -> None:
    (folder.path / "sites.json").write_text('{"hospital-a": {}}')

    with pytest.raises(SetupError, match=r"sites\.json: cannot be used"):
        _ = folder.sites


def test_an_added_site_has_a_kit_for_its_keys(folder: CoordinatorFolder) -> None:
    keys = new_keys()

    path = folder.add_site("hospital-a", Role.SOURCE, keys)

    kit = read_kit(path).unseal(ca_fingerprint(folder.ca_certificate.read_bytes()))
    assert (kit.site, kit.role, kit.site_fingerprint) == ("hospital-a", Role.SOURCE, keys.fingerprint)
    assert (kit.federation, kit.address) == ("nt-europe", "fl.example.org:8443")
    assert CoordinatorFolder.open(folder.path).sites["hospital-a"].keys == keys


def test_another_site_changes_neither_certificates_nor_kits(folder: CoordinatorFolder) -> None:
    folder.add_site("hospital-a", Role.SOURCE, new_keys())
    before = contents(folder.path)

    folder.add_site("hospital-b", Role.SOURCE, new_keys())

    after = contents(folder.path)
    assert {name for name in after if after[name] != before.get(name)} == {"sites.json", "kits/hospital-b.kit.zip"}


def test_a_refused_site_changes_nothing(folder: CoordinatorFolder) -> None:
    folder.add_site("hospital-a", Role.SOURCE, new_keys())
    before = contents(folder.path)

    with pytest.raises(SetupError):
        folder.add_site("hospital-a", Role.SOURCE, new_keys())
    with pytest.raises(SetupError):
        folder.replace_keys("hospital-b", Role.SOURCE, new_keys())
    assert contents(folder.path) == before


def test_replaced_keys_come_with_a_new_kit(folder: CoordinatorFolder) -> None:
    folder.add_site("hospital-a", Role.SOURCE, new_keys())
    keys = new_keys()

    path = folder.replace_keys("hospital-a", Role.SOURCE, keys)

    kit = read_kit(path).unseal(ca_fingerprint(folder.ca_certificate.read_bytes()))
    assert kit.site_fingerprint == folder.sites["hospital-a"].keys.fingerprint == keys.fingerprint


def test_a_renewed_request_key_is_in_every_kit_and_touches_nothing_else(folder: CoordinatorFolder) -> None:
    kit = folder.add_site("hospital-a", Role.SOURCE, new_keys())
    before, ca = contents(folder.path), ca_fingerprint(folder.ca_certificate.read_bytes())
    assert read_kit(kit).unseal(ca).request_key == folder.load_signer().certificate

    assert folder.renew_request_key() == 2

    assert read_kit(kit).unseal(ca).request_key == folder.load_signer().certificate
    after = contents(folder.path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"pki/federation.key", "pki/federation.json", "kits/hospital-a.kit.zip"}


def test_a_removed_site_is_gone_for_whoever_holds_the_folder_open(folder: CoordinatorFolder) -> None:
    kit = folder.add_site("hospital-a", Role.SOURCE, new_keys())
    service = CoordinatorFolder.open(folder.path)

    folder.remove_site("hospital-a")

    assert service.sites == {}
    assert not kit.exists()


def test_a_folder_that_another_command_holds_is_waited_for_and_then_refused(
    folder: CoordinatorFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_folder, "LOCK_PATIENCE", 0.05)

    with FileLock(folder.path / ".lock"), pytest.raises(ServiceError, match="another roiae-server command"):
        folder.add_site("hospital-a", Role.SOURCE, new_keys())
    assert folder.sites == {}


def test_the_lock_of_a_dead_command_holds_nobody_up(folder: CoordinatorFolder) -> None:
    hold_and_die = (
        "import os, signal, sys; from filelock import FileLock\n"
        "FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = subprocess.run([sys.executable, "-c", hold_and_die, folder.path / ".lock"], check=False)
    assert command.returncode == -signal.SIGKILL and (folder.path / ".lock").exists()

    folder.add_site("hospital-a", Role.SOURCE, new_keys())

    assert list(folder.sites) == ["hospital-a"]


def test_commands_at_the_same_time_all_count(folder: CoordinatorFolder) -> None:
    names = [f"hospital-{letter}" for letter in "abcd"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: folder.add_site(name, Role.SOURCE, new_keys()), names))

    assert list(folder.sites) == names


def test_a_disk_without_room_enrols_nobody(folder: CoordinatorFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(coordinator_folder, "write_atomically", full)

    with pytest.raises(SetupError, match=r"hospital-a\.kit\.zip: cannot be written \(No space left on device\)"):
        folder.add_site("hospital-a", Role.SOURCE, new_keys())
    assert folder.sites == {}
