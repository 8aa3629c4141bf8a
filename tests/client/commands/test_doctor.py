import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from roiae.config import ModelConfig, Role
from roiae.console.doctor import Level
from roiae.identity.keys import PrivateKey
from roiae.identity.kit import PROTOCOL, Kit
from roiae_client.answering.ledger import Head, Ledger
from roiae_client.cli import main
from roiae_client.commands.doctor import check_data, examine
from roiae_client.folder.hospital_folder import HospitalFolder
from tests.client.service.test_connectivity import Gateway
from tests.scripted_server import serving
from tests.signing import new_signer


@pytest.fixture
def folder(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hospital's folder that has joined nothing yet."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROIAE_CACHE", str(tmp_path / "cache"))
    return HospitalFolder.create(tmp_path / "own", "alpha", hospitals / "alpha").path


def write_kit(folder: Path, ca: trustme.CA, port: int = 1) -> None:
    authority = load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(authority, PrivateKey)
    kit = Kit(
        protocol=PROTOCOL,
        roiae="1.0",
        federation="nt",
        host="127.0.0.1",
        port=port,
        site="alpha",
        role=Role.SOURCE,
        site_fingerprint=HospitalFolder.open(folder).fingerprint,
        request_key=new_signer(4, authority, "nt").certificate,
    )
    (folder / "kit.json").write_text(kit.model_dump_json())


def failures(folder: Path) -> list[str]:
    return [finding.what for finding in examine(folder) if finding.level is Level.FAIL]


def test_a_hospital_in_order_has_no_failure(
    folder: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.crt")
    leaf = ca.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(90))
    with serving(Gateway, leaf) as port:
        write_kit(folder, ca, port)
        code = run_main(main, ["roiae-client", "doctor", str(folder)])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "FAIL" not in said
    assert "16 frames" in said
    assert "with request key 4 of the federation's CA" in said
    assert "ledger: 0 lines" in said
    assert "Next: roiae-client start" in said


def test_each_failure_is_shown_with_its_fix_and_ends_with_13(
    folder: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(main, ["roiae-client", "doctor", str(folder)]) == 13
    shown = capsys.readouterr()
    assert "has not joined a federation" in shown.out
    assert "→ roiae-client join" in shown.out
    assert "1 of the checks failed" in shown.err


def test_a_key_that_others_can_read_fails(folder: Path) -> None:
    (folder / "node.key").chmod(0o640)

    assert any("others can read or write this private key (mode 0640)" in text for text in failures(folder))


def test_a_folder_that_others_can_write_fails(folder: Path) -> None:
    folder.chmod(0o770)

    assert any("others can write this folder (mode 0770)" in text for text in failures(folder))


def test_a_damaged_kit_fails(folder: Path) -> None:
    (folder / "kit.json").write_text("{}")

    assert any("kit.json: is damaged" in text for text in failures(folder))


def test_a_wrong_site_yaml_is_one_finding_among_the_others(folder: Path) -> None:
    (folder / "site.yaml").write_text("nam: alpha\n")

    assert len(failures(folder)) == 2  # and it has not joined


def test_a_kit_whose_request_key_is_another_cas_fails(folder: Path) -> None:
    ca = trustme.CA()
    write_kit(folder, ca)
    trustme.CA().cert_pem.write_to_path(folder / "ca.crt")

    assert any("its request key is not certified by this federation's CA" in text for text in failures(folder))


def test_a_ledger_head_that_the_coordinator_claims_and_that_is_not_here_fails(folder: Path) -> None:
    ledger = Ledger(folder / "ledger.jsonl")
    said: dict[str, Any] = {"run": "run", "kind": "train", "arrays": {}, "metrics": ()}
    ledger.append(request="r1", reason="bad-request", claimed=Head(9, "c" * 64), **said)
    ledger.close()

    assert any("ledger: the coordinator says that it has seen line 9" in text for text in failures(folder))


def test_an_altered_ledger_fails(folder: Path) -> None:
    (folder / "ledger.jsonl").write_text("{}\n")

    assert any("line 1: was altered" in text for text in failures(folder))


def test_a_device_that_this_machine_has_not_is_a_finding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with (folder / "site.yaml").open("a") as settings:
        settings.write("device: cuda\n")

    assert any("cuda: this machine has none" in text for text in failures(folder))


def test_images_that_are_gone_are_counted_and_not_named(hospitals: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(hospitals / "alpha", data)
    gone = next(data.rglob("*.png"))
    gone.unlink()

    (finding, *_) = check_data(data)

    assert (finding.level, finding.what) == (Level.FAIL, "data: 1 of 16 images cannot be read by this user")


def test_the_forecast_is_of_the_model_that_will_be_trained(hospitals: Path) -> None:
    _, disk, memory = check_data(hospitals / "alpha", ModelConfig(image_size=1024))

    assert "forecast 17 MB for the cache of 16 frames at 1024 px" in disk.what
    assert "forecast 2." in memory.what


def test_a_loosened_limit_is_a_warning_with_what_it_gives_away(folder: Path) -> None:
    shipped = [finding for finding in examine(folder) if finding.what.startswith("limits: ")]
    settings = (folder / "site.yaml").read_text()
    (folder / "site.yaml").write_text(f"{settings}limits: {{max_learning_rate: 0.01, min_frames: 5}}\n")

    loosened = [finding for finding in examine(folder) if finding.what.startswith("limits: ")]

    assert [finding.level for finding in shipped] == [Level.PASS]
    assert [(finding.level, finding.what[:45]) for finding in loosened] == [
        (Level.WARN, "limits: max_learning_rate 0.01 is above 0.003"),
        (Level.WARN, "limits: min_frames 5 is below 20: a number th"),
    ]
