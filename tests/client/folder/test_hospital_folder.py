import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from roiae.config import Role
from roiae.errors import ConfigError, DataError, SetupError
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.keys import create_key, load_private, read_public
from roiae_client.folder import hospital_folder as client_folder
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.site_config import ALLOWED_BY_DEFAULT, SiteConfig, read_site_config
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from tests.signing import new_signer


@pytest.fixture
def site(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "site", "hospital-a", None)


@pytest.fixture
def coordinator(tmp_path: Path) -> CoordinatorFolder:
    return CoordinatorFolder.create(tmp_path / "coordinator", "fl.example.org", 8443, "nt-europe")


def contents(site: HospitalFolder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in site.path.iterdir() if file.is_file()}


def enrol(coordinator: CoordinatorFolder, site: HospitalFolder, role: Role = Role.SOURCE) -> tuple[Path, str]:
    """The site's kit and the CA's fingerprint."""
    keys, name = read_public(site.public_keys)
    kit = coordinator.add_site(name, role, keys)
    return kit, ca_fingerprint(coordinator.ca_certificate.read_bytes())


def test_a_new_folder_has_two_keys_and_the_file_to_send(site: HospitalFolder) -> None:
    keys, comment = read_public(site.public_keys)

    assert site.public_keys.name == "hospital-a.pub"
    private = [load_private(path).public_key() for path in (site.reply_key, site.node_key)]
    assert (list(keys), comment) == (private, "hospital-a")
    assert site.private_key().public_key() == keys.reply
    assert site.path.stat().st_mode & 0o777 == 0o700
    assert not site.joined


def test_the_settings_are_written_out_with_what_they_mean(site: HospitalFolder) -> None:
    text = (site.path / "site.yaml").read_text()

    assert read_site_config(site.path) == SiteConfig(name="hospital-a", data=site.path / "data")
    assert "  # stops one step from outgrowing all others" in text
    assert "\n    train: 200\n" in text
    assert yaml.safe_load(text)["limits"]["requests"] == sorted(ALLOWED_BY_DEFAULT)


def test_a_named_data_folder_is_kept_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)

    site = HospitalFolder.create(Path("site"), "hospital-a", Path("images"))

    assert site.config.data == tmp_path / "images"
    assert not (tmp_path / "site" / "data").exists()


