import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roiae.data.frames import read_frame
from roiae.data.site_data import SiteData, find_sites
from roiae.data.splits import split_of
from roiae.errors import DataError, FrameError

SIDE = 32
REAL_SITES = Path(__file__).parents[4] / "shared" / "data" / "nt"


def edit_manifest(site: Path, old: str, new: str) -> None:
    manifest = site / "manifest.csv"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))


def open_and_count(site: Path, cache_dir: Path, *, image_size: int = SIDE, max_bad_share: float = 0.0) -> int:
    """Opens the site and returns how many frames were decoded."""
    calls: list[tuple[int, int]] = []
    SiteData.open(
        site,
        image_size=image_size,
        cache_dir=cache_dir,
        max_bad_share=max_bad_share,
        on_frame=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 12) for done in range(1, len(calls) + 1)]
    return len(calls)


def test_each_split_holds_its_subjects_in_manifest_order(site: Path, cache_dir: Path) -> None:
    data = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    subjects = [f"S{index:02}" for index in range(12)]
    assert data.train.subjects == tuple(s for s in subjects if split_of(s) == "train")
    assert data.validation.subjects == tuple(s for s in subjects if split_of(s) == "validation")
    assert (len(data.train), len(data.validation), data.set_aside) == (10, 2, ())


def test_frames_are_the_images_at_the_models_size(site: Path, cache_dir: Path) -> None:
    data = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    for frames in (data.train, data.validation):
        for subject, frame in zip(frames.subjects, frames.frames, strict=True):
            stored = Image.fromarray(read_frame(site / f"f{subject[1:]}.png").pixels)
            expected = np.asarray(stored.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
            np.testing.assert_array_equal(frame, expected)


def test_rois_and_pixel_sizes_follow_the_resizing(site: Path, cache_dir: Path) -> None:
    edit_manifest(site, "roi_y1\nf00.png,S00,5,6,20,12\n", "roi_y1,mm_per_px\nf00.png,S00,5,6,20,12,0.1\n")
    text = (site / "manifest.csv").read_text()
    (site / "manifest.csv").write_text(text.replace("20,12\n", "20,12,\n"))
    train = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).train
    assert train.rois[0].tolist() == [4, 6, 16, 13]
    np.testing.assert_allclose(train.mm_per_px[0], [0.1 * 40 / SIDE, 0.1 * 30 / SIDE])
    assert np.isnan(train.mm_per_px[1:]).all()


def test_a_batch_is_scaled_to_one_and_does_not_touch_the_cache(site: Path, cache_dir: Path) -> None:
    train = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).train
    frames, rois = train.batch(np.array([3, 0]))
    assert (frames.shape, frames.dtype) == ((2, 1, SIDE, SIDE), torch.float32)
    assert (rois.shape, rois.dtype) == ((2, 4), torch.int64)
    np.testing.assert_array_equal(frames[0, 0].numpy(), train.frames[3].astype(np.float32) / 255)
    frames.zero_()
    rois.zero_()
    assert train.frames[3].any()
    assert train.rois.any()


def test_a_second_opening_decodes_nothing_and_gives_the_same(site: Path, cache_dir: Path) -> None:
    assert open_and_count(site, cache_dir) == 12
    assert open_and_count(site, cache_dir) == 0
    first, second = (SiteData.open(site, image_size=SIDE, cache_dir=cache_dir) for _ in range(2))
    np.testing.assert_array_equal(first.train.frames, second.train.frames)
    assert first.fingerprint == second.fingerprint


def test_the_same_content_elsewhere_is_the_same_site(site: Path, cache_dir: Path, tmp_path: Path) -> None:
    original = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    shutil.copytree(site, tmp_path / "copy")
    assert open_and_count(tmp_path / "copy", cache_dir) == 0
    assert SiteData.open(tmp_path / "copy", image_size=SIDE, cache_dir=cache_dir).fingerprint == original.fingerprint


@pytest.mark.parametrize(
    "edit",
    ["f00.png,S99,5,6,20,12,train,0.1", "f00.png,S00,5,6,20,12,validation,0.1", "f00.png,S00,5,6,20,12,train,0.2"],
)
def test_the_fingerprint_knows_subjects_splits_and_pixel_sizes(site: Path, cache_dir: Path, edit: str) -> None:
    text = (
        (site / "manifest.csv")
        .read_text()
        .replace("20,12\n", "20,12,,\n")
        .replace("roi_y1\n", "roi_y1,split,mm_per_px\n")
    )
    fingerprints = set()
    for row in ("f00.png,S00,5,6,20,12,train,0.1", edit):
        (site / "manifest.csv").write_text(text.replace("f00.png,S00,5,6,20,12,,", row))
        fingerprints.add(SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).fingerprint)
    assert len(fingerprints) == 2


def test_another_image_box_or_size_is_decoded_afresh(site: Path, cache_dir: Path) -> None:
    before = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    Image.new("L", (40, 30), 9).save(site / "f00.png")
    assert open_and_count(site, cache_dir) == 12
    edit_manifest(site, "f01.png,S01,5,6", "f01.png,S01,6,6")
    assert open_and_count(site, cache_dir) == 12
    assert open_and_count(site, cache_dir, image_size=64) == 12
    after = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    assert (after.train.frames[0] == 9).all()
    assert after.fingerprint != before.fingerprint


def test_a_damaged_cache_is_built_again(site: Path, cache_dir: Path) -> None:
    frames = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).train.frames.copy()
    (cache,) = cache_dir.glob("*.frames")
    cache.write_bytes(cache.read_bytes()[:5000])
    assert open_and_count(site, cache_dir) == 12
    np.testing.assert_array_equal(SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).train.frames, frames)


