"""Decoded frames on disk: one file a site, named by its content, read through a memory map.

frames    uint8 [K, S, S]
notes     JSON: size, place and pixel size of these K frames as stored, and why the others are missing
trailer   length of the notes (8 bytes, little-endian), SHA-256 of all before itself (32 bytes)

A cache may be deleted at any time. It holds pictures of patients: folders are made with mode 0700, files with 0600.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from roiae.errors import DataError, Fault

FORMAT_VERSION = 3
_LENGTH_BYTES = 8
_SEAL_BYTES = 32


@dataclass(frozen=True)
class Decoded:
    """A frame resized to the model's square, and how it was stored."""

    pixels: NDArray[np.uint8]  # [S, S]
    size: tuple[int, int]  # width, height before it was resized
    origin: tuple[int, int] = (0, 0)  # x, y px of its first pixel in the stored picture
    mm_per_px: tuple[float, float] | None = None  # before it was resized, where its file says so


@dataclass(frozen=True)
class Unusable:
    """Why there is no frame."""

    fault: Fault
    reason: str


@dataclass(frozen=True)
class CachedFrames:
    """The K frames of a site that could be decoded, in the order they were given."""

    frames: NDArray[np.uint8]  # [K, S, S], memory-mapped, read-only
    sizes: NDArray[np.int64]  # [K, 2], width and height before they were resized
    origins: NDArray[np.int64]  # [K, 2], x and y px of the first pixel in the stored picture
    mm_per_px: NDArray[np.float64]  # [K, 2], before they were resized; nan where the file does not say
    reasons: dict[int, Unusable]  # place in the order given → why there is no frame


def default_cache_dir() -> Path:
    """`$ROIAE_CACHE`, else `$XDG_CACHE_HOME/roiae`, else `~/.cache/roiae`.

    Raises:
        DataError: there is none of these, as for a service's user without a home.
    """
    if own := os.environ.get("ROIAE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "roiae"
    try:
        return Path.home() / ".cache" / "roiae"
    except RuntimeError:
        raise DataError("this user has no home for the cache of decoded frames. Set ROIAE_CACHE to a folder.") from None


def cached_frames(cache_dir: Path, key: str, side: int, decode: Iterable[Decoded | Unusable]) -> CachedFrames:
    """The frames kept under `key`; where they are missing, torn or corrupt, `decode` is consumed and kept.

    Args:
        cache_dir: made where it is missing.
        key: names the content: what `decode` gives may depend on nothing else.
        side: S, in pixels.
        decode: gives each frame, or why there is none.

    Raises:
        DataError: the cache cannot be read or written.
    """
    path = cache_dir / f"{key}.frames"
    try:
        cached = _load(path, side)
        if cached is None:
            _make_private(cache_dir)
            with FileLock(path.with_suffix(".lock"), mode=0o600):  # a second process waits, and finds it done
                cached = _load(path, side) or _store(path, side, decode)
    except OSError as error:
        raise DataError(
            f"{path}: the cache of decoded frames cannot be kept ({error.strerror}). "
            "Make room or give it another folder: set ROIAE_CACHE to one that is yours to write."
        ) from error
    return cached


def _load(path: Path, side: int) -> CachedFrames | None:
    """The frames in a whole cache file; None where it is missing, torn or corrupt."""
    if not path.is_file() or path.stat().st_size < _LENGTH_BYTES + _SEAL_BYTES:
        return None
    content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    body, seal = content[:-_SEAL_BYTES], content[-_SEAL_BYTES:]
    if hashlib.sha256(body.data).digest() != seal.tobytes():
        return None
    length = int.from_bytes(body[-_LENGTH_BYTES:].tobytes(), "little")
    pixels = body[: -_LENGTH_BYTES - length]
    notes = json.loads(body[len(pixels) : -_LENGTH_BYTES].tobytes())
    return CachedFrames(
        frames=pixels.reshape(-1, side, side),
        sizes=np.array(notes["sizes"], dtype=np.int64).reshape(-1, 2),
        origins=np.array(notes["origins"], dtype=np.int64).reshape(-1, 2),
        mm_per_px=np.array(notes["mm_per_px"], dtype=np.float64).reshape(-1, 2),
        reasons={int(place): Unusable(Fault(fault), why) for place, (fault, why) in notes["reasons"].items()},
    )


def _store(path: Path, side: int, decode: Iterable[Decoded | Unusable]) -> CachedFrames:
    partial = path.with_suffix(".partial")
    try:
        partial.touch(mode=0o600)
        with partial.open("wb") as file:
            seal = hashlib.sha256()
            for block in _blocks(decode):
                seal.update(block)
                file.write(block)
            file.write(seal.digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    stored = _load(path, side)
    if stored is None:
        raise DataError(f"{path}: what was written reads back differently; check this disk.")
    return stored


def _blocks(decode: Iterable[Decoded | Unusable]) -> Iterator[bytes]:
    kept: list[Decoded] = []  # without their pixels
    reasons: dict[int, tuple[Fault, str]] = {}
    for place, decoded in enumerate(decode):
        if isinstance(decoded, Unusable):
            reasons[place] = (decoded.fault, decoded.reason)
        else:
            yield decoded.pixels.tobytes()
            kept.append(replace(decoded, pixels=np.empty(0, np.uint8)))
    notes = json.dumps(
        {
            "sizes": [decoded.size for decoded in kept],
            "origins": [decoded.origin for decoded in kept],
            "mm_per_px": [decoded.mm_per_px or (None, None) for decoded in kept],
            "reasons": reasons,
        }
    ).encode()
    yield notes
    yield len(notes).to_bytes(_LENGTH_BYTES, "little")


def _make_private(folder: Path) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):  # mkdir(parents=True) would give the parents the umask's mode
        place.mkdir(mode=0o700, exist_ok=True)
