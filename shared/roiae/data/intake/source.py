"""Where the frames come from: a folder or an archive. Names that boxes state are looked up in it, never opened."""

import os
import shutil
import stat
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from roiae.errors import DataError, FrameError

MAX_MEMBER_BYTES = 2**31
_BOMB_RATIO = 100  # of a member, or all of them, larger than _BOMB_BYTES; frames compress two to ten times
_BOMB_BYTES = 2**25
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".ima", ""})


@dataclass
class Source:
    """Files by their path below the source."""

    place: Path
    names: list[str]
    copy: Callable[[str, Path], None]  # one of the names, to a new file
    _by_key: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for name in self.names:
            path = PurePosixPath(name)
            for key in {name, path.name, path.stem}:
                self._by_key[key].append(name)

    def find(self, stated: str) -> str:
        """The name of the file that boxes call `stated`: by its path, its name, or its name without ending.

        Raises:
            FrameError: there is none, or more than one.
        """
        path = PureWindowsPath(stated)  # knows both kinds of slash
        for key in (path.as_posix(), path.name, path.stem):
            found = self._by_key.get(key, [])
            if len(found) == 1:
                return found[0]
            if found:
                raise FrameError(f"{len(found)} files of the source go by this name; state its folder too.")
        raise FrameError("no such file in the source.")

    def frames(self) -> list[str]:
        """Names that look like frames'."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in SUFFIXES]


def open_source(place: Path, without: Path) -> Source:
    """A folder, or a .zip archive.

    Args:
        without: a file or folder of boxes, which may lie in it and is no frame.

    Raises:
        DataError: it is neither, or the archive is broken, encrypted, a bomb, or reaches out of itself.
    """
    if place.is_dir():
        return _folder(place, without)
    if zipfile.is_zipfile(place):
        return _archive(place)
    raise DataError(f"{place}: neither a folder nor a .zip archive of frames.")


def _folder(root: Path, without: Path) -> Source:
    boxes = without.resolve()
    apart = boxes != root.resolve()  # tools put their files beside the frames
    names = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not (apart and (Path(parent) / name).resolve() == boxes))
        for name in sorted(files):
            path = Path(parent) / name
            if path.is_file() and not path.is_symlink() and path.resolve() != boxes and not name.startswith("."):
                names.append(path.relative_to(root).as_posix())
    return Source(root, names, lambda name, to: _copy_file(root / name, to))


def _copy_file(path: Path, to: Path) -> None:
    try:
        shutil.copyfile(path, to, follow_symlinks=False)
    except OSError as error:
        raise FrameError(f"cannot be copied ({error.strerror}).") from error


def _archive(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
        members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: the archive cannot be read ({error}).") from error
    for member in members.values():
        _check_member(path, member)
    total = sum(member.file_size for member in members.values())
    _check_ratio(path, "the archive", path.stat().st_size, total)  # small bombs, or members that share their bytes
    if total > shutil.disk_usage(path.parent).free:
        raise DataError(f"{path}: unpacks to {total} bytes, more than is free here.")
    names = [
        name for name in members if not PurePosixPath(name).name.startswith(".") and not name.startswith("__MACOSX")
    ]

    def copy(name: str, to: Path) -> None:
        try:
            with archive.open(members[name]) as packed, to.open("xb") as file:
                shutil.copyfileobj(packed, file)
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise FrameError(f"cannot be unpacked ({error}).") from error
        except Exception as error:  # zlib.error, lzma.LZMAError: each compression has its own
            raise FrameError(f"cannot be unpacked ({type(error).__name__}).") from error

    return Source(path, names, copy)


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = PureWindowsPath(member.filename)
    if name.drive or name.root or ".." in name.parts:
        raise DataError(f"{path}: a member's name leads out of the archive ({member.filename!r}). Do not unpack it.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{path}: a member is a symbolic link ({member.filename!r}); pack the files themselves.")
    if member.flag_bits & 1:
        raise DataError(f"{path}: is encrypted; unpack it first, and give the folder.")
    if member.file_size > MAX_MEMBER_BYTES:
        raise DataError(
            f"{path}: {member.filename!r} unpacks to {member.file_size} bytes; expected at most {MAX_MEMBER_BYTES}."
        )
    _check_ratio(path, repr(member.filename), member.compress_size, member.file_size)


def _check_ratio(path: Path, what: str, packed: int, unpacked: int) -> None:
    ratio = unpacked / max(packed, 1)
    if unpacked > _BOMB_BYTES and ratio > _BOMB_RATIO:
        raise DataError(f"{path}: refused as a zip bomb: {what} unpacks {ratio:.0f} to 1, to {unpacked} bytes.")
