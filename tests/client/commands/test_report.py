"""`roiae-client report`: a hospital looks at a finished model on its own frames."""

import socket
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from roiae.data.site_data import SiteData
from roiae.method.metrics import Evaluation, NtAgreement
from roiae.method.training import score
from roiae.wire.contract import Arrays
from roiae_client.report import page as page_module
from roiae_client.report.readings import read_frames, scored_sets
from tests.client.conftest import Command
from tests.conftest import SIDE
from tests.shared.method.test_exported import write_exported
from tests.web_page import Page, assert_loads_nothing, assert_readable_by_ear


@pytest.fixture
def exported(initial: Arrays, tmp_path: Path) -> Path:
    return write_exported(tmp_path / "model", initial)


@pytest.fixture
def hospital(hospitals: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "hospital"
    folder.mkdir()
    (folder / "site.yaml").write_text(
        f"name: alpha\nrole: source\ndevice: cpu\nthreads: 1\ndata: {hospitals / 'alpha'}\n"
    )
    return folder


def test_the_page_shows_the_hospitals_frames_and_is_its_owners_alone(
    roiae_client: Command, hospital: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("nothing is sent")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    code, out, err = roiae_client(["report", str(hospital), "--run", str(exported)])

    assert (code, err) == (0, "")
    assert "shows patients and stays here" in out
    written = hospital / "report.html"
    assert written.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in hospital.iterdir()) == ["report.html", "site.yaml"]
    content = written.read_bytes()
    page = Page(content)
    assert_loads_nothing(content)
    assert_readable_by_ear(page)
    images = list(page.all("img"))
    assert 0 < len(images) <= page_module.PICTURES
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") and image["alt"] for image in images)
    assert any("stays in the hospital" in text for text in page.texts_in("strong"))
    assert str(written) in page.texts_in("code")
    assert sum(attributes.get("role") == "img" for attributes in page.all("svg")) >= 4


def test_a_page_of_a_held_out_hospital_is_of_all_its_frames(
    roiae_client: Command, hospital: Path, exported: Path
) -> None:
    site = hospital / "site.yaml"
    site.write_text(site.read_text().replace("source", "held-out"))

    code, out, err = roiae_client(["report", str(hospital), "--run", str(exported), "--html", "own.html"])

    assert (code, err) == (0, "")
    assert "own.html: 16 frames" in out
    assert "none of which was trained on" in Path("own.html").read_text()


def test_frame_by_frame_adds_up_to_what_the_coordinator_is_told(
    hospitals: Path, cache_dir: Path, exported: Path
) -> None:
    from roiae.method.exported import read_exported

    model = read_exported(exported).model
    data = SiteData.open(hospitals / "alpha", image_size=SIDE, cache_dir=cache_dir)
    seen: list[tuple[int, int]] = []

    readings = read_frames(model, scored_sets(data, None), lambda done, total: seen.append((done, total)))

    told = Evaluation()
    for split in (data.validation, data.train):
        quality, of_nt = score(model, split, 4)
        told += Evaluation(quality, sum((reading for reading, _ in of_nt), NtAgreement()))
    total = sum((reading.evaluation for reading in readings), Evaluation())
    np.testing.assert_allclose(list(total.to_sums().values()), list(told.to_sums().values()), rtol=1e-4)
    assert seen == [(done, 16) for done in range(1, 17)]
    assert [reading.of.subjects[reading.place] for reading in readings] == [
        *data.validation.subjects,
        *data.train.subjects,
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "--run", "{exported}"], 9, "holds no site.yaml"),
        (["{hospital}", "--run", "{hospital}"], 9, "is no exported model"),
        (["{hospital}", "--run", "{exported}", "--html", "{exported}/settings.json"], 9, "exists already"),
        (["{hospital}", "--run", "{exported}", "--html", "no/such/place.html"], 9, "its folder does not exist"),
    ],
)
def test_a_wrong_input_is_one_message(
    roiae_client: Command, hospital: Path, exported: Path, arguments: list[str], code: int, message: str
) -> None:
    typed = [part.format(hospital=hospital, exported=exported) for part in arguments]

    found, out, err = roiae_client(["report", *typed])

    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert not (hospital / "report.html").exists()


def test_data_that_cannot_be_read_is_said_as_everywhere(roiae_client: Command, hospital: Path, exported: Path) -> None:
    (hospital / "site.yaml").write_text("name: alpha\ndata: nowhere\n")

    code, _, err = roiae_client(["report", str(hospital), "--run", str(exported)])

    assert (code, "no such folder" in err) == (4, True)
