"""A hospital's data, ready to train on: frames of the model's size, their ROIs, and the split by subject."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from roiae.data.cache import FORMAT_VERSION, CachedFrames, Decoded, cached_frames, default_cache_dir
from roiae.data.frames import read_frame, square_frame
from roiae.data.geometry import resize_boxes
from roiae.data.manifest import MANIFEST, ManifestRow, read_manifest
from roiae.data.splits import assign_splits
from roiae.errors import DataError, FrameError

__all__ = ["FrameSet", "SetAside", "SiteData", "default_cache_dir", "find_sites"]

_BAD_FRAMES_NAMED = 5


@dataclass(frozen=True)
class FrameSet:
    """Frames of one split at one site, in the manifest's order."""

    frames: NDArray[np.uint8]  # [N, S, S], memory-mapped, read-only
    rois: NDArray[np.int64]  # [N, 4], x0, y0, x1, y1 in pixels of the resized frame, end exclusive
    subjects: tuple[str, ...]
    mm_per_px: NDArray[np.float64]  # [N, 2], x and y of the resized frame; nan where the manifest does not say

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, part: slice) -> "FrameSet":
        return FrameSet(self.frames[part], self.rois[part], self.subjects[part], self.mm_per_px[part])

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Frames [B, 1, S, S] float32, intensity in [0, 1], and their ROIs [B, 4] int64."""
        frames = torch.from_numpy(self.frames[indices])[:, None].float().div_(255)
        return frames, torch.from_numpy(self.rois[indices])


@dataclass(frozen=True)
class SetAside:
    """A row of the manifest whose frame cannot be used."""

    image: Path
    line: int
    reason: str


@dataclass(frozen=True)
class SiteData:
    """A site's two splits, the frames that were set aside, and a name for the content."""

    train: FrameSet
    validation: FrameSet
    set_aside: tuple[SetAside, ...]
    fingerprint: str  # SHA-256 of images, boxes, subjects, splits and pixel sizes, wherever the folder lies

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        image_size: int,
        cache_dir: Path,
        validation_share: float = 0.2,
        max_bad_share: float = 0.0,
        on_frame: Callable[[int, int], None] | None = None,
    ) -> "SiteData":
        """Check a site's folder, decode what the cache lacks, and divide it by subject. Writes to the cache alone.

        Args:
            folder: may be read-only.
            image_size: S, the side of the model's square, in pixels.
            cache_dir: where decoded frames are kept, outside the folder.
            validation_share: expected share of the subjects that validate, where the manifest does not say.
            max_bad_share: share of the frames that may be set aside because they cannot be used.
            on_frame: called after each decoded frame with the frames done and the frames in all.

        Raises:
            DataError: the folder is no site, its manifest is impossible (ManifestError), more frames than
                `max_bad_share` cannot be used (FrameError), a split is empty, or the cache cannot be kept.
        """
        manifest_rows = read_manifest(folder)
        manifest_splits = assign_splits(folder / MANIFEST, manifest_rows, validation_share)
        # Training first, otherwise in the manifest's order, so that each split is one slice of the memory map.
        pairs = sorted(zip(manifest_rows, manifest_splits, strict=True), key=lambda pair: pair[1] == "validation")
        rows = [row for row, _ in pairs]
        fingerprint = _digest([[_file_digest(r.image), r.box, r.subject, split, r.mm_per_px] for r, split in pairs])
        key = _digest([FORMAT_VERSION, PIL.__version__, image_size, fingerprint])
        cached = cached_frames(cache_dir, key, image_size, _decode(rows, image_size, on_frame))

        bad = [SetAside(rows[place].image, rows[place].line, reason) for place, reason in cached.reasons.items()]
        set_aside = tuple(sorted(bad, key=lambda aside: aside.line))
        _check_bad_share(folder, set_aside, len(rows), max_bad_share)
        kept = [pair for place, pair in enumerate(pairs) if place not in cached.reasons]
        frames = _frame_set([row for row, _ in kept], cached, image_size)
        trained_on = sum(split == "train" for _, split in kept)
        _check_both_sides(folder, trained_on, len(kept) - trained_on)
        return cls(frames[:trained_on], frames[trained_on:], set_aside, fingerprint)


def find_sites(folder: Path) -> dict[str, Path]:
    """The sites below a folder, one subfolder a hospital: name → folder, sorted by name.

    Raises:
        DataError: the folder is missing, or no subfolder holds a manifest.csv.
    """
    expected = f"Expected one subfolder a hospital, each with {MANIFEST} and its images."
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. {expected}")
    sites = {manifest.parent.name: manifest.parent for manifest in sorted(folder.glob(f"*/{MANIFEST}"))}
    if not sites:
        is_site = f" It is a site itself: give {folder.resolve().parent}." if (folder / MANIFEST).is_file() else ""
        raise DataError(f"{folder}: no hospital inside. {expected}{is_site}")
    return sites


def _decode(
    rows: Sequence[ManifestRow], side: int, on_frame: Callable[[int, int], None] | None
) -> Iterator[Decoded | str]:
    for done, row in enumerate(rows, start=1):
        try:
            frame = read_frame(row.image)
            height, width = frame.shape
            _check_box(row.box, width, height)
            yield Decoded(square_frame(frame, side), (width, height))
        except FrameError as error:
            yield str(error).removeprefix(f"{row.image}: ")  # the cache outlives the folder's place
        if on_frame is not None:
            on_frame(done, len(rows))


def _check_box(box: tuple[int, int, int, int], width: int, height: int) -> None:
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise FrameError(f"ROI {box} holds no pixel. Boxes are x0,y0,x1,y1 with x0 < x1 and y0 < y1, end exclusive.")
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise FrameError(
            f"ROI {box} lies outside the frame ({width}×{height} px). "
            "Boxes are x0,y0,x1,y1 in pixels of the stored frame; check whether rows and columns were swapped."
        )


def _check_bad_share(folder: Path, bad: Sequence[SetAside], frames: int, max_bad_share: float) -> None:
    if len(bad) / frames <= max_bad_share:
        return
    named = [f"  {MANIFEST}:{aside.line}: {aside.image.name}: {aside.reason}" for aside in bad[:_BAD_FRAMES_NAMED]]
    if len(bad) > len(named):
        named.append(f"  … and {len(bad) - len(named)} more")
    raise FrameError(
        f"{folder}: {len(bad)} of {frames} frames cannot be used; the share allowed is {max_bad_share:g}.\n"
        + "\n".join(named)
        + "\nCorrect these rows or images, or allow a share of bad frames to be set aside."
    )


def _check_both_sides(folder: Path, train: int, validation: int) -> None:
    if train == 0 or validation == 0:
        raise DataError(
            f"{folder}: {train} frames to train on and {validation} to validate on; expected some of both. "
            f"Add subjects, or state each row's side in a column 'split' of {MANIFEST}."
        )


def _frame_set(rows: Sequence[ManifestRow], cached: CachedFrames, side: int) -> FrameSet:
    boxes = np.array([row.box for row in rows], dtype=np.int64).reshape(-1, 4)
    stored_mm = np.array([row.mm_per_px for row in rows], dtype=np.float64)  # None becomes nan
    return FrameSet(
        frames=cached.frames,
        rois=resize_boxes(boxes, cached.sizes, side),
        subjects=tuple(row.subject for row in rows),
        mm_per_px=stored_mm[:, None] * cached.sizes / side,
    )


def _file_digest(path: Path) -> str:
    """SHA-256 of a file; nothing where it cannot be read, which decoding then explains."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
