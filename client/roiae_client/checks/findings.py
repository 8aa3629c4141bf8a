"""The findings of a check: their codes, how grave they are, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass

from roiae.console.doctor import Level
from roiae.data.manifest import MANIFEST

_FIRST = 5


@dataclass(frozen=True)
class Rule:
    """What a code stands for."""

    level: Level  # of a finding with this code
    means: str
    remedy: str


RULES = {
    "manifest": Rule(Level.FAIL, "the table, or a row of it, says something impossible", "mend the lines named"),
    "unreadable": Rule(
        Level.FAIL, "missing, truncated or no image that can be read", "export the frame again, or remove its row"
    ),
    "no-decoder": Rule(
        Level.FAIL, "compressed in a way that no installed decoder reads", "pip install 'roiae[dicom]', or convert it"
    ),
    "bit-depth": Rule(
        Level.FAIL, "a pixel type of unknown scale, or few bits in a larger type", "export 8-bit PNG, or stretch it"
    ),
    "orientation": Rule(
        Level.FAIL,
        "a tag that turns or mirrors the picture",
        "turn the pixels, remove the tag, and turn the box likewise",
    ),
    "constant": Rule(Level.FAIL, "all pixels are nearly the same", "export the frame again, or remove its row"),
    "dark": Rule(Level.WARN, "the brightest pixels stay below half of white", "look at how it was exported"),
    "low-contrast": Rule(Level.WARN, "the grey levels lie within a third of the range", "look at how it was exported"),
    "negative": Rule(
        Level.FAIL, "grey levels that are those of the site's other frames turned round", "invert the frame"
    ),
    "duplicate": Rule(Level.WARN, "the very same pixels twice for one subject", "remove one row"),
    "duplicate-across-subjects": Rule(
        Level.FAIL, "the very same pixels under two subjects", "give both rows the right subject, or remove one"
    ),
    "duplicate-across-splits": Rule(
        Level.FAIL, "the very same pixels in training and validation", "give both rows the right subject, or remove one"
    ),
    "near-duplicate-across-subjects": Rule(
        Level.WARN, "nearly the same picture under two subjects", "see whether they are one woman"
    ),
    "near-duplicate-across-splits": Rule(
        Level.WARN, "nearly the same picture in training and validation", "see whether they are one woman"
    ),
    "subject-across-splits": Rule(
        Level.FAIL, "a subject that the table puts on both sides", "correct the column split"
    ),
    "split-empty": Rule(Level.FAIL, "no frame to train on, or none to validate on", "add subjects, or state splits"),
    "roi-outside": Rule(Level.FAIL, "a box that leaves its frame or ultrasound region", "correct the box"),
    "roi-degenerate": Rule(Level.FAIL, "a box that holds no pixel", "correct the box: x0 < x1, y0 < y1"),
    "roi-swapped": Rule(
        Level.FAIL, "a box that fits, or fits the others, with rows and columns exchanged", "exchange x and y"
    ),
    "roi-scaled": Rule(
        Level.FAIL,
        "a box that fits the others when it is multiplied by one factor",
        "scale the box: it was drawn on a picture of another size",
    ),
    "roi-small": Rule(
        Level.WARN, "fewer than 5 rows at the model's size", "use a larger model.image_size, or crop the frames"
    ),
    "roi-unlikely": Rule(Level.WARN, "far from this site's other boxes in size or place", "look at it in check.html"),
    "header-identity": Rule(
        Level.WARN,
        "a DICOM header with attributes that name a patient (PS3.15, table E.1-1)",
        "roiae-client import writes pixels alone; to keep DICOM, dcmodify of DCMTK: dcmodify -ea NAME FILE for each",
    ),
    "burned-in": Rule(Level.WARN, "a DICOM header that says text is burned in", "look at it in check.html"),
    "identity-not-removed": Rule(
        Level.WARN,
        "a DICOM header without PatientIdentityRemoved YES",
        "de-identify the files; where it was done: dcmodify -i PatientIdentityRemoved=YES FILE",
    ),
    "text": Rule(Level.WARN, "bands that look like text on dark ground", "see that none is a name; cover what is"),
    "overlay": Rule(
        Level.WARN,
        "text, bars, rulers or borders of insets at one place in most frames",
        "crop the frames to the echoes: a model may know the scanner by the rest",
    ),
    "calipers": Rule(
        Level.WARN, "dots sharper than echoes at a quarter of the ROIs or more", "use frames without calipers"
    ),
    "few-to-train": Rule(
        Level.WARN,
        "fewer training frames or subjects than this site trains on: it would refuse",
        "add frames, or look at limits.min_frames and limits.min_subjects",
    ),
    "few-to-evaluate": Rule(
        Level.WARN,
        "fewer frames or subjects to measure on than this site gives a number of: it would refuse every evaluation, "
        "without which a run cannot end",
        "add frames, raise validation_share, or look at limits.min_frames and limits.min_subjects",
    ),
    "few-frames": Rule(
        Level.WARN, "fewer validation frames than scores are given of", "add frames: privacy.min_scored_frames"
    ),
    "few-subjects": Rule(
        Level.WARN, "fewer training subjects than a shift statistic needs", "add subjects: privacy.min_subjects"
    ),
}


@dataclass(frozen=True)
class CheckFinding:
    """What one rule found. Lines are all that `as_json` tells: notes may name a file and stay on this machine."""

    code: str
    count: int = 0
    lines: tuple[int, ...] = ()  # of the manifest, from 1
    notes: tuple[str, ...] = ()
    set_aside: bool = False  # a run goes on without these frames, as max_bad_share allows

    @property
    def level(self) -> Level:
        if not self.count:
            return Level.PASS
        return Level.WARN if self.set_aside else RULES[self.code].level

    @property
    def remedy(self) -> str:
        """What to do, one sentence or two."""
        aside = " Until then a run sets these frames aside, as max_bad_share allows." if self.set_aside else ""
        return f"{RULES[self.code].remedy}.{aside}"

    @property
    def first(self) -> list[str]:
        return [f"{MANIFEST}:{line}" for line in self.lines[:_FIRST]]

    def joined(self, other: "CheckFinding") -> "CheckFinding":
        """Both findings of one rule, which no line is in twice."""
        lines = tuple(sorted({*self.lines, *other.lines}))
        set_aside = all(finding.set_aside for finding in (self, other) if finding.count)
        return CheckFinding(self.code, self.count + other.count, lines, (*self.notes, *other.notes)[:_FIRST], set_aside)

    def as_json(self) -> dict[str, object]:
        return {"code": self.code, "level": self.level, "count": self.count, "first": self.first}


def at_lines(code: str, lines: Iterable[int], notes: Iterable[str] = ()) -> CheckFinding:
    """A finding of which each line of the manifest is one case."""
    sorted_lines = tuple(sorted(set(lines)))
    return CheckFinding(code, len(sorted_lines), sorted_lines, tuple(notes)[:_FIRST])


def in_order(found: Iterable[CheckFinding]) -> list[CheckFinding]:
    """One finding a rule that was looked at, the gravest first; a rule that found nothing passes."""
    by_code: dict[str, CheckFinding] = {}
    for finding in found:
        by_code[finding.code] = by_code.get(finding.code, CheckFinding(finding.code)).joined(finding)
    looked_at = [by_code[code] for code in RULES if code in by_code]
    return sorted(looked_at, key=lambda finding: (Level.FAIL, Level.WARN, Level.PASS).index(finding.level))
