import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.data.site_data import SiteData
from roiae.errors import DataError
from roiae_client.answering.from_folder import open_site
from roiae_client.folder.check_record import checked_fingerprint, require_unchanged
from roiae_client.folder.hospital_folder import HospitalFolder
from tests.client.conftest import Command


@pytest.fixture
def client_folder(hospitals: Path, tmp_path: Path) -> Path:
    """A client folder whose site.yaml names a data folder beside it."""
    folder = tmp_path / "client"
    folder.mkdir()
    shutil.copytree(hospitals / "alpha", tmp_path / "data")
    (folder / "site.yaml").write_text("name: alpha\ndata: ../data\n")
    return folder


def test_check_of_a_data_folder_prints_a_table_and_writes_the_page_here(roiae_client: Command, hospitals: Path) -> None:
    before = sorted((hospitals / "alpha").rglob("*"))
    code, out, err = roiae_client(["check", str(hospitals / "alpha")])
    assert (code, err) == (0, "")
    assert re.search(r"PASS +unreadable", out)
    assert re.search(r"WARN +few-subjects +1", out)
    assert "(14 training subjects; 50 are needed). What to do: add subjects" in out
    assert (Path("check.html").stat().st_mode & 0o777) == 0o600
    assert "data:image/jpeg" in Path("check.html").read_text()
    assert sorted((hospitals / "alpha").rglob("*")) == before


def test_no_page_is_left_in_a_data_folder(
    roiae_client: Command, hospitals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hospitals / "alpha" / "images")
    code, _, err = roiae_client(["check", ".."])
    assert (code, "check.html would lie in the data folder" in err) == (4, True)


def test_check_as_json_is_findings_and_nothing_else(roiae_client: Command, hospitals: Path, tmp_path: Path) -> None:
    code, out, _ = roiae_client(["check", str(hospitals / "alpha"), "--json", "--html", str(tmp_path / "page.html")])
    findings = json.loads(out)["findings"]
    assert code == 0
    assert all(finding.keys() == {"code", "level", "count", "first"} for finding in findings)
    assert (tmp_path / "page.html").exists()


def test_what_would_stop_a_run_is_a_failure_with_its_name_on_this_machine_alone(
    roiae_client: Command, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.csv").write_text("image,subject,roi_x0,roi_y0,roi_x1,roi_y1\nlost.png,S1,0,0,5,5\n")
    code, out, err = roiae_client(["check", str(site), "--json"])
    unreadable = json.loads(out)["findings"][0]
    assert unreadable == {"code": "unreadable", "level": "FAIL", "count": 1, "first": ["manifest.csv:2"]}
    assert (code, "unreadable: lost.png: no such file" in err, "lost.png" in out) == (4, True, False)
    assert "Traceback" not in err


def test_check_refuses_an_impossible_size(roiae_client: Command, hospitals: Path) -> None:
    code, _, err = roiae_client(["check", str(hospitals / "alpha"), "--image-size", "100"])
    assert (code, "multiple of 32" in err) == (3, True)


def test_check_refuses_a_page_that_cannot_be_written_before_it_reads(roiae_client: Command, hospitals: Path) -> None:
    for page, reason in (("absent/page.html", "its folder does not exist"), (".", "is a folder"), ("/", "is a folder")):
        code, _, err = roiae_client(["check", str(hospitals / "alpha"), "--html", page])
        assert (code, reason in err) == (4, True)


def test_a_client_folder_remembers_the_fingerprint_that_passed(
    roiae_client: Command, client_folder: Path, cache_dir: Path
) -> None:
    assert checked_fingerprint(client_folder) is None
    code, _, _ = roiae_client(["check", str(client_folder)])
    data = SiteData.open(client_folder.parent / "data", image_size=256, cache_dir=cache_dir)
    assert (code, checked_fingerprint(client_folder)) == (0, data.fingerprint)
    assert sorted(path.name for path in client_folder.iterdir()) == ["check.html", "check.json", "site.yaml"]


def test_changed_data_have_another_fingerprint_than_the_one_checked(
    roiae_client: Command, client_folder: Path, cache_dir: Path
) -> None:
    roiae_client(["check", str(client_folder)])
    manifest = client_folder.parent / "data" / "manifest.csv"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-1]) + "\n")
    data = SiteData.open(client_folder.parent / "data", image_size=256, cache_dir=cache_dir)
    assert checked_fingerprint(client_folder) != data.fingerprint


