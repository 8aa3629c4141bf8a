"""Every frame that a manifest lists: from the cache where that holds it, and why some cannot be used."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roiae.data.cache import FORMAT_VERSION, CachedFrames, Decoded, Unusable, cached_frames
from roiae.data.frames import read_frame, square_frame
from roiae.data.geometry import resize_boxes
from roiae.data.manifest import ManifestRow
from roiae.data.pixels import Box, Frame
from roiae.data.splits import Split
from roiae.errors import Fault, FrameError

_DECODERS = ("pillow", "pydicom", "pylibjpeg-openjpeg", "pyjpegls")  # another version may give other pixels


@dataclass(frozen=True)
class Reading:
    """A site's rows, training first and otherwise in the manifest's order, and the frames of those that can be used."""

    rows: tuple[ManifestRow, ...]
    splits: tuple[Split, ...]
    cached: CachedFrames
    fingerprint: str  # SHA-256 of images, boxes, subjects, splits and pixel sizes, wherever the folder lies

    @property
    def usable(self) -> list[int]:
        """Places of the rows that have a frame, in the order of `cached.frames`."""
        return [place for place in range(len(self.rows)) if place not in self.cached.reasons]

    def rois(self, side: int) -> NDArray[np.int64]:
        """[K, 4] boxes of the usable rows in pixels of the resized frames, end exclusive."""
        boxes = np.array([self.rows[place].box for place in self.usable], dtype=np.int64).reshape(-1, 4)
        return resize_boxes(boxes - np.tile(self.cached.origins, 2), self.cached.sizes, side)

    def mm_per_px(self, side: int) -> NDArray[np.float64]:
        """[K, 2] pixel sizes of the resized frames: the manifest's, else the file's own; nan where neither says."""
        rows = [self.rows[place].mm_per_px or (np.nan, np.nan) for place in self.usable]
        stated = np.array(rows, dtype=np.float64).reshape(-1, 2)
        stored = np.where(np.isnan(stated), self.cached.mm_per_px, stated)
        return stored * self.cached.sizes / side


def read_site(
    rows: Sequence[ManifestRow],
    splits: Sequence[Split],
    *,
    image_size: int,
    cache_dir: Path,
    on_frame: Callable[[int, int], None] | None = None,
) -> Reading:
    """Decode what the cache lacks. Writes to the cache alone.

    Args:
        rows: of the manifest.
        splits: the side of each row.
        image_size: S, the side of the model's square, in pixels.
        cache_dir: where decoded frames are kept, outside the site's folder.
        on_frame: called after each decoded frame with the frames done and the frames in all.

    Raises:
        DataError: the cache cannot be kept.
    """
    # Training first, so that each split is one slice of the memory map.
    pairs = sorted(zip(rows, splits, strict=True), key=lambda pair: pair[1] == "validation")
    digests = {image: _file_digest(image) for image in dict.fromkeys(row.image for row in rows)}
    fingerprint = digest([[digests[r.image], r.frame, r.box, r.subject, split, r.mm_per_px] for r, split in pairs])
    ordered = tuple(row for row, _ in pairs)
    key = digest([FORMAT_VERSION, _decoder_versions(), image_size, fingerprint])
    cached = cached_frames(cache_dir, key, image_size, _decode(ordered, image_size, on_frame))
    return Reading(ordered, tuple(split for _, split in pairs), cached, fingerprint)


def check_box(box: Box, frame: Frame) -> None:
    """Refuse a box that its frame does not hold.

    Args:
        box: x0, y0, x1, y1 in pixels of the stored picture, end exclusive.

    Raises:
        FrameError: it holds no pixel, or lies outside the frame; the fault says whether swapped axes explain that.
    """
    x0, y0, x1, y1 = box
    height, width = frame.pixels.shape
    if x0 >= x1 or y0 >= y1:
        raise FrameError(
            f"ROI {box} holds no pixel. Boxes are x0,y0,x1,y1 with x0 < x1 and y0 < y1, end exclusive.",
            Fault.ROI_DEGENERATE,
        )
    if _inside(box, frame):
        return
    part = f"the frame ({width}×{height} px)"
    if frame.origin != (0, 0):
        part = f"the ultrasound region ({width}×{height} px from {frame.origin})"
    raise FrameError(
        f"ROI {box} lies outside {part}. "
        "Boxes are x0,y0,x1,y1 in pixels of the stored frame; check whether rows and columns were swapped.",
        Fault.ROI_SWAPPED if _inside((y0, x0, y1, x1), frame) else Fault.ROI_OUTSIDE,
    )


def _inside(box: Box, frame: Frame) -> bool:
    (left, top), (height, width) = frame.origin, frame.pixels.shape
    x0, y0, x1, y1 = box
    return left <= x0 and top <= y0 and x1 <= left + width and y1 <= top + height


def _decode(
    rows: Sequence[ManifestRow], side: int, on_frame: Callable[[int, int], None] | None
) -> Iterator[Decoded | Unusable]:
    for done, row in enumerate(rows, start=1):
        try:
            frame = read_frame(row.image, row.frame).holding(row.box)
            check_box(row.box, frame)
            height, width = frame.pixels.shape
            yield Decoded(square_frame(frame.pixels, side), (width, height), frame.origin, frame.mm_per_px)
        except FrameError as error:
            # The cache outlives the folder's place, so its path is left out.
            yield Unusable(error.fault, str(error).removeprefix(f"{row.image}: "))
        if on_frame is not None:
            on_frame(done, len(rows))


def _decoder_versions() -> dict[str, str]:
    versions = {}
    for name in _DECODERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _file_digest(path: Path) -> str:
    """SHA-256 of a file; nothing where it cannot be read, which decoding then explains."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def digest(content: object) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
