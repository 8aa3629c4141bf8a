"""A hospital's data, ready to train on: frames of the model's size, their ROIs, and the split by subject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roiae.data.cache import default_cache_dir
from roiae.data.manifest import MANIFEST, read_manifest
from roiae.data.reading import read_site
from roiae.data.splits import assign_splits
from roiae.errors import DataError, FrameError

__all__ = ["FrameSet", "SetAside", "SiteData", "default_cache_dir", "find_sites", "open_site"]

_BAD_FRAMES_NAMED = 5


@dataclass(frozen=True)
class FrameSet:
    """Frames of one split at one site, in the manifest's order."""

    frames: NDArray[np.uint8]  # [N, S, S], memory-mapped, read-only
    rois: NDArray[np.int64]  # [N, 4], x0, y0, x1, y1 in pixels of the resized frame, end exclusive
    subjects: tuple[str, ...]
    mm_per_px: NDArray[np.float64]  # [N, 2], x and y of the resized frame; nan where nothing says
    stored_px: NDArray[np.float64]  # [N, 2], width and height of its pixel in pixels of the stored frame

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, part: slice) -> "FrameSet":
        return FrameSet(
            self.frames[part], self.rois[part], self.subjects[part], self.mm_per_px[part], self.stored_px[part]
        )

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
        rows = read_manifest(folder)
        splits = assign_splits(folder / MANIFEST, rows, validation_share)
        reading = read_site(rows, splits, image_size=image_size, cache_dir=cache_dir, on_frame=on_frame)
        reasons = reading.cached.reasons
        bad = [SetAside(reading.rows[at].image, reading.rows[at].line, why.reason) for at, why in reasons.items()]
        set_aside = tuple(sorted(bad, key=lambda aside: aside.line))
        _check_bad_share(folder, set_aside, len(rows), max_bad_share)
        trained_on = sum(reading.splits[place] == "train" for place in reading.usable)
        _check_both_sides(folder, trained_on, len(reading.usable) - trained_on)
        frames = FrameSet(
            frames=reading.cached.frames,
            rois=reading.rois(image_size),
            subjects=tuple(reading.rows[place].subject for place in reading.usable),
            mm_per_px=reading.mm_per_px(image_size),
            stored_px=reading.cached.sizes / image_size,
        )
        return cls(frames[:trained_on], frames[trained_on:], set_aside, reading.fingerprint)


def open_site(folder: str | Path, image_size: int = 256, cache_dir: str | Path | None = None) -> SiteData:
    """A hospital's frames and ROIs at the model's size, divided into training and validation by subject.

    Args:
        folder: with `manifest.csv` and its images, as docs/DATA.md has it; may be read-only.
        image_size: side of the model's square frame, px.
        cache_dir: where decoded frames are kept; None for the user's own cache.

    Raises:
        DataError: the folder is no site, or a frame of it cannot be used.
    """
    return SiteData.open(Path(folder), image_size=image_size, cache_dir=Path(cache_dir or default_cache_dir()))


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
