from collections.abc import Callable
from pathlib import Path

import pytest

from roiae.data.manifest import read_manifest
from roiae.data.splits import assign_splits, split_of
from roiae.errors import ManifestError

HEADER = "image,subject,roi_x0,roi_y0,roi_x1,roi_y1,split"
WriteManifest = Callable[[str], Path]


def splits(folder: Path, validation_share: float = 0.2) -> list[str]:
    return list(assign_splits(folder / "manifest.csv", read_manifest(folder), validation_share))


def test_a_subject_keeps_its_side_for_ever() -> None:
    # Pinned: a change would move subjects between the sides of every federation that runs.
    assert [number for number in range(12) if split_of(f"S{number:02}") == "validation"] == [3, 6]


def test_the_share_holds_on_average() -> None:
    validation = sum(split_of(f"subject {number}", 0.3) == "validation" for number in range(4000))
    assert validation / 4000 == pytest.approx(0.3, abs=0.03)


def test_a_larger_share_only_adds_subjects_to_validation() -> None:
    subjects = [f"S{number}" for number in range(200)]
    small = {subject for subject in subjects if split_of(subject, 0.1) == "validation"}
    large = {subject for subject in subjects if split_of(subject, 0.4) == "validation"}
    assert small < large


def test_adding_a_frame_moves_no_other(write_manifest: WriteManifest) -> None:
    rows = [f"f{number}.png,S{number // 2},0,0,1,1," for number in range(40)]
    before = splits(write_manifest("\n".join([HEADER, *rows])))
    after = splits(write_manifest("\n".join([HEADER, "new.png,S3,0,0,1,1,", *rows])))
    assert after[1:] == before
    assert after[0] == split_of("S3")


def test_a_stated_split_overrides_the_hash_for_all_rows_of_the_subject(write_manifest: WriteManifest) -> None:
    stated = "train" if split_of("A") == "validation" else "validation"
    folder = write_manifest(f"{HEADER}\na.png,A,0,0,1,1,\nb.png,A,0,0,1,1,{stated}\nc.png,B,0,0,1,1,\n")
    assert splits(folder) == [stated, stated, split_of("B")]


def test_a_subject_on_both_sides_is_named_with_its_lines(write_manifest: WriteManifest) -> None:
    folder = write_manifest(
        f"{HEADER}\na.png,A,0,0,1,1,train\nb.png,B,0,0,1,1,validation\nc.png,A,0,0,1,1,validation\nd.png,A,0,0,1,1,train\n"
    )
    with pytest.raises(ManifestError, match=r"manifest\.csv:2: subject 'A' .*train in line 2, 5, validation in line 4"):
        splits(folder)
