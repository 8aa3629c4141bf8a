"""Whether there is enough to learn from, and what a model could learn instead."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from roiae.config import PrivacyConfig
from roiae.data.manifest import ManifestRow
from roiae.data.splits import Split
from roiae_client.checks.facts import Facts
from roiae_client.checks.findings import CheckFinding, at_lines

_MOST = 0.5  # share of the frames that have a stroke at a pixel, which is then no anatomy
_OVERLAY_SHARE = 0.0005  # of the frame's pixels; 33 at 256 px, about two letters
_MANY_MARKED = 0.25  # share of the ROIs; of phantoms' fine speckle, at most a tenth is taken for a dot
_ENOUGH = 20  # frames among which a chance meeting of strokes is unlikely


@dataclass(frozen=True)
class Needed:
    """What has to stand behind anything that a site tells of its data."""

    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    train_frames: int = 0  # behind an update; 0 where the site trains nothing, or says nothing of it
    train_subjects: int = 0
    evaluate_frames: int = 0  # behind the quality that it tells; 0 where it says nothing of it
    evaluate_subjects: int = 0
    held_out: bool = False  # then all frames are measured, else those of the validation split


def enough(rows: Sequence[ManifestRow], splits: Sequence[Split], needed: Needed) -> Iterator[CheckFinding]:
    """Frames and subjects of the two splits, against what training, scores and shift statistics need."""
    sides = {
        side: [row for row, on in zip(rows, splits, strict=True) if on == side] for side in ("train", "validation")
    }
    subjects = len({row.subject for row in sides["train"]})
    counts = f"{len(sides['train'])} frames to train on and {len(sides['validation'])} to validate on"
    yield _of_the_site("split-empty", not sides["train"] or not sides["validation"], counts)
    yield _of_the_site(
        "few-to-train",
        len(sides["train"]) < needed.train_frames or subjects < needed.train_subjects,
        f"{len(sides['train'])} training frames of {subjects} subjects; "
        f"{needed.train_frames} frames and {needed.train_subjects} subjects are needed",
    )
    measured = list(rows) if needed.held_out else sides["validation"]
    of_subjects = len({row.subject for row in measured})
    yield _of_the_site(
        "few-to-evaluate",
        len(measured) < needed.evaluate_frames or of_subjects < needed.evaluate_subjects,
        f"{len(measured)} frames to measure on, of {of_subjects} subjects; "
        f"{needed.evaluate_frames} frames and {needed.evaluate_subjects} subjects are needed",
    )
    yield _of_the_site(
        "few-subjects",
        subjects < needed.privacy.min_subjects,
        f"{subjects} training subjects; {needed.privacy.min_subjects} are needed",
    )
    yield _of_the_site(
        "few-frames",
        len(sides["validation"]) < needed.privacy.min_scored_frames,
        f"{counts}; scores need {needed.privacy.min_scored_frames}",
    )


def overlay(rows: Sequence[ManifestRow], facts: Facts) -> Iterator[CheckFinding]:
    """Strokes at the same place in most frames, and dots at many ROIs; `rows` are those of `facts`."""
    if len(rows) < _ENOUGH:
        return
    fixed = int((facts.always_stroke > _MOST).sum())
    much = fixed > _OVERLAY_SHARE * facts.always_stroke.size
    yield _of_the_site("overlay", much, f"{fixed} pixels are a bright line in more than half of the frames")
    marked = [row.line for row, found in zip(rows, facts.marked, strict=True) if found]
    yield at_lines("calipers", marked if len(marked) >= _MANY_MARKED * len(rows) else ())


def _of_the_site(code: str, found: bool, note: str) -> CheckFinding:
    return CheckFinding(code, 1, notes=(note,)) if found else CheckFinding(code)
