import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
import trustme

from roiae.config import ModelConfig
from roiae.doctor import Level
from roiae_client.cli import main
from roiae_client.doctor import check_data, examine
from tests.client.test_reach import Gateway
from tests.scripted_server import serving


@pytest.fixture
def folder(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hospital's folder that has joined nothing yet."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROIAE_CACHE", str(tmp_path / "cache"))
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    (own / "site.yaml").write_text(f"name: alpha\ndata: {hospitals / 'alpha'}\n")
    (own / "key").touch(mode=0o600)
    return own


def failures(folder: Path) -> list[str]:
    return [finding.what for finding in examine(folder) if finding.level is Level.FAIL]


def test_a_hospital_in_order_has_no_failure(
    folder: Path, run_main: Callable[[Callable[[], None], list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.crt")
    leaf = ca.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(90))
    with serving(Gateway, leaf) as port:
        (folder / "kit.json").write_text(json.dumps({"host": "127.0.0.1", "port": port, "site": "alpha"}))
        code = run_main(main, ["roiae-client", "doctor", str(folder)])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "FAIL" not in said
    assert "16 frames" in said
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
    (folder / "key").chmod(0o640)

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
