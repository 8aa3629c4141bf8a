"""A whole look over one hospital's data, as a run would read them."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roiae.console.doctor import Level
from roiae.data.dicom import is_dicom, read_header
from roiae.data.manifest import MANIFEST, ManifestRow, survey_manifest
from roiae.data.reading import Reading, read_site
from roiae.data.splits import assign_splits
from roiae.errors import DataError, FrameError
from roiae_client.checks import boxes, fitness, integrity, privacy
from roiae_client.checks.facts import Facts, measure
from roiae_client.checks.findings import CheckFinding, at_lines, in_order
from roiae_client.checks.fitness import Needed

OnStep = Callable[[str, int, int], None]  # what is done, frames done, frames in all


@dataclass(frozen=True)
class Survey:
    """What was found, and what it was found in; no reading where the table cannot be read."""

    findings: list[CheckFinding]
    image_size: int
    reading: Reading | None = None
    facts: Facts | None = None  # of the usable frames, where there is one

    @property
    def passed(self) -> bool:
        """Whether nothing would stop a run."""
        return all(finding.level is not Level.FAIL for finding in self.findings)


def survey(
    folder: Path,
    *,
    image_size: int,
    cache_dir: Path,
    validation_share: float = 0.2,
    max_bad_share: float = 0.0,
    needed: Needed | None = None,
    on_step: OnStep | None = None,
) -> Survey:
    """Read every frame of a data folder and look for what would ruin a run. Writes to the cache alone.

    Args:
        folder: may be read-only.
        image_size: the side of the model's square, px.
        cache_dir: where decoded frames are kept, outside the folder.
        validation_share: expected share of the subjects that validate, where the manifest does not say.
        max_bad_share: share of the frames that a run sets aside because they cannot be used; up to it they are a WARN.
        needed: what has to stand behind what the site tells; None for the defaults.
        on_step: called with what is done, the frames done and the frames in all.

    Raises:
        DataError: no such folder, or the cache cannot be kept.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Expected a folder with {MANIFEST} and the images it lists.")
    try:
        rows, impossible = survey_manifest(folder)
    except DataError as error:
        return Survey(in_order([CheckFinding("manifest", 1, (1,), (str(error),))]), image_size)
    found = [at_lines("manifest", impossible, map(str, impossible.values()))]
    conflicts = integrity.on_both_sides(rows)
    found.append(at_lines("subject-across-splits", (line for lines in conflicts.values() for line in lines)))
    if not rows:
        return Survey(in_order(found), image_size)
    settled = [dataclasses.replace(row, split=None) if row.subject in conflicts else row for row in rows]
    reading = read_site(
        settled,
        assign_splits(folder / MANIFEST, settled, validation_share),
        image_size=image_size,
        cache_dir=cache_dir,
        on_frame=_step(on_step, "reading"),
    )
    facts = (
        measure(reading.cached.frames, reading.rois(image_size), _step(on_step, "looking")) if reading.usable else None
    )
    found += _on_rows(reading, max_bad_share, needed or Needed())
    if facts is not None:
        found += _on_frames(reading, facts, image_size)
    return Survey(in_order(found), image_size, reading, facts)


def _on_rows(reading: Reading, max_bad_share: float, needed: Needed) -> Iterator[CheckFinding]:
    yield from integrity.faulty(reading.rows, reading.cached.reasons, max_bad_share)
    yield from privacy.headers(reading.rows, _identities(reading.rows))
    usable = reading.usable
    yield from fitness.enough([reading.rows[at] for at in usable], [reading.splits[at] for at in usable], needed)


def _on_frames(reading: Reading, facts: Facts, image_size: int) -> Iterator[CheckFinding]:
    rows = [reading.rows[place] for place in reading.usable]
    splits = [reading.splits[place] for place in reading.usable]
    yield from integrity.flat(rows, facts)
    digests = [hashlib.sha256(frame.data).hexdigest() for frame in map(np.ascontiguousarray, reading.cached.frames)]
    yield from integrity.repeated(rows, splits, digests, facts.hashes)
    yield from boxes.unlike_the_others(rows, reading.cached.origins, reading.cached.sizes)
    yield boxes.small(rows, reading.rois(image_size))
    yield privacy.text(rows, facts)
    yield from fitness.overlay(rows, facts)


def _identities(rows: tuple[ManifestRow, ...]) -> dict[Path, privacy.Identity]:
    """Of the DICOM files among the rows' images; one that cannot be read at all is a finding already."""
    identities = {}
    for image in dict.fromkeys(row.image for row in rows):
        with contextlib.suppress(FrameError, OSError):
            if image.is_file() and is_dicom(image):
                identities[image] = privacy.identity_of(read_header(image))
    return identities


def _step(on_step: OnStep | None, name: str) -> Callable[[int, int], None] | None:
    return None if on_step is None else lambda done, total: on_step(name, done, total)
