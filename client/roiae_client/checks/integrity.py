"""Frames that cannot be used, or stand in the table more than once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from roiae.data.cache import Unusable
from roiae.data.manifest import ManifestRow
from roiae.data.splits import Split, stated_splits
from roiae.errors import Fault
from roiae_client.checks.facts import Facts
from roiae_client.checks.findings import CheckFinding, at_lines

_CONSTANT_SPREAD = 2.0  # grey levels; the darkest of 523 real frames has 29
_DARK = 128  # grey levels; pixels of 7 bits or fewer in 8 stay below
_LOW_CONTRAST = 80  # grey levels from the 1st to the 99th percentile; the least of 523 real frames has 135
_ENOUGH = 20  # frames that say what is usual at a site
_SURE = 2.0  # times nearer to the others when turned round
_NEAR_BITS = 32  # of 255; see facts.perceptual_hashes
_TABLE = 2**21  # distances that are in memory at a time
Pairs = Sequence[tuple[int, int]]
Labels = Sequence[object]  # one a frame


def faulty(rows: Sequence[ManifestRow], reasons: dict[int, Unusable], max_bad_share: float) -> Iterator[CheckFinding]:
    """Frames that could not be read, or whose box does not fit; a swapped box also counts as outside.

    Args:
        max_bad_share: share of the rows up to which a run sets such frames aside.
    """
    set_aside = len(reasons) / len(rows) <= max_bad_share
    by_code: dict[str, list[int]] = {fault: [] for fault in Fault}
    for place, unusable in reasons.items():
        by_code[unusable.fault].append(place)
        if unusable.fault is Fault.ROI_SWAPPED:
            by_code[Fault.ROI_OUTSIDE].append(place)
    for code, places in by_code.items():
        in_order = sorted(places, key=lambda place: rows[place].line)
        notes = [f"{rows[place].image.name}: {reasons[place].reason}" for place in in_order]
        yield replace(at_lines(code, (rows[place].line for place in places), notes), set_aside=set_aside)


def flat(rows: Sequence[ManifestRow], facts: Facts) -> Iterator[CheckFinding]:
    """Frames of one grey level, too dark, of few grey levels, or negatives; `rows` are those of `facts`."""
    constant = facts.spread < _CONSTANT_SPREAD
    dark = ~constant & (facts.brightest < _DARK)
    yield at_lines("constant", _lines(rows, constant))
    yield at_lines("dark", _lines(rows, dark))
    pale = facts.levels[:, -1] - facts.levels[:, 0] < _LOW_CONTRAST
    yield at_lines("low-contrast", _lines(rows, pale & ~constant & ~dark))
    yield at_lines("negative", _lines(rows, negatives(facts.levels) & ~constant))


def negatives(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[N] frames whose grey levels are those of the site's others turned round; none among fewer than `_ENOUGH`.

    Args:
        levels: [N, 5], rising percentiles that lie evenly round the middle one.
    """
    if len(levels) < _ENOUGH:
        return np.zeros(len(levels), dtype=np.bool_)
    usual = np.median(levels, axis=0)
    apart = np.abs(levels - usual).mean(axis=1)
    turned = np.abs(255 - levels[:, ::-1] - usual).mean(axis=1)
    found: NDArray[np.bool_] = _SURE * turned < apart
    return found


def identical_pairs(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Places of frames with the same digest: each with the first of its kind."""
    first: dict[str, int] = {}
    return [(first[digest], at) for at, digest in enumerate(digests) if first.setdefault(digest, at) != at]


def near_pairs(hashes: NDArray[np.bool_], digests: Labels, sides: Sequence[Labels]) -> list[list[tuple[int, int]]]:
    """Of N frames, each with the first that looks like it, is not the very same and lies on another side.

    One pair a frame at most, so that N frames that all look alike take the memory of N.

    Args:
        hashes: [N, 255]; two that differ in at most `_NEAR_BITS` look alike.
        digests: of the N frames' pixels.
        sides: what two frames have to differ in as well, such as their subjects; one list of pairs is given for each.
    """
    packed = np.packbits(np.pad(hashes, ((0, 0), (0, 1))), axis=1).view(np.uint64)
    contents = _numbered(digests)
    numbered = [_numbered(labels) for labels in sides]
    found: list[list[tuple[int, int]]] = [[] for _ in sides]
    block = _TABLE // max(len(packed), 1) + 1
    for start in range(0, len(packed), block):
        here = slice(start, start + block)
        differing = np.zeros((len(packed[here]), len(packed)), dtype=np.uint16)
        for word in range(packed.shape[1]):
            differing += np.bitwise_count(packed[here, word, None] ^ packed[None, :, word])
        alike = (differing <= _NEAR_BITS) & (contents[here, None] != contents)
        for pairs, labels in zip(found, numbered, strict=True):
            apart = alike & (labels[here, None] != labels)
            pairs += [(start + int(i), int(apart[i].argmax())) for i in np.flatnonzero(apart.any(axis=1))]
    return found


def repeated(
    rows: Sequence[ManifestRow], splits: Sequence[Split], digests: Sequence[str], hashes: NDArray[np.bool_]
) -> Iterator[CheckFinding]:
    """Frames that are in the table twice: within a subject, across subjects, across splits."""
    subjects = [row.subject for row in rows]
    identical = identical_pairs(digests)
    near_subjects, near_splits = near_pairs(hashes, digests, (subjects, splits))
    kinds = {
        "duplicate": [(i, j) for i, j in identical if subjects[i] == subjects[j]],
        "duplicate-across-subjects": [(i, j) for i, j in identical if subjects[i] != subjects[j]],
        "duplicate-across-splits": [(i, j) for i, j in identical if splits[i] != splits[j]],
        "near-duplicate-across-subjects": near_subjects,
        "near-duplicate-across-splits": near_splits,
    }
    for code, pairs in kinds.items():
        names = dict.fromkeys(tuple(sorted((rows[i].image.name, rows[j].image.name))) for i, j in pairs)
        notes = [" and ".join(pair) for pair in names]
        yield at_lines(code, (rows[place].line for pair in pairs for place in pair), notes)


def on_both_sides(rows: Sequence[ManifestRow]) -> dict[str, list[int]]:
    """Subjects that the table puts into training and into validation, with the lines that do."""
    return {
        subject: sorted(line for lines in sides.values() for line in lines)
        for subject, sides in stated_splits(rows).items()
        if len(sides) > 1
    }


def _numbered(labels: Labels) -> NDArray[np.int64]:
    """Equal numbers for equal labels."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _lines(rows: Sequence[ManifestRow], where: NDArray[np.bool_]) -> Iterable[int]:
    return (row.line for row, found in zip(rows, where, strict=True) if found)
