"""Frames that cannot be used, or stand in the table more than once."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from roiae.data.cache import Unusable
from roiae.data.checks.facts import Facts
from roiae.data.checks.findings import Finding, at_lines
from roiae.data.manifest import ManifestRow
from roiae.data.splits import Split, stated_splits
from roiae.errors import Fault

_CONSTANT_SPREAD = 2.0  # grey levels; the darkest of 523 real frames has 29
_DARK = 32  # grey levels
_NEAR_BITS = 32  # of 255; see facts.perceptual_hashes
_BLOCK = 256  # rows of the table of distances that are in memory at a time
Pairs = Sequence[tuple[int, int]]


def faulty(rows: Sequence[ManifestRow], reasons: dict[int, Unusable]) -> Iterator[Finding]:
    """Frames that could not be read, or whose box does not fit; a swapped box also counts as outside."""
    by_code: dict[str, list[int]] = {fault: [] for fault in Fault}
    for place, unusable in reasons.items():
        by_code[unusable.fault].append(place)
        if unusable.fault is Fault.ROI_SWAPPED:
            by_code[Fault.ROI_OUTSIDE].append(place)
    for code, places in by_code.items():
        in_order = sorted(places, key=lambda place: rows[place].line)
        notes = [f"{rows[place].image.name}: {reasons[place].reason}" for place in in_order]
        yield at_lines(code, (rows[place].line for place in places), notes)


def flat(rows: Sequence[ManifestRow], facts: Facts) -> Iterator[Finding]:
    """Frames of one grey level, and frames that are nearly black; `rows` are those of `facts`."""
    constant = facts.spread < _CONSTANT_SPREAD
    yield at_lines("constant", _lines(rows, constant))
    yield at_lines("dark", _lines(rows, ~constant & (facts.brightest < _DARK)))


def identical_pairs(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Places of frames with the same digest: each with the first of its kind."""
    first: dict[str, int] = {}
    return [(first[digest], at) for at, digest in enumerate(digests) if first.setdefault(digest, at) != at]


def near_pairs(hashes: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Places i < j of hashes [N, 255] that differ in at most `_NEAR_BITS`."""
    packed = np.packbits(np.pad(hashes, ((0, 0), (0, 1))), axis=1).view(np.uint64)
    found: list[tuple[int, int]] = []
    for start in range(0, len(packed), _BLOCK):
        block = packed[start : start + _BLOCK]
        differing = np.zeros((len(block), len(packed) - start), dtype=np.uint16)
        for word in range(packed.shape[1]):
            differing += np.bitwise_count(block[:, word, None] ^ packed[None, start:, word])
        found += [(start + int(i), start + int(j)) for i, j in np.argwhere(differing <= _NEAR_BITS) if i < j]
    return found


def repeated(rows: Sequence[ManifestRow], splits: Sequence[Split], identical: Pairs, near: Pairs) -> Iterator[Finding]:
    """Frames that are in the table twice: within a subject, across subjects, across splits."""
    same = set(identical)
    kinds: dict[str, list[tuple[int, int]]] = {
        "duplicate": [(i, j) for i, j in identical if rows[i].subject == rows[j].subject]
    }
    for prefix, pairs in (("duplicate", identical), ("near-duplicate", [pair for pair in near if pair not in same])):
        kinds[f"{prefix}-across-subjects"] = [(i, j) for i, j in pairs if rows[i].subject != rows[j].subject]
        kinds[f"{prefix}-across-splits"] = [(i, j) for i, j in pairs if splits[i] != splits[j]]
    for code, pairs in kinds.items():
        notes = [f"{rows[i].image.name} and {rows[j].image.name}" for i, j in pairs]
        yield at_lines(code, (rows[place].line for pair in pairs for place in pair), notes)


def on_both_sides(rows: Sequence[ManifestRow]) -> dict[str, list[int]]:
    """Subjects that the table puts into training and into validation, with the lines that do."""
    return {
        subject: sorted(line for lines in sides.values() for line in lines)
        for subject, sides in stated_splits(rows).items()
        if len(sides) > 1
    }


def _lines(rows: Sequence[ManifestRow], where: NDArray[np.bool_]) -> Iterable[int]:
    return (row.line for row, found in zip(rows, where, strict=True) if found)
