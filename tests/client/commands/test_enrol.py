"""A hospital's commands as they are typed: what they end by saying, their exit codes, what they leave alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.config import Role
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.keys import read_public
from roiae_client.cli import main
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder

Type = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> Type:
    """Types `roiae-client …`; returns code, output, error."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-client", *line.split()])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def kit(client: Type) -> str:
    """hospital-a in DIR, enrolled: its kit lies at k.zip; returns the CA's fingerprint as openssl spells it."""
    assert client("init DIR --name hospital-a")[0] == 0
    coordinator = CoordinatorFolder.create(Path("coordinator"), "fl.example.org", 8443, "nt-europe")
    coordinator.add_site("hospital-a", Role.SOURCE, read_public(Path("DIR/hospital-a.pub"))[0]).rename("k.zip")
    digits = ca_fingerprint(coordinator.ca_certificate.read_bytes()).replace(":", "")
    return ":".join(digits[at : at + 2] for at in range(0, 64, 2))


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_init_shows_the_fingerprint_and_says_who_types_what(client: Type) -> None:
    code, out, _ = client("init DIR --name hospital-a")

    assert code == 0
    assert f"\n  {HospitalFolder.open(Path('DIR')).fingerprint}\n" in out
    assert "Send DIR/hospital-a.pub to the coordinator" in out
    assert "roiae-server add-site DIR hospital-a.pub --role source" in out
    assert "roiae-client join DIR hospital-a.kit.zip --ca-fingerprint F" in out


def test_join_says_where_and_what_comes_next(client: Type, kit: str) -> None:
    code, out, _ = client(f"join DIR k.zip --ca-fingerprint {kit}")

    assert code == 0
    assert "hospital-a has joined the federation nt-europe at fl.example.org:8443 as source." in out
    assert "roiae-client check DIR" in out and "roiae-client start DIR" in out


def test_rotate_shows_the_new_fingerprint_and_asks_for_replace(client: Type, kit: str) -> None:
    client(f"join DIR k.zip --ca-fingerprint {kit}")

    code, out, _ = client("rotate DIR")

    assert code == 0
    assert f"\n  {HospitalFolder.open(Path('DIR')).fingerprint}\n" in out
    assert "roiae-server add-site DIR hospital-a.pub --role source --replace" in out


@pytest.mark.parametrize(
    ("line", "expected", "message"),
    [
        ("init DIR --name hospital-a", 9, "its keys are kept"),
        ("init NEW --name Hospital-A", 3, "--name Hospital-A"),
        ("init NEW --name hospital-a --data nowhere", 4, "nowhere: is not a folder"),
        ("join MISSING k.zip --ca-fingerprint FP", 9, "not a hospital's folder"),
        ("join DIR missing.zip --ca-fingerprint FP", 9, "No such file"),
        ("join DIR DIR/site.yaml --ca-fingerprint FP", 9, "is damaged, or not a kit"),
        ("join DIR k.zip --ca-fingerprint 9F02:41AB", 9, "do not use it"),
        ("rotate MISSING", 9, "not a hospital's folder"),
    ],
)
def test_wrong_input_is_one_message_and_changes_nothing(
    client: Type, kit: str, line: str, expected: int, message: str
) -> None:
    before = files()

    code, _, err = client(line.replace("FP", kit))

    assert (code, message in err, "Traceback" in err) == (expected, True, False)
    assert files() == before


def test_a_key_that_others_can_open_does_not_join(client: Type, kit: str) -> None:
    Path("DIR/node.key").chmod(0o644)
    before = files()

    code, _, err = client(f"join DIR k.zip --ca-fingerprint {kit}")

    assert (code, "chmod 600 DIR/node.key" in err) == (9, True)
    assert files() == before


def test_a_path_with_a_space_can_be_pasted_from_what_a_command_says(
    tmp_path: Path, run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hospital a"
    run_main(main, ["roiae-client", "init", str(folder), "--name", "hospital-a"])
    assert f"roiae-client join '{folder}' hospital-a.kit.zip" in capfd.readouterr().out
