import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset

from roiae.config import PrivacyConfig
from roiae.console.doctor import Level
from roiae.data.dicom import read_header
from roiae.data.phantom import SCANNERS, draw_phantom, write_hospital
from roiae.data.site_data import SiteData
from roiae.errors import DataError, Fault
from roiae_client.checks.findings import RULES, CheckFinding, in_order
from roiae_client.checks.fitness import Needed
from roiae_client.checks.integrity import identical_pairs, near_pairs
from roiae_client.checks.page import render
from roiae_client.checks.privacy import identity_of
from roiae_client.checks.survey import survey
from tests.conftest import REAL_FRAMES
from tests.web_page import Page, assert_loads_nothing, assert_readable_by_ear

ROOT = Path(__file__).parents[3]
Found = Callable[[Path], dict[str, CheckFinding]]


def test_the_documentation_lists_every_code_with_its_level() -> None:
    table = re.findall(r"^\| `([\w-]+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs/DATA.md").read_text(), re.M)
    assert table == [(code, rule.level, rule.means, rule.remedy) for code, rule in RULES.items()]


def test_every_fault_of_reading_is_a_code() -> None:
    assert set(Fault) <= set(RULES)


def test_a_good_hospital_passes_and_has_the_fingerprint_of_a_run(tmp_path: Path, cache_dir: Path) -> None:
    write_hospital(tmp_path / "site", SCANNERS[0], subjects=16, seed=1)
    result = survey(tmp_path / "site", image_size=192, cache_dir=cache_dir)
    assert result.passed
    assert {finding.level for finding in result.findings if not finding.count} == {Level.PASS}
    assert set(RULES) - {finding.code for finding in result.findings} == {
        "roi-scaled",
        "roi-unlikely",
        "overlay",
        "calipers",
    }
    assert result.reading is not None
    data = SiteData.open(tmp_path / "site", image_size=192, cache_dir=cache_dir)
    assert result.reading.fingerprint == data.fingerprint


def test_what_a_broken_table_hides_does_not_pass(tmp_path: Path, cache_dir: Path) -> None:
    assert [f.code for f in survey(tmp_path, image_size=192, cache_dir=cache_dir).findings] == ["manifest"]


def test_a_second_survey_decodes_nothing(site: Path, cache_dir: Path) -> None:
    steps: list[str] = []
    for _ in range(2):
        steps.clear()
        survey(site, image_size=192, cache_dir=cache_dir, on_step=lambda name, done, total: steps.append(name))
    assert steps == ["looking"]


