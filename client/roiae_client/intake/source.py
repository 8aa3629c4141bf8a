"""Where the frames come from: a folder or an archive. Names that boxes state are looked up in it, never opened."""

import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from roiae.errors import DataError, FrameError
from roiae_client.intake.masks import bare_name
from roiae_client.intake.names import SUFFIXES

MAX_MEMBER_BYTES = 2**31
_BOMB_RATIO = 100  # of a member, or all of them, larger than _BOMB_BYTES; frames compress two to ten times
_BOMB_BYTES = 2**25
_CHUNK = 2**20  # bytes
_UTF_8 = 0x800  # a member's flag: its name is UTF-8


@dataclass
class Source:
    """Files by their path below the source."""

    place: Path
    names: list[str]
    copy: Callable[[str, Path], None]  # one of the names, to a new file

    def frames(self) -> list[str]:
        """Names that look like frames': not what is named as another frame and `_mask` at its end."""
        known = {name.rpartition(".")[0].casefold() or name.casefold() for name in self.names}
        return [
            name
            for name in self.names
            if PurePosixPath(name).suffix.lower() in SUFFIXES and not _is_drawing(name, known)
        ]


def _is_drawing(name: str, known: set[str]) -> bool:
    stem = (name.rpartition(".")[0] or name).casefold()
    return bare_name(stem) != stem and bare_name(stem) in known


def open_source(place: Path, without: Path, to: Path) -> Source:
    """A folder, or a .zip archive.

    Args:
        without: a file or folder of boxes, which may lie in it and is no frame.
        to: the folder that is filled from it.

    Raises:
        DataError: it is neither, or the archive is broken, encrypted, a bomb, or reaches out of itself.
    """
    if place.is_dir():
        return _folder(place, without)
    if zipfile.is_zipfile(place):
        return _archive(place, to)
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


def target_error(to: Path, error: OSError) -> DataError:
    """What the place that is written to has; no frame can help it."""
    return DataError(
        f"{to}: cannot be written ({error.strerror or 'writing failed'}). Nothing was imported. "
        "Make room, or give --to a folder that is yours to write."
    )


def _copy_file(path: Path, to: Path) -> None:
    def chunks() -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise FrameError(f"cannot be read from the source ({error.strerror}).") from error

    _pour(chunks(), to)


def _pour(chunks: Iterator[bytes], to: Path) -> None:
    """Fill a new file. What is wrong with the source is a FrameError out of `chunks`, with the target a DataError."""
    try:
        with to.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise target_error(to, error) from error


def _archive(path: Path, to: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
        listed = [member for member in archive.infolist() if not member.is_dir()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: the archive cannot be read ({error}).") from error
    members: dict[str, zipfile.ZipInfo] = {}
    for member in listed:
        _check_member(path, member)
        if members.setdefault(_name_of(member), member) is not member:
            raise DataError(f"{path}: two members are called {_name_of(member)!r}; pack each frame under its own name.")
    total = sum(member.file_size for member in listed)
    _check_ratio(path, "the archive", path.stat().st_size, total)  # small bombs, or members that share their bytes
    there = next(folder for folder in (to, *to.absolute().parents) if folder.is_dir())
    if total > shutil.disk_usage(there).free:
        raise DataError(f"{path}: unpacks to {total} bytes, more than is free here.")
    names = [
        name for name in members if not PurePosixPath(name).name.startswith(".") and not name.startswith("__MACOSX")
    ]

    def chunks(name: str) -> Iterator[bytes]:
        try:
            with archive.open(members[name]) as packed:
                while chunk := packed.read(_CHUNK):
                    yield chunk
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise FrameError(f"cannot be unpacked ({error}).") from error
        except Exception as error:  # zlib.error, lzma.LZMAError: each compression has its own
            raise FrameError(f"cannot be unpacked ({type(error).__name__}).") from error

    return Source(path, names, lambda name, file: _pour(chunks(name), file))


def _name_of(member: zipfile.ZipInfo) -> str:
    """With slashes, as Windows may not write them, and as UTF-8, which some systems write without saying so."""
    name = member.filename.replace("\\", "/")
    if member.flag_bits & _UTF_8 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except ValueError:
        return name


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
