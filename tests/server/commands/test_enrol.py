"""The coordinator's commands as they are typed: what they end by saying, their exit codes, what they leave alone."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.config import Role
from roiae.identity.keys import create_key
from roiae_server.cli import main
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from tests.signing import new_keys

Type = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> Type:
    """Types `roiae-server …` in a folder with hospital-a.pub and a private key; returns code, output, error."""
    monkeypatch.chdir(tmp_path)
    create_key(Path("private"))
    Path("hospital-a.pub").write_text(new_keys().lines("hospital-a"))

    def run(line: str) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-server", *line.split()])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def initialised(server: Type) -> Type:
    assert server("init DIR --host fl.example.org")[0] == 0
    return server


def test_init_reads_out_the_fingerprint_and_says_who_types_what(server: Type) -> None:
    code, out, _ = server("init DIR --host fl.example.org --port 443 --name nt-europe")

    assert code == 0
    assert re.search(r"^  ([0-9A-F]{4}:){15}[0-9A-F]{4}$", out, flags=re.M)
    assert "roiae-client init DIR --name NAME" in out and "roiae-server add-site DIR NAME.pub --role source" in out
    assert CoordinatorFolder.open(Path("DIR")).config.model_dump() == {
        "federation": "nt-europe",
        "host": "fl.example.org",
        "port": 443,
    }


def test_add_site_shows_both_fingerprints_and_where_the_kit_goes(initialised: Type) -> None:
    code, out, _ = initialised("add-site DIR hospital-a.pub --role source")

    assert code == 0
    assert CoordinatorFolder.open(Path("DIR")).sites["hospital-a"].keys.fingerprint in out
    assert re.search(r"the CA +([0-9A-F]{4}:){15}[0-9A-F]{4}$", out, flags=re.M)
    assert "send DIR/kits/hospital-a.kit.zip to the hospital" in out
    assert "roiae-client join DIR hospital-a.kit.zip --ca-fingerprint F" in out


def test_a_name_may_be_given_where_the_file_has_lost_it(initialised: Type) -> None:
    Path("bare.pub").write_text(Path("hospital-a.pub").read_text().replace(" hospital-a", ""))

    assert initialised("add-site DIR bare.pub --role source")[0] == 9
    assert initialised("add-site DIR bare.pub --role source --name hospital-z")[0] == 0
    assert list(CoordinatorFolder.open(Path("DIR")).sites) == ["hospital-z"]


def test_replace_enrols_new_keys_under_the_old_name(initialised: Type) -> None:
    initialised("add-site DIR hospital-a.pub --role held-out")
    new = new_keys()
    Path("hospital-a.pub").write_text(new.lines("hospital-a"))

    assert initialised("add-site DIR hospital-a.pub --role held-out --replace")[0] == 0
    site = CoordinatorFolder.open(Path("DIR")).sites["hospital-a"]
    assert (site.role, site.keys) == (Role.HELD_OUT, new)


@pytest.mark.parametrize(
    ("line", "expected", "message"),
    [
        ("init DIR --host fl.example.org", 9, "its keys are kept"),
        ("init NEW --host https://fl.example.org", 3, "without https://"),
        ("add-site DIR hospital-a.pub --role source", 9, "is enrolled already"),
        ("add-site DIR hospital-a.pub --role source --name hospital-b", 9, "has a key of hospital-a"),
        ("add-site DIR hospital-a.pub --role held-out --replace", 9, "new keys do not change a role"),
        ("add-site DIR private --role source", 9, "has now been shown"),
        ("add-site DIR missing.pub --role source", 9, "No such file"),
        ("add-site DIR hospital-a.pub --role observer", 2, "observer"),
        ("add-site MISSING hospital-a.pub --role source", 9, "not a coordinator's folder"),
        ("remove-site DIR hospital-b", 9, "hospital-b: is not enrolled"),
        ("sites MISSING", 9, "not a coordinator's folder"),
        ("renew MISSING", 9, "not a coordinator's folder"),
        ("renew MISSING --request-key", 9, "not a coordinator's folder"),
        ("backup MISSING --to b.tar.gz", 9, "not a coordinator's folder"),
        ("backup DIR --to nowhere/b.tar.gz", 9, "was not written"),
    ],
)
def test_wrong_input_is_one_message_and_changes_nothing(
    initialised: Type, line: str, expected: int, message: str
) -> None:
    initialised("add-site DIR hospital-a.pub --role source")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"}

    code, _, err = initialised(line)

    assert (code, message in err, "Traceback" in err) == (expected, True, False)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_a_renewed_request_key_has_the_next_number_and_says_what_comes_next(initialised: Type) -> None:
    folder = CoordinatorFolder.open(Path("DIR"))
    before, certificate = folder.load_signer(), folder.server_certificate.read_bytes()

    code, out, _ = initialised("renew DIR --request-key")

    assert (code, "Request key 2 signs requests" in out, "No hospital needs a new kit" in out) == (0, True, True)
    assert "roiae-server stop DIR" in out
    after = folder.load_signer()
    assert (before.certificate.number, after.certificate.number) == (1, 2)
    assert after.key.public_key() != before.key.public_key()
    assert folder.server_certificate.read_bytes() == certificate


def test_a_ca_key_that_others_can_open_stops_every_command(initialised: Type) -> None:
    Path("DIR/pki/ca.key").chmod(0o640)

    for line in ("sites DIR", "renew DIR", "add-site DIR hospital-a.pub --role source", "backup DIR --to b.tar.gz"):
        code, _, err = initialised(line)
        assert (code, "chmod 600 DIR/pki/ca.key" in err) == (9, True)
    assert not Path("b.tar.gz").exists()


def test_sites_is_a_table_of_who_is_enrolled(initialised: Type) -> None:
    initialised("add-site DIR hospital-a.pub --role source")

    code, out, _ = initialised("sites DIR")

    site = CoordinatorFolder.open(Path("DIR")).sites["hospital-a"]
    head, row, *_ = (line.split() for line in out.splitlines())
    assert (code, head) == (0, ["name", "role", "fingerprint", "added"])
    assert row == ["hospital-a", "source", site.keys.fingerprint, str(site.added)]


def test_a_removed_site_can_be_taken_back(initialised: Type) -> None:
    initialised("add-site DIR hospital-a.pub --role source")

    code, out, _ = initialised("remove-site DIR hospital-a")

    assert (code, CoordinatorFolder.open(Path("DIR")).sites) == (0, {})
    assert "stays in the model" in out
    assert initialised("add-site DIR hospital-a.pub --role source")[0] == 0


def test_renew_takes_the_host_from_the_settings_and_keeps_the_ca(initialised: Type) -> None:
    settings = Path("DIR/coordinator.yaml")
    settings.write_text(settings.read_text().replace("fl.example.org", "new.example.org"))
    before = Path("DIR/pki/ca.crt").read_bytes()

    code, out, _ = initialised("renew DIR")

    assert code == 0 and re.search(r"new\.example\.org .* is good for 39[67] days, the CA for 365[12]", out)
    assert Path("DIR/pki/ca.crt").read_bytes() == before


def test_the_restore_that_backup_names_restores(initialised: Type) -> None:
    initialised("add-site DIR hospital-a.pub --role source")

    code, out, _ = initialised("backup DIR --to b.tar.gz")

    assert code == 0 and "private keys of the CA" in out
    (restore,) = re.findall(r"^  (mkdir .*)$", out, flags=re.M)
    subprocess.run(restore, shell=True, check=True)
    assert CoordinatorFolder.open(Path("NEW")).sites == CoordinatorFolder.open(Path("DIR")).sites
    assert Path("NEW").stat().st_mode & 0o777 == 0o700