def test_data_that_fail_count_as_not_checked(roiae_client: Command, client_folder: Path) -> None:
    roiae_client(["check", str(client_folder)])
    (client_folder.parent / "data" / "images" / "0001.png").write_bytes(b"")
    code, _, _ = roiae_client(["check", str(client_folder)])
    assert (code, checked_fingerprint(client_folder)) == (4, None)


@pytest.mark.parametrize(("share", "code", "level"), [("0.1", 0, "WARN"), ("0.05", 4, "FAIL")])
def test_the_share_of_bad_frames_that_site_yaml_allows_is_a_warning(
    roiae_client: Command, client_folder: Path, cache_dir: Path, share: str, code: int, level: str
) -> None:
    with (client_folder / "site.yaml").open("a") as settings:
        settings.write(f"max_bad_share: {share}\n")
    (client_folder.parent / "data" / "images" / "0001.png").write_bytes(b"")  # one of 16
    ended, out, _ = roiae_client(["check", str(client_folder)])
    assert (ended, bool(re.search(rf"{level} +unreadable +1", out))) == (code, True)
    data = SiteData.open(client_folder.parent / "data", image_size=256, cache_dir=cache_dir, max_bad_share=0.1)
    assert checked_fingerprint(client_folder) == (data.fingerprint if code == 0 else None)


def test_subjects_are_counted_against_the_privacy_of_site_yaml(roiae_client: Command, client_folder: Path) -> None:
    with (client_folder / "site.yaml").open("a") as settings:
        settings.write("privacy: {min_subjects: 12}\n")
    _, out, _ = roiae_client(["check", str(client_folder)])
    assert re.search(r"PASS +few-subjects", out)


@pytest.mark.parametrize(
    ("settings", "level"),
    [("", "WARN"), ("limits: {min_frames: 14}\n", "PASS"), ("role: held-out\n", "PASS")],
    ids=["by default", "allowed", "held out"],
)
def test_a_hospital_that_would_refuse_to_train_is_told_before(
    roiae_client: Command, client_folder: Path, settings: str, level: str
) -> None:
    """It has 14 frames to train on; limits.min_frames is 20."""
    with (client_folder / "site.yaml").open("a") as file:
        file.write(settings)
    _, out, _ = roiae_client(["check", str(client_folder)])
    assert re.search(rf"{level} +few-to-train", out)
    told = "14 training frames of 14 subjects; 20 frames and 10 subjects are needed"
    assert (told in " ".join(out.split())) == (level == "WARN")


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ("", "WARN"),
        ("limits: {min_frames: 2, min_subjects: 2}\n", "PASS"),
        ("role: held-out\n", "WARN"),
        ("role: held-out\nlimits: {min_frames: 16}\n", "PASS"),
    ],
    ids=["by default", "allowed", "held out", "held out, all frames count"],
)
def test_a_hospital_that_would_refuse_to_evaluate_is_told_before(
    roiae_client: Command, client_folder: Path, settings: str, level: str
) -> None:
    """It has 2 of 16 frames to validate on. Its refusal would come after the last round, when the training is over."""
    with (client_folder / "site.yaml").open("a") as file:
        file.write(settings)
    _, out, _ = roiae_client(["check", str(client_folder)])
    assert re.search(rf"{level} +few-to-evaluate", out)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": 3}', "half a rec"])
def test_a_damaged_record_counts_as_not_checked(tmp_path: Path, content: str) -> None:
    (tmp_path / "check.json").write_text(content)
    assert checked_fingerprint(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["", "name: alpha\n", "data: 3\n", "data: [\n", "- data\n", "data: !!python/none x\n"]
)
def test_a_client_folder_without_data_is_described(roiae_client: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "site.yaml").write_text(content)
    code, _, err = roiae_client(["check", str(tmp_path)])
    assert (code, "site.yaml" in err, "Traceback" in err) == (3, True, False)


def test_data_that_changed_since_their_check_are_not_trained_on(roiae_client: Command, client_folder: Path) -> None:
    roiae_client(["check", str(client_folder)])
    checked = checked_fingerprint(client_folder)
    assert checked is not None

    require_unchanged(client_folder, checked)
    with pytest.raises(DataError, match="have changed since they were checked"):
        require_unchanged(client_folder, "another")