def test_a_missing_data_folder_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        HospitalFolder.create(tmp_path / "site", "hospital-a", tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_name_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--name Hospital A"):
        HospitalFolder.create(tmp_path / "site", "Hospital A", None)
    assert list(tmp_path.iterdir()) == []


def test_a_second_init_keeps_the_key(site: HospitalFolder) -> None:
    before = contents(site)

    with pytest.raises(SetupError, match="its keys are kept"):
        HospitalFolder.create(site.path, "hospital-a", None)
    assert contents(site) == before


def test_a_disk_without_room_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(client_folder, "write_atomically", full)

    with pytest.raises(SetupError, match="No space left"):
        HospitalFolder.create(tmp_path / "site", "hospital-a", None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SetupError, match="not a hospital's folder"):
            HospitalFolder.open(path)


def test_who_has_not_joined_is_told_how(site: HospitalFolder) -> None:
    with pytest.raises(SetupError, match=r"has not joined a federation yet\. Type `roiae-client join"):
        _ = site.kit


def test_a_joined_site_knows_its_federation_and_role(site: HospitalFolder, coordinator: CoordinatorFolder) -> None:
    kit, fingerprint = enrol(coordinator, site, Role.HELD_OUT)

    site.join(kit, fingerprint)

    opened = HospitalFolder.open(site.path)
    assert (opened.kit.address, opened.config.role) == ("fl.example.org:8443", Role.HELD_OUT)
    assert opened.ca_certificate.read_bytes() == coordinator.ca_certificate.read_bytes()


def test_joining_again_changes_nothing(site: HospitalFolder, coordinator: CoordinatorFolder) -> None:
    kit, fingerprint = enrol(coordinator, site)
    site.join(kit, fingerprint)
    before = contents(site)

    site.join(kit, fingerprint)

    assert contents(site) == before


@pytest.mark.parametrize(
    ("line", "joined"),
    [
        ("role: null", "role: source"),
        ("role:", "role: source"),
        ("role: ~   # agreed by letter", "role: source   # agreed by letter"),
        ("role: source # ours", "role: source # ours"),
    ],
)
def test_the_role_is_filled_in_and_every_other_line_stays(
    site: HospitalFolder, coordinator: CoordinatorFolder, line: str, joined: str
) -> None:
    path = site.path / "site.yaml"
    text = path.read_text().replace("role: null", line) + "# our own note: role: null\n"
    path.write_text(text)
    kit, fingerprint = enrol(coordinator, site)

    HospitalFolder.open(site.path).join(kit, fingerprint)

    assert path.read_text() == text.replace(line, joined, 1)


def test_a_role_whose_line_was_deleted_is_added(site: HospitalFolder, coordinator: CoordinatorFolder) -> None:
    path = site.path / "site.yaml"
    path.write_text(path.read_text().replace("role: null\n", "").rstrip())
    kit, fingerprint = enrol(coordinator, site)

    HospitalFolder.open(site.path).join(kit, fingerprint)

    assert read_site_config(site.path).role is Role.SOURCE


def test_settings_that_cannot_be_edited_are_left_to_their_owner(
    site: HospitalFolder, coordinator: CoordinatorFolder
) -> None:
    (site.path / "site.yaml").write_text("{name: hospital-a, data: data}\n")
    kit, fingerprint = enrol(coordinator, site)
    before = contents(site)

    with pytest.raises(SetupError, match=r"Write `role: source` there"):
        HospitalFolder.open(site.path).join(kit, fingerprint)
    assert contents(site) == before


Spoil = Callable[[HospitalFolder, CoordinatorFolder, Path], tuple[Path, str] | None]


def _other_hospitals_kit(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> tuple[Path, str]:
    other = HospitalFolder.create(site.path.with_name("other"), "hospital-b", None)
    return enrol(coordinator, other)


def _other_coordinators_kit(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> tuple[Path, str]:
    other = CoordinatorFolder.create(site.path.with_name("foreign"), "evil.example.org", 8443, "nt-europe")
    return enrol(other, site)[0], ca_fingerprint(coordinator.ca_certificate.read_bytes())


def _rotated_key(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> None:
    site.rotate()


def _open_key(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> None:
    site.reply_key.chmod(0o644)


def _other_role(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> None:
    path = site.path / "site.yaml"
    path.write_text(path.read_text().replace("role: null", "role: held-out"))


def _cut_kit(site: HospitalFolder, coordinator: CoordinatorFolder, kit: Path) -> None:
    kit.write_bytes(kit.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_other_hospitals_kit, "is the kit of hospital-b; this hospital is hospital-a"),
        (_other_coordinators_kit, "do not use it"),
        (_rotated_key, "is for other keys"),
        (_open_key, "chmod 600"),
        (_other_role, r"enrols this hospital as source; site\.yaml says held-out"),
        (_cut_kit, "is damaged"),
    ],
)
def test_a_wrong_kit_changes_nothing(
    site: HospitalFolder, coordinator: CoordinatorFolder, spoil: Spoil, message: str
) -> None:
    kit, fingerprint = enrol(coordinator, site)
    kit, fingerprint = spoil(site, coordinator, kit) or (kit, fingerprint)
    before = contents(site)

    with pytest.raises(SetupError, match=message):
        HospitalFolder.open(site.path).join(kit, fingerprint)
    assert contents(site) == before


def test_a_folder_serves_one_federation(site: HospitalFolder, coordinator: CoordinatorFolder, tmp_path: Path) -> None:
    site.join(*enrol(coordinator, site))
    other = CoordinatorFolder.create(tmp_path / "other", "other.example.org", 8443, "nt-asia")
    before = contents(site)

    with pytest.raises(SetupError, match="has joined another federation"):
        site.join(*enrol(other, site))
    assert contents(site) == before


def test_rotated_keys_replace_the_old_ones_whole(site: HospitalFolder) -> None:
    before = site.keys
    (site.path / "node.key.new").write_text("torn by a crash")

    site.rotate()

    assert not any(key in before for key in site.keys)
    assert read_public(site.public_keys) == (site.keys, "hospital-a")
    assert not list(site.path.glob("*.new"))


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_a_rotation_that_is_killed_never_leaves_a_mix_that_looks_whole(
    site: HospitalFolder, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    before = site.keys
    steps = iter(range(1, 6))  # two keys made, two put in place, the public file written

    def until(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            if next(steps) == after:
                raise KeyboardInterrupt
            return step(*arguments)

        return run

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(client_folder, "create_key", until(create_key))
        patched.setattr(Path, "replace", until(Path.replace))
        site.rotate()

    if after <= 3:
        assert site.keys == before
    else:
        with pytest.raises(SetupError, match=r"do not belong together.*Type `roiae-client rotate"):
            _ = site.keys
    site.rotate()
    assert not any(key in before for key in site.keys)


def test_a_rotation_without_room_keeps_the_old_key(site: HospitalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise SetupError(f"{path}: cannot be written (No space left on device).")

    before = contents(site)
    monkeypatch.setattr(client_folder, "create_key", full)

    with pytest.raises(SetupError, match="No space left"):
        site.rotate()
    assert contents(site) == before


def test_a_site_with_rotated_keys_has_to_join_again(site: HospitalFolder, coordinator: CoordinatorFolder) -> None:
    site.join(*enrol(coordinator, site))
    site.rotate()

    with pytest.raises(SetupError, match="the keys were rotated"):
        _ = site.kit

    kit = coordinator.replace_keys("hospital-a", Role.SOURCE, read_public(site.public_keys)[0])
    site.join(kit, ca_fingerprint(coordinator.ca_certificate.read_bytes()))
    assert site.kit.site == "hospital-a"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda kit: kit | {"request_key": new_signer().certificate.model_dump()}, "not certified by this federation"),
        (lambda kit: {name: value for name, value in kit.items() if name != "request_key"}, "names no request key"),
    ],
)
def test_a_kit_whose_request_key_was_exchanged_afterwards_is_told(
    site: HospitalFolder,
    coordinator: CoordinatorFolder,
    spoil: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
) -> None:
    site.join(*enrol(coordinator, site))
    path = site.path / "kit.json"
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))

    with pytest.raises(SetupError, match=message):
        _ = site.kit