def test_nothing_is_written_to_the_data_folder(site: Path, cache_dir: Path) -> None:
    for path in (*site.iterdir(), site):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in (site, *site.rglob("*"))}
    SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    assert {path: path.stat().st_mtime_ns for path in (site, *site.rglob("*"))} == before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def test_a_missing_image_stops_with_its_name_and_line(site: Path, cache_dir: Path) -> None:
    (site / "f04.png").unlink()
    with pytest.raises(FrameError, match=r"1 of 12 frames .*\n  manifest\.csv:6: f04\.png: no such file"):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)


def test_a_truncated_image_stops_with_its_name_and_line(site: Path, cache_dir: Path) -> None:
    truncate(site / "f11.png")
    with pytest.raises(FrameError, match=r"manifest\.csv:13: f11\.png: cannot be read as an image"):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("5,6,41,12", r"ROI \(5, 6, 41, 12\) lies outside the frame \(40×30 px\)"),
        ("-1,6,20,12", "lies outside"),
        ("5,6,20,31", "lies outside"),
        ("20,6,5,12", "holds no pixel"),
        ("5,6,20,6", "holds no pixel"),
    ],
)
def test_an_impossible_box_stops_with_its_line(site: Path, cache_dir: Path, box: str, message: str) -> None:
    edit_manifest(site, "f03.png,S03,5,6,20,12", f"f03.png,S03,{box}")
    with pytest.raises(FrameError, match=rf"manifest\.csv:5: f03\.png: .*{message}"):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)


def test_a_box_up_to_the_border_is_fine(site: Path, cache_dir: Path) -> None:
    edit_manifest(site, "f00.png,S00,5,6,20,12", "f00.png,S00,0,0,40,30")
    assert SiteData.open(site, image_size=SIDE, cache_dir=cache_dir).train.rois[0].tolist() == [0, 0, SIDE, SIDE]


def test_many_bad_frames_are_counted_and_the_first_are_named(site: Path, cache_dir: Path) -> None:
    for index in range(7):
        truncate(site / f"f{index:02}.png")
    with pytest.raises(FrameError, match=r"7 of 12 .*0\.5(.|\n)*f00\.png(.|\n)*f04\.png(.|\n)*and 2 more"):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir, max_bad_share=0.5)


def test_an_allowed_share_of_bad_frames_is_set_aside_and_listed(site: Path, cache_dir: Path) -> None:
    whole = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)
    truncate(site / "f03.png")  # validates
    edit_manifest(site, "f04.png,S04,5", "f04.png,S04,30")  # trains
    for _ in range(2):  # decoded, then from the cache
        data = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir, max_bad_share=2 / 12)
        assert [(aside.line, aside.image.name) for aside in data.set_aside] == [(5, "f03.png"), (6, "f04.png")]
        assert "cannot be read as an image" in data.set_aside[0].reason
        assert "holds no pixel" in data.set_aside[1].reason
        np.testing.assert_array_equal(data.train.frames, np.delete(whole.train.frames, 3, axis=0))
        assert data.validation.subjects == ("S06",)
        assert len(data.train.rois) == len(data.train) == 9


def test_the_cache_does_not_soften_a_stricter_share(site: Path, cache_dir: Path) -> None:
    truncate(site / "f01.png")
    assert open_and_count(site, cache_dir, max_bad_share=0.5) == 12
    with pytest.raises(FrameError, match=r"f01\.png"):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir)


def test_a_reason_names_no_place_that_the_cache_could_outlive(site: Path, cache_dir: Path) -> None:
    truncate(site / "f01.png")
    (aside,) = SiteData.open(site, image_size=SIDE, cache_dir=cache_dir, max_bad_share=0.5).set_aside
    assert str(site) not in aside.reason


@pytest.mark.parametrize(
    ("share", "message"), [(0.0, "12 frames to train on and 0"), (1.0, "0 frames to train on and 12")]
)
def test_an_empty_split_is_refused(site: Path, cache_dir: Path, share: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SiteData.open(site, image_size=SIDE, cache_dir=cache_dir, validation_share=share)


def test_sites_are_the_subfolders_with_a_manifest(site: Path, tmp_path: Path) -> None:
    for name in ("zurich", "aachen"):
        shutil.copytree(site, tmp_path / "sites" / name)
    (tmp_path / "sites" / "notes").mkdir()
    (tmp_path / "sites" / "SOURCES.md").touch()
    sites = find_sites(tmp_path / "sites")
    assert list(sites.items()) == [(name, tmp_path / "sites" / name) for name in ("aachen", "zurich")]


def test_a_folder_without_sites_is_described(site: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder\. Expected one subfolder a hospital"):
        find_sites(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no hospital inside"):
        find_sites(tmp_path / "empty")
    with pytest.raises(DataError, match=r"site: no hospital inside\. .*It is a site itself"):
        find_sites(site)


@pytest.mark.real_frames
@pytest.mark.skipif(not REAL_SITES.is_dir(), reason="no real NT frames at ../shared/data/nt beside the checkout")
def test_three_real_hospitals_open_whole(cache_dir: Path) -> None:
    sites = {
        name: SiteData.open(folder, image_size=256, cache_dir=cache_dir)
        for name, folder in find_sites(REAL_SITES).items()
    }
    assert {name: len(data.train) + len(data.validation) for name, data in sites.items()} == {
        "ge_a": 200,
        "ge_b": 172,
        "philips": 151,
    }
    for data in sites.values():
        assert not set(data.train.subjects) & set(data.validation.subjects)
        sizes = data.train.rois[:, 2:] - data.train.rois[:, :2]
        assert sizes.min() > 0
        assert data.train.rois.min() >= 0
        assert data.train.rois.max() <= 256
