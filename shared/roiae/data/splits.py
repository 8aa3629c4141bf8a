"""Training and validation, divided by subject."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from roiae.data.manifest import ManifestRow
from roiae.errors import ManifestError

Split = Literal["train", "validation"]


def split_of(subject: str, validation_share: float = 0.2) -> Split:
    """The side a subject falls on: a function of its id alone, so that adding a frame moves no other.

    Args:
        subject: the id as the manifest writes it.
        validation_share: expected share of the subjects that validate, in [0, 1].
    """
    position = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2**64
    return "validation" if position < validation_share else "train"


def assign_splits(manifest: Path, rows: Sequence[ManifestRow], validation_share: float) -> list[Split]:
    """The side of each row. A split that the manifest states for any row of a subject holds for all of its rows.

    Raises:
        ManifestError: the manifest puts a subject on both sides.
    """
    stated = stated_splits(rows)
    for subject, lines in stated.items():
        if len(lines) > 1:
            sides = ", ".join(f"{side} in line {_listed(lines[side])}" for side in sorted(lines))
            raise ManifestError(
                f"{manifest}:{min(map(min, lines.values()))}: subject {subject!r} is on both sides: {sides}. "
                "A subject belongs wholly to train or to validation; correct the column 'split'."
            )
    return [
        cast(Split, next(iter(stated[row.subject])))
        if row.subject in stated
        else split_of(row.subject, validation_share)
        for row in rows
    ]


def stated_splits(rows: Sequence[ManifestRow]) -> dict[str, dict[str, list[int]]]:
    """Subject → side → the lines that state it, for the subjects of which a row states a side."""
    stated: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    for row in rows:
        if row.split is not None:
            stated[row.subject].setdefault(row.split, []).append(row.line)
    return dict(stated)


def _listed(lines: Sequence[int], most: int = 5) -> str:
    listed = ", ".join(map(str, lines[:most]))
    return listed if len(lines) <= most else f"{listed} and {len(lines) - most} more"