def test_a_run_asks_for_a_new_check_of_changed_data_and_goes_on_after_it(
    roiae_client: Command, client_folder: Path
) -> None:
    with (client_folder / "site.yaml").open("a") as settings:
        settings.write("role: source\n")
    folder = HospitalFolder.open(client_folder)
    roiae_client(["check", str(client_folder)])
    open_site(folder, 192, folder.config)
    shutil.copy(client_folder.parent / "data/images/0002.png", client_folder.parent / "data/images/0001.png")
    with pytest.raises(DataError, match=r"have changed since they were checked\. Type `roiae-client check"):
        open_site(folder, 192, folder.config)
    (client_folder.parent / "data/images/0001.png").write_bytes(b"")
    with (client_folder / "site.yaml").open("a") as settings:
        settings.write("max_bad_share: 0.1\n")
    folder = HospitalFolder.open(client_folder)
    assert roiae_client(["check", str(client_folder)])[0] == 0
    open_site(folder, 192, folder.config)


def test_data_that_passed_no_check_are_trained_on_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_unchanged(tmp_path, "any")

    assert "have passed no check" in caplog.text


def test_import_then_check_is_the_whole_way_in(roiae_client: Command, hospitals: Path, tmp_path: Path) -> None:
    shutil.copytree(hospitals / "alpha" / "images", tmp_path / "frames")
    header, *rows = (hospitals / "alpha" / "manifest.csv").read_text().splitlines()
    assert header.startswith("image,subject,roi_x0,roi_y0,roi_x1,roi_y1")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(["fname,subject,w_min,h_min,w_max,h_max", *(",".join(r.split(",")[:6]) for r in rows)]))
    code, out, err = roiae_client(
        ["import", str(tmp_path / "frames"), "--boxes", str(boxes), "--to", str(tmp_path / "s")]
    )
    assert (code, err) == (0, "")
    assert f"{tmp_path / 's'}: 16 frames. Next" in out
    code, out, _ = roiae_client(["check", str(tmp_path / "s")])
    assert (code, "FAIL" in out) == (0, False)


def test_the_next_command_can_be_pasted_whatever_the_folders_name(
    roiae_client: Command, hospitals: Path, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n0001.png,1,2,30,40\n")
    site = tmp_path / "a b"
    _, out, _ = roiae_client(["import", str(hospitals / "alpha"), "--boxes", str(boxes), "--to", str(site)])
    assert shlex.split(out.strip().rpartition("Next: ")[2]) == ["roiae-client", "check", str(site)]


def test_what_files_do_not_say_is_said_by_options(roiae_client: Command, hospitals: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n0001.png,10.5,20.5,50.5,60.5\n")
    arguments = ["import", str(hospitals / "alpha"), "--boxes", str(boxes), "--to", str(tmp_path / "site")]
    code, _, err = roiae_client(arguments)
    assert (code, "--unit percent or --unit px" in err) == (4, True)
    assert roiae_client([*arguments, "--unit", "percent", "--keep-files"])[0] == 0
    assert (
        (tmp_path / "site" / "manifest.csv").read_text().splitlines()[1].startswith("images/000001.png,frame-000001,")
    )


def test_import_lists_what_it_set_aside(roiae_client: Command, hospitals: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\n0001.png,1,2,30,40\n[red]lost.png,1,2,3,4\n")
    arguments = ["import", str(hospitals / "alpha"), "--boxes", str(boxes), "--to", str(tmp_path / "site")]
    code, out, err = roiae_client(arguments)
    assert (code, out) == (4, "")
    assert "1 of 2 frames with a box cannot be used" in err
    assert not (tmp_path / "site").exists()
    code, out, err = roiae_client([*arguments, "--max-bad-share", "0.5"])
    assert (code, err) == (0, "")
    assert "set aside: [red]lost.png: no such file in the source." in out


def test_the_zoo_ends_in_one_message(roiae_client: Command, hospitals: Path, tmp_path: Path) -> None:
    spoils: dict[str, Callable[[Path], object]] = {
        "path": lambda site: (site / "manifest.csv").write_text(
            "image,subject,roi_x0,roi_y0,roi_x1,roi_y1\n../a,S,1,2,3,4\n"
        ),
        "table": lambda site: (site / "manifest.csv").write_bytes(b"\xff\xfe\0"),
        "image": lambda site: (site / "images" / "0001.png").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200),
    }
    for name, spoil in spoils.items():
        shutil.copytree(hospitals / "alpha", tmp_path / name)
        spoil(tmp_path / name)
        code, _, err = roiae_client(["check", str(tmp_path / name)])
        assert (code, "Traceback" in err, err.startswith("roiae-client: ")) == (4, False, True)