def test_a_missing_folder_is_an_error(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder"):
        survey(tmp_path / "absent", image_size=192, cache_dir=cache_dir)


def test_several_broken_rows_are_one_finding_with_their_lines(site: Path, found: Found) -> None:
    text = (site / "manifest.csv").read_text().replace("S03", "").replace("f05.png", "../f05.png")
    (site / "manifest.csv").write_text(text)
    (finding,) = (finding for code, finding in found(site).items() if code == "manifest")
    assert (finding.count, finding.first) == (2, ["manifest.csv:5", "manifest.csv:7"])


def test_json_tells_lines_and_no_name(site: Path, found: Found) -> None:
    (site / "f04.png").write_bytes(b"")
    finding = found(site)["unreadable"]
    assert finding.as_json() == {"code": "unreadable", "level": "FAIL", "count": 1, "first": ["manifest.csv:6"]}
    assert "f04.png" in finding.notes[0]


def test_the_gravest_findings_come_first() -> None:
    given = [("text", 2), ("unreadable", 3), ("unreadable", 4)]
    findings = in_order([CheckFinding(code, 1, (line,)) for code, line in given])
    assert [(f.code, f.count) for f in findings] == [("unreadable", 2), ("text", 1)]


def test_near_pairs_are_those_of_a_full_table_of_distances() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.random((300, 255)) < 0.5
    for like_3 in (41, 170, 290):
        hashes[like_3] = hashes[3] ^ (rng.random(255) < 0.05)
    digests = [f"d{place % 290}" for place in range(300)]
    subjects = [f"S{place % 129}" for place in range(300)]  # 41 and 170 are of one, 3 and 290 of two others
    splits = ["train"] * 280 + ["validation"] * 20
    distances = (hashes[:, None] != hashes[None]).sum(axis=2)
    near = [(int(i), int(j)) for i, j in np.argwhere(distances <= 32) if digests[i] != digests[j]]
    expected = [
        [(i, min(b for a, b in apart if a == i)) for i in sorted({a for a, _ in apart})]
        for side in (subjects, splits)
        for apart in [[(a, b) for a, b in near if side[a] != side[b]]]
    ]
    assert near_pairs(hashes, digests, (subjects, splits)) == expected
    assert expected == [[(3, 41), (41, 3), (170, 3), (290, 3)], [(3, 290), (41, 290), (170, 290), (290, 3)]]


def test_frames_that_all_look_alike_give_a_pair_each_and_no_more() -> None:
    hashes = np.zeros((3000, 255), dtype=np.bool_)
    places = range(len(hashes))
    (pairs,) = near_pairs(hashes, places, (places,))
    assert pairs == [(0, 1), *((place, 0) for place in places[1:])]


def test_three_copies_are_not_near_duplicates_as_well(site: Path, found: Found) -> None:
    for copy in ("f01.png", "f02.png"):
        shutil.copy(site / "f00.png", site / copy)
    findings = found(site)
    assert findings["duplicate-across-subjects"].lines == (2, 3, 4)
    assert "near-duplicate-across-subjects" not in findings


def test_unusable_frames_are_a_warning_exactly_where_a_run_sets_them_aside(site: Path, cache_dir: Path) -> None:
    (site / "f04.png").write_bytes(b"")
    (site / "manifest.csv").write_text((site / "manifest.csv").read_text().replace("S07,5,6", "S07,39,6"))
    for share, level in ((2 / 12, Level.WARN), (1 / 12, Level.FAIL), (0.0, Level.FAIL)):
        result = survey(site, image_size=192, cache_dir=cache_dir, max_bad_share=share)
        findings = {finding.code: finding for finding in result.findings}
        assert {findings[code].level for code in ("unreadable", "roi-degenerate")} == {level}
        if level is Level.WARN:
            assert "sets these frames aside" in findings["unreadable"].remedy
            SiteData.open(site, image_size=192, cache_dir=cache_dir, max_bad_share=share)
        else:
            with pytest.raises(DataError, match="2 of 12 frames cannot be used"):
                SiteData.open(site, image_size=192, cache_dir=cache_dir, max_bad_share=share)


def test_a_swapped_box_that_fits_its_frame_is_never_set_aside(site: Path) -> None:
    aside, kept = CheckFinding("roi-swapped", 1, (2,), set_aside=True), CheckFinding("roi-swapped", 1, (3,))
    assert [aside.level, kept.level, aside.joined(kept).level] == [Level.WARN, Level.FAIL, Level.FAIL]
    assert aside.joined(CheckFinding("roi-swapped")).level is Level.WARN


def test_the_page_says_whether_the_data_are_ready(site: Path, cache_dir: Path) -> None:
    assert "Ready for a run: 0 codes with FAIL, 2 with WARN" in render(
        survey(site, image_size=192, cache_dir=cache_dir)
    )
    (site / "f04.png").write_bytes(b"")
    assert "Not ready for a run: 1 codes with FAIL" in render(survey(site, image_size=192, cache_dir=cache_dir))


def test_what_a_statistic_needs_is_what_the_site_says(site: Path, cache_dir: Path) -> None:
    needed = Needed(PrivacyConfig(min_subjects=10, min_scored_frames=1))
    result = survey(site, image_size=192, cache_dir=cache_dir, needed=needed)
    assert not {"few-subjects", "few-frames"} & {finding.code for finding in result.findings if finding.count}


@pytest.mark.parametrize(
    ("frames", "subjects", "count"), [(10, 10, 0), (11, 10, 1), (10, 11, 1)], ids=["enough", "frames", "subjects"]
)
def test_a_site_is_told_that_it_would_refuse_to_train(
    site: Path, cache_dir: Path, frames: int, subjects: int, count: int
) -> None:
    """Ten frames of ten subjects are left to train on."""
    result = survey(
        site, image_size=192, cache_dir=cache_dir, needed=Needed(train_frames=frames, train_subjects=subjects)
    )
    (finding,) = (finding for finding in result.findings if finding.code == "few-to-train")
    assert finding.count == count
    assert result.passed


def test_identical_frames_are_paired_with_the_first() -> None:
    assert identical_pairs(["a", "b", "a", "c", "a", "b"]) == [(0, 2), (0, 4), (1, 5)]


def test_overlay_is_what_stays_in_place(tmp_path: Path, found: Found) -> None:
    plain, labelled = SCANNERS[3], SCANNERS[0]
    for name, scanner in (("plain", plain), ("labelled", labelled)):
        write_hospital(tmp_path / name, scanner, subjects=24, seed=1)
    assert {"text", "overlay"} <= set(found(tmp_path / "labelled"))
    assert "text" not in found(tmp_path / "plain")


def test_a_header_that_names_someone_is_pointed_at_by_keyword(
    site: Path, write_dicom: Callable[..., Path], found: Found
) -> None:
    nested = Dataset()
    nested.PatientName = "Doe^Jane"
    path = write_dicom(draw_phantom(SCANNERS[3], 1, side=64).frame, RequestAttributesSequence=[nested])
    shutil.copy(path, site / "f00.png")
    findings = found(site)
    assert findings["header-identity"].lines == findings["identity-not-removed"].lines == (2,)
    assert findings["header-identity"].notes == ("f00.png: PatientBirthDate, PatientID, PatientName",)
    assert not any("Doe" in note or "4711" in note for finding in findings.values() for note in finding.notes)


def test_a_header_that_cannot_be_understood_is_not_taken_for_anonymous(write_dicom: Callable[..., Path]) -> None:
    path = write_dicom(np.zeros((4, 4), np.uint8), RequestAttributesSequence=[Dataset()])
    whole = path.read_bytes()
    place = whole.index(b"\x40\x00\x75\x02SQ") + 8
    path.write_bytes(whole[:place] + b"\x10\0\0\0" + whole[place + 4 :])
    identity = identity_of(read_header(path))
    assert identity.keywords
    assert not identity.removed


def test_dummies_may_stay_where_identity_was_removed(write_dicom: Callable[..., Path]) -> None:
    header = pydicom.dcmread(write_dicom(np.zeros((4, 4), np.uint8), PatientIdentityRemoved="YES"))
    assert identity_of(header).keywords == ()
    header.InstitutionName = "Charité"
    assert identity_of(header).keywords == ("InstitutionName",)


def test_a_small_site_is_told_what_the_statistics_need(site: Path, found: Found) -> None:
    findings = found(site)
    privacy = PrivacyConfig()
    assert f"10 training subjects; {privacy.min_subjects} are needed" in findings["few-subjects"].notes[0]
    assert f"scores need {privacy.min_scored_frames}" in findings["few-frames"].notes[0]


def test_the_page_is_one_file_that_loads_nothing(site: Path, cache_dir: Path) -> None:
    (site / "f04.png").write_bytes(b"")
    page = render(survey(site, image_size=192, cache_dir=cache_dir))
    assert page.count("data:image/jpeg;base64,") == 11
    assert "stays in the hospital" in page
    assert_loads_nothing(page.encode())
    assert_readable_by_ear(Page(page.encode()))


def test_a_name_in_the_page_is_text_and_not_markup(site: Path, cache_dir: Path) -> None:
    evil = "<img src=x onerror=alert(1)>.png"
    (site / "f04.png").rename(site / evil)
    (site / "manifest.csv").write_text((site / "manifest.csv").read_text().replace("f04.png", evil))
    page = render(survey(site, image_size=192, cache_dir=cache_dir))
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page


def test_the_page_of_an_unreadable_table_says_so(tmp_path: Path, cache_dir: Path) -> None:
    assert "no manifest.csv" in render(survey(tmp_path, image_size=192, cache_dir=cache_dir))


@pytest.mark.real_frames
@pytest.mark.skipif(not REAL_FRAMES.is_dir(), reason="no real NT frames at ../shared/data/nt beside the checkout")
def test_the_real_sites_pass_and_their_overlays_are_seen(cache_dir: Path) -> None:
    for site in ("ge_a", "ge_b", "philips"):
        result = survey(REAL_FRAMES / site, image_size=256, cache_dir=cache_dir)
        assert {finding.code for finding in result.findings if finding.count} == {"text", "overlay", "calipers"}
        counts = {finding.code: finding.count for finding in result.findings}
        assert result.reading is not None
        assert counts["text"] >= 0.9 * len(result.reading.rows)


@pytest.mark.real_frames
@pytest.mark.skipif(not REAL_FRAMES.is_dir(), reason="no real NT frames at ../shared/data/nt beside the checkout")
def test_a_real_frame_saved_again_under_another_name_is_a_near_duplicate(tmp_path: Path, found: Found) -> None:
    shutil.copytree(REAL_FRAMES / "ge_b", tmp_path / "ge_b")
    first, second = sorted((tmp_path / "ge_b" / "images").iterdir())[:2]
    Image.open(first).convert("L").save(tmp_path / "again.jpg", quality=70)
    shutil.copy(tmp_path / "again.jpg", second)
    assert found(tmp_path / "ge_b")["near-duplicate-across-subjects"].count == 2
