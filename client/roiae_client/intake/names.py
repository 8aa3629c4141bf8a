"""Which file of the source a stated name means: never a guess between two.

A name is compared by its whole path first. Then one side may have folders in front that the other lacks; folders that
differ are a conflict, and never dropped from both. Then a known ending may be missing or another one, then the case may
differ, then a file may have nnU-Net's `_0000`. At each step one stated picture has to stand for one file, and one file
for one stated picture.
"""

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from roiae.errors import FrameError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".ima", ""})
# What exports of annotation tools call their own folders: such a folder says nothing of which frame is meant.
_PLAIN_FOLDERS = frozenset(
    {"annotations", "frames", "images", "imgs", "jpegimages", "labels", "masks", "segmentationclass"}
    | {"segmentationobject", "imagestr", "labelstr"}
)
_NEAREST_OF = 2000  # names that are looked through for one like a missing one
_NEAREST_FOR = 50  # missing names for which that is done: it is slow
Parts = tuple[str, ...]


def parts_of(name: str) -> Parts:
    """Folders and name, either kind of slash, composed Unicode, without a drive and what leads up."""
    path = re.sub(r"^[A-Za-z]:", "", unicodedata.normalize("NFC", name).replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return tuple(parts[len(parts) - parts[::-1].index("..") :] if ".." in parts else parts)


def without_ending(name: str, endings: Iterable[str] = SUFFIXES) -> str:
    """The name without one of the endings, whatever their case."""
    for ending in sorted(endings, key=len, reverse=True):
        if ending and name.casefold().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name


def plain_parts(name: str) -> Parts:
    """The parts of a name without the folders that say nothing of which frame is meant."""
    parts = parts_of(name)
    return (*(part for part in parts[:-1] if part.casefold() not in _PLAIN_FOLDERS), *parts[-1:])


def _folded(parts: Parts) -> Parts:
    return tuple(part.casefold() for part in _without_ending(parts))


def _without_ending(parts: Parts) -> Parts:
    return (*parts[:-1], *(without_ending(part) for part in parts[-1:]))


def _of_channel(parts: Parts) -> Parts:
    """Without the number of nnU-Net's first channel, and of its second, so that two channels are seen to be two."""
    *folders, name = _folded(parts)
    return (*folders, re.sub(r"_000[01]$", "", name))


_STEPS: tuple[Callable[[Parts], Parts], ...] = (lambda parts: parts, _without_ending, _folded)


_FOLDED = len(_STEPS) - 1


@dataclass(frozen=True)
class _Claim:
    file: str
    rank: tuple[int, int]  # (step, 0 where the whole path is equal): the smaller, the surer
    bare: bool  # nothing but the name itself was compared


class Names:
    """Stated names against the files of a source.

    Args:
        files: the source's, by their path below it.
        pictures: every picture that the boxes know, one entry each, so that two pictures of one name are seen.
    """

    def __init__(self, files: Sequence[str], pictures: Sequence[str]) -> None:
        self._files = files
        self._looked_near = 0
        self._stated = Counter(pictures)
        self._indexes = [_Index(files, step, step) for step in _STEPS]
        self._indexes.append(_Index(files, _of_channel, _folded))
        self._found: dict[str, _Claim | str] = {stated: self._look(stated) for stated in self._stated}
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for stated, claim in self._found.items():
            if isinstance(claim, _Claim):
                self._by_file[claim.file].append(stated)

    def find(self, stated: str) -> str:
        """The file that is meant.

        Raises:
            FrameError: none, or more than one file or picture could be; the nearest is named.
        """
        if self._stated[stated] > 1:
            raise FrameError(f"{self._stated[stated]} pictures of the boxes have this name; state their folders too.")
        claim = self._found.get(stated) or self._look(stated)
        if isinstance(claim, str):
            raise FrameError(claim)
        if claim.bare:
            self._check_alone(claim)
        rivals = [other for other in self._by_file[claim.file] if other != stated]
        surer = claim.rank == (0, 0) and all(self._rank(other) > (0, 0) for other in rivals)
        if rivals and not surer:
            raise FrameError(
                f"{claim.file!r} of the source could be this and {rivals[0]!r}, which the boxes name too; "
                "name the frames in both as they are in the source, folders and endings included."
            )
        return claim.file

    def _rank(self, stated: str) -> tuple[int, int]:
        claim = self._found[stated]
        assert isinstance(claim, _Claim)
        return claim.rank

    def _check_alone(self, claim: _Claim) -> None:
        """A bare name says which file only where no other file of that name is left over."""
        same = self._indexes[min(claim.rank[0], 1) * _FOLDED].ending_in(claim.file)
        left = [file for file in same if file != claim.file and not self._by_file.get(file)]
        if left:
            raise FrameError(f"{len(left) + 1} files of the source go by this name; state its folder too.")

    def _look(self, stated: str) -> _Claim | str:
        parts = parts_of(stated)
        if not parts:
            return "names no file."
        for number, index in enumerate(self._indexes):
            found, equal, compared = index.find(stated)
            if len(found) == 1:
                return _Claim(found[0], (number, 0 if equal else 1), compared == 1)
            if found:
                return f"{len(found)} files of the source go by this name; state its folder too."
        elsewhere = self._indexes[_FOLDED].ending_in(stated)
        if elsewhere:
            return (
                f"no such file in the source. The nearest is {elsewhere[0]!r}, and its folder is another: "
                "give the folder that both sides name as SOURCE, or name the frames as they are in it."
            )
        return "no such file in the source." + self._nearest(parts[-1])

    def _nearest(self, name: str) -> str:
        self._looked_near += 1
        if self._looked_near > _NEAREST_FOR:
            return ""
        near = difflib.get_close_matches(name, [parts_of(file)[-1] for file in self._files[:_NEAREST_OF]], 1)
        return f" The nearest is {near[0]!r}." if near else ""


class _Index:
    """The files of a source by the ends of their paths, compared in one way."""

    def __init__(
        self, files: Sequence[str], of_file: Callable[[Parts], Parts], of_stated: Callable[[Parts], Parts]
    ) -> None:
        self._step = of_stated
        self._raw: dict[Parts, list[str]] = defaultdict(list)
        self._whole: dict[Parts, list[str]] = defaultdict(list)
        self._ends: dict[Parts, list[str]] = defaultdict(list)
        for file in files:
            raw = parts_of(file)
            self._raw[of_file(raw)].append(file)
            plain = of_file(plain_parts(file))
            self._whole[plain].append(file)
            for start in range(len(plain)):
                self._ends[plain[start:]].append(file)

    def find(self, name: str) -> tuple[list[str], bool, int]:
        """The files that fit, whether by their whole path, and how many parts were compared."""
        if found := self._raw.get(self._step(parts_of(name))):
            return found, True, len(parts_of(name))
        plain = self._step(plain_parts(name))
        if found := self._whole.get(plain) or self._ends.get(plain):
            return found, False, len(plain)
        for start in range(1, len(plain)):
            if found := self._whole.get(plain[start:]):
                return found, False, len(plain) - start
        return [], False, 0

    def ending_in(self, name: str) -> list[str]:
        """The files of this name in any folder."""
        return self._ends.get(self._step(parts_of(name))[-1:], [])
